# What passed the gates, under its version; below the release gate (attacks.json) nothing. The images lie encoded and
# checked in the shards' tables: this copies them. A release appears whole or not at all and is never changed
# afterwards, so Snakemake must not remove its checksums before the job (update). Crosswalk and quarantine
# list are written beside the plan also where nothing passed, and are no declared outputs: Snakemake would
# remove them when the job fails.


rule release:
    input:
        plan=ancient("<private>/plan.json"),
        photos=of_all_shards("photos.parquet"),
        landmarks=of_all_shards("landmarks.parquet"),
        regions=of_all_shards("regions.parquet"),
        donors=of_all_attempts("donors.parquet"),
        faces=of_all_attempts("faces.parquet"),
        blended=of_all_attempts("blended.parquet"),
        checks=of_all_attempts("checks.parquet"),
        attacks="<private>/reid/attacks.json",
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
        failure_report=f"{config['results']}/report/{config['version']}",
    shell:
        "deidlib release --plan {input.plan:q} --attacks {input.attacks:q} --out $(dirname {output.sums:q}) "
        "--failure-report {params.failure_report:q} --threads {threads} --config {params.settings:q} "
        "> {log:q} 2>&1"
