# Privacy against utility: inverts a sample of photographs with other preserved areas and other weights of the
# identity loss. For a sample of 0 photographs an empty list is written at once.


rule sweep:
    input:
        plan=ancient("<private>/plan.json"),
        photos=of_all_shards("photos.parquet"),
        landmarks=of_all_shards("landmarks.parquet"),
        regions=of_all_shards("regions.parquet"),
        donors=of_all_attempts("donors.parquet"),
        faces=of_all_attempts("faces.parquet"),
        outcomes=of_all_shards("outcomes.parquet"),
        embeddings=of_all_shards("embeddings.parquet"),
        models=ancient("<private>/models.json"),
    output:
        sweep="<private>/reid/sweep.json",
    log:
        "<logs>/sweep.log",
    benchmark:
        "<benchmarks>/sweep.tsv"
    conda:
        "../../envs/environment.yaml"
    threads: 8
    resources:
        mem_mb=more(8000),
        runtime=more(240),
        gpu=GPU,
    params:
        settings=settings_of(
            "generator",
            "preserve",
            "regions",
            "preset",
            "inversion",
            "reid",
        ),
        device=config["device"],
        preview=generator_file(preview_file),
        weights=weights(
            config["generator"],
            "stlpips",
            "face_landmarker",
            "yunet",
            *leading_models(),
            *recogniser_models(),
        ),
    shell:
        "deidlib sweep --plan {input.plan:q} --out {output.sweep:q} --device {params.device} --threads {threads} "
        "--config {params.settings:q} "
        "> {log:q} 2>&1"
