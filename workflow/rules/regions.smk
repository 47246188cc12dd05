# The preserved core, its blend band and the released square of every photograph. Photographs with text there are held back.


rule regions:
    input:
        photos="<shard>/photos.parquet",
        landmarks="<shard>/landmarks.parquet",
        models=ancient("<private>/models.json"),
    output:
        regions="<shard>/regions.parquet",
    log:
        "<logs>/regions/{shard}.log",
    benchmark:
        "<benchmarks>/regions/{shard}.tsv"
    priority: 2
    group:
        "prepare"
    conda:
        "../../envs/environment.yaml"
    threads: 1
    resources:
        mem_mb=more(4000),
        runtime=more(120),
    params:
        options=options("regions"),
        preserve=config["preserve"],
        weights=weights("text_detector", "text_reader"),
    shell:
        "deidlib regions --photos {input.photos:q} --landmarks {input.landmarks:q} --out {output.regions:q} "
        "--preserve {params.preserve} --options {params.options:q} "
        "> {log:q} 2>&1"
