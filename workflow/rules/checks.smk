# The gate: recognisers, face detectors, the core's pixels, survival of other pixels, metadata. It gives pass or fail, and
# the numbers.


rule checks:
    input:
        photos="<shard>/photos.parquet",
        regions="<shard>/regions.parquet",
        faces="<attempt>/faces.parquet",
        blended="<attempt>/blended.parquet",
        models=ancient("<private>/models.json"),
    output:
        checks="<attempt>/checks.parquet",
    log:
        "<logs>/checks/{shard}.attempt-{attempt}.log",
    benchmark:
        "<benchmarks>/checks/{shard}.attempt-{attempt}.tsv"
    priority: 6
    group:
        judge_group
    conda:
        "../../envs/environment.yaml"
    threads: 1
    resources:
        mem_mb=more(4000),
        runtime=more(120),
    params:
        options=options("checks"),
        weights=weights("face_landmarker", "sface", "yunet", "dlib_resnet", "text_detector", "text_reader"),
    shell:
        "deidlib check --photos {input.photos:q} --regions {input.regions:q} --faces {input.faces:q} "
        "--blended {input.blended:q} --out {output.checks:q} --options {params.options:q} "
        "> {log:q} 2>&1"
