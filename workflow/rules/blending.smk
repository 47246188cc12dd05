# The generated face in the photograph's own pixel grid, the preserved core bit-exact; at attempt 0 also the
# photographs that need no generated face.


rule blending:
    input:
        photos="<shard>/photos.parquet",
        landmarks="<shard>/landmarks.parquet",
        regions="<shard>/regions.parquet",
        faces="<attempt>/faces.parquet",
    output:
        blended="<attempt>/blended.parquet",
    log:
        "<logs>/blending/{shard}.attempt-{attempt}.log",
    benchmark:
        "<benchmarks>/blending/{shard}.attempt-{attempt}.tsv"
    priority: 5
    group:
        "judge"
    conda:
        "../../envs/environment.yaml"
    threads: 1
    resources:
        mem_mb=more(4000),
        runtime=more(120),
    params:
        options=options("blending"),
    shell:
        "deidlib blend --photos {input.photos:q} --landmarks {input.landmarks:q} "
        "--regions {input.regions:q} --faces {input.faces:q} --out {output.blended:q} "
        "--attempt {wildcards.attempt} --options {params.options:q} "
        "> {log:q} 2>&1"
