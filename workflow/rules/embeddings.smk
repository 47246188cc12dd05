# Recognisers' embeddings of a shard's photographs: the originals, and what would be released, whole and in parts.


rule embeddings:
    input:
        plan=ancient("<private>/plan.json"),
        photos="<shard>/photos.parquet",
        regions="<shard>/regions.parquet",
        outcomes="<shard>/outcomes.parquet",
        donors=of_attempts("donors.parquet"),
        blended=of_attempts("blended.parquet"),
        models=ancient("<private>/models.json"),
    output:
        embeddings="<shard>/embeddings.parquet",
    log:
        "<logs>/embeddings/{shard}.log",
    benchmark:
        "<benchmarks>/embeddings/{shard}.tsv"
    group:
        "embed"
    conda:
        "../../envs/environment.yaml"
    threads: 1
    resources:
        mem_mb=more(6000),
        runtime=more(240),
    params:
        settings=settings_of("generator", recognisers=True),
        weights=weights(
            "yunet", "face_landmarker", "age_net", "gender_net", config["generator"], *recogniser_models()
        ),
    shell:
        "deidlib embeddings --plan {input.plan:q} --shard {wildcards.shard} --out {output.embeddings:q} "
        "--config {params.settings:q} "
        "> {log:q} 2>&1"
