# Decides the route of each photograph (deidlib.contract.routes), and measures 478 points, blendshapes, head pose and the
# alignment to the generator's frame where the route needs them.


rule landmarks:
    input:
        photos="<shard>/photos.parquet",
        models=ancient("<private>/models.json"),
    output:
        landmarks="<shard>/landmarks.parquet",
    log:
        "<logs>/landmarks/{shard}.log",
    benchmark:
        "<benchmarks>/landmarks/{shard}.tsv"
    priority: 1
    group:
        "prepare"
    conda:
        "../../envs/environment.yaml"
    threads: 1
    resources:
        mem_mb=more(4000),
        runtime=more(120),
    params:
        options=options("landmarks"),
        views=options("views"),
        weights=weights("face_landmarker", "yunet"),
    shell:
        "deidlib landmarks --photos {input.photos:q} --out {output.landmarks:q} --options {params.options:q} "
        "--views {params.views:q} "
        "> {log:q} 2>&1"
