# The outcome of each photograph of a shard: the attempt that would be released, or the reason why there is none. Made
# once, from the tables of all stages and attempts; later rules read it.


rule outcomes:
    input:
        plan=ancient("<private>/plan.json"),
        photos="<shard>/photos.parquet",
        landmarks="<shard>/landmarks.parquet",
        regions="<shard>/regions.parquet",
        donors=of_attempts("donors.parquet"),
        faces=of_attempts("faces.parquet"),
        blended=of_attempts("blended.parquet"),
        checks=of_attempts("checks.parquet"),
    output:
        outcomes="<shard>/outcomes.parquet",
    log:
        "<logs>/outcomes/{shard}.log",
    benchmark:
        "<benchmarks>/outcomes/{shard}.tsv"
    group:
        "embed"
    conda:
        "../../envs/environment.yaml"
    threads: 1
    resources:
        mem_mb=more(2000),
        runtime=more(60),
    params:
        settings=settings_of("attempts", "checks", "generator", "identity", "preset", "review", "reviewers"),
        made=made_attempts(),
        review=effect_of_review(),
    shell:
        "deidlib outcomes --plan {input.plan:q} --shard {wildcards.shard} --out {output.outcomes:q} "
        "--made {params.made} "
        "--config {params.settings:q} "
        "> {log:q} 2>&1"
