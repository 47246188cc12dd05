# A part of the searches among all originals, for cohorts whose searches one job could not do in good time; in others the rule
# reid does them itself, and this one has no job.


rule search:
    input:
        plan=ancient("<private>/plan.json"),
        digests="<private>/reid/embeddings.json",
        gallery=searches_of_the_gallery,
    output:
        numbers="<private>/reid/searches/{part}.parquet",
    log:
        "<logs>/search/{part}.log",
    benchmark:
        "<benchmarks>/search/{part}.tsv"
    conda:
        "../../envs/environment.yaml"
    threads: 4
    resources:
        mem_mb=for_photos(20, least=16000),
        runtime=more(240),
    params:
        settings=settings_of("generator", "reid"),
        parts=parts_of_search,
        bank=generator_file(bank_file),
        weights=weights(*recogniser_models()),
    shell:
        "deidlib search --plan {input.plan:q} --digests {input.digests:q} --part {wildcards.part} --of {params.parts} --out {output.numbers:q} "
        "--config {params.settings:q} "
        "> {log:q} 2>&1"
