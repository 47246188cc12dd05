# Finds the latent code whose image agrees with the patient in the preserved area and with the donor elsewhere.


rule inversion:
    input:
        photos="<shard>/photos.parquet",
        landmarks="<shard>/landmarks.parquet",
        regions="<shard>/regions.parquet",
        donors="<attempt>/donors.parquet",
        models=ancient("<private>/models.json"),
    output:
        faces="<attempt>/faces.parquet",
    log:
        "<logs>/inversion/{shard}.attempt-{attempt}.log",
    benchmark:
        "<benchmarks>/inversion/{shard}.attempt-{attempt}.tsv"
    priority: 4
    conda:
        "../../envs/environment.yaml"
    threads: 8
    resources:
        mem_mb=more(10000),  # 0.7 GiB, and 1.0 for each of 8 photographs in work
        runtime=more(720),
        gpu=GPU,
    params:
        options=options("inversion"),
        generator=config["generator"],
        device=config["device"],
        preview=generator_file(preview_file),
        weights=weights(config["generator"], "stlpips", "face_landmarker", *leading_models()),
    shell:
        "deidlib invert --photos {input.photos:q} --landmarks {input.landmarks:q} "
        "--regions {input.regions:q} --donors {input.donors:q} --out {output.faces:q} "
        "--generator {params.generator} --device {params.device} --threads {threads} "
        "--options {params.options:q} "
        "> {log:q} 2>&1"
