# Writes the release of this version. The images are already encoded and checked in the shards' tables, so this rule only
# copies them. A release appears whole or not at all and is never changed afterwards, so Snakemake must not remove its
# checksums before the job (update). If the decision is against a release, the report is written first, and then this
# rule fails and says why.


rule release:
    input:
        plan=ancient("<private>/plan.json"),
        decision="<private>/decision.json",
        crosswalk="<private>/crosswalk.parquet",
        outcomes=of_all_shards("outcomes.parquet"),
        blended=of_all_attempts("blended.parquet"),
        images=shared_images,
        refusal=report_of_a_refusal,
    output:
        sums=update("<release>/SHA256SUMS"),
    log:
        "<logs>/release.log",
    benchmark:
        "<benchmarks>/release.tsv"
    conda:
        "../../envs/environment.yaml"
    threads: 8
    resources:
        mem_mb=more(8000),
        runtime=more(720),
    params:
        settings=published_settings(),
        folder=folder_of("release"),
        parts=parts_of_images,
    shell:
        "deidlib release --plan {input.plan:q} --out {params.folder:q} "
        "--threads {threads} --parts {params.parts} --config {params.settings:q} "
        "> {log:q} 2>&1"
