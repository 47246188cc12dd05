# Blends the generated face into the photograph's own pixel grid, with the core bit-exact. At attempt 0 it also makes the
# results that need no generated face.


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
        judge_group
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
