# The attacks on the photographs that would be released, over the whole cohort, and the release gate's verdict. A verdict
# against the release does not fail this rule: the rule release then writes nothing and says why.


rule reid:
    input:
        plan=ancient("<private>/plan.json"),
        outcomes=of_all_shards("outcomes.parquet"),
        photos=of_all_shards("photos.parquet"),
        landmarks=of_all_shards("landmarks.parquet"),
        regions=of_all_shards("regions.parquet"),
        donors=of_all_attempts("donors.parquet"),
        blended=of_all_attempts("blended.parquet"),
        embeddings=of_all_shards("embeddings.parquet"),
        searches=shared_searches,
        sweep="<private>/reid/sweep.json",
    output:
        attacks="<private>/reid/attacks.json",
    log:
        "<logs>/reid.log",
    benchmark:
        "<benchmarks>/reid.tsv"
    conda:
        "../../envs/environment.yaml"
    threads: 4
    resources:
        mem_mb=for_photos(60, least=16000),
        runtime=more(720),
    params:
        settings=settings_of("identity", "generator", "preserve", "preset", "reid", "release"),
        parts=parts_of_search,
        processes=processes_of_attacks,
        bank=generator_file(bank_file),
        weights=weights(*recogniser_models()),
    shell:
        "deidlib reid --plan {input.plan:q} --sweep {input.sweep:q} --out {output.attacks:q} "
        "--parts {params.parts} --processes {params.processes} "
        "--config {params.settings:q} "
        "> {log:q} 2>&1"
