# A part of a large release's images: those of some shards, checked once more and copied. A small release has no such job: the
# rule release writes its images itself. The folder goes when the release is there.


rule images:
    input:
        plan=ancient("<private>/plan.json"),
        decision="<private>/decision.json",
        crosswalk="<private>/crosswalk.parquet",
        outcomes=of_part_of_shards("outcomes.parquet"),
        blended=of_attempts_of_part("blended.parquet"),
    output:
        folder=temp(directory("<parts>/{part}")),
    log:
        "<logs>/images/{part}.log",
    benchmark:
        "<benchmarks>/images/{part}.tsv"
    conda:
        "../../envs/environment.yaml"
    threads: 2
    resources:
        mem_mb=more(4000),
        runtime=more(120),
    params:
        settings=published_settings(),
        parts=parts_of_images,
    shell:
        "deidlib images --plan {input.plan:q} --part {wildcards.part} --of {params.parts} --out {output.folder:q} "
        "--threads {threads} --config {params.settings:q} "
        "> {log:q} 2>&1"
