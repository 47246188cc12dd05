# Chooses a synthetic identity for every photograph that this attempt handles. Attempt 0 handles all photographs of the
# shard; later attempts handle those that failed the gate before: with the same donor, and if that fails too with another
# one. Attempts beyond the configured number handle those for which a reviewer asked for another face.


rule donors:
    input:
        photos="<shard>/photos.parquet",
        landmarks="<shard>/landmarks.parquet",
        regions="<shard>/regions.parquet",
        before=attempt_before,
        models=ancient("<private>/models.json"),
    output:
        donors="<attempt>/donors.parquet",
    log:
        "<logs>/donors/{shard}.attempt-{attempt}.log",
    benchmark:
        "<benchmarks>/donors/{shard}.attempt-{attempt}.tsv"
    priority: 3
    group:
        donors_group
    conda:
        "../../envs/environment.yaml"
    threads: 2
    resources:
        mem_mb=more(4000),
        runtime=more(120),
    params:
        options=options("donors"),
        identity=config["identity"],
        generator=config["generator"],
        requested=requested_option(),
        key=KEY_CHECK,
        bank=generator_file(bank_file),
        weights=weights(config["generator"], "sface", "yunet", "age_net", "gender_net"),
    shell:
        "deidlib donors choose {input.before:q} --photos {input.photos:q} --landmarks {input.landmarks:q} "
        "--regions {input.regions:q} --out {output.donors:q} --attempt {wildcards.attempt} "
        "{params.requested} "
        "--identity {params.identity} --generator {params.generator} --threads {threads} --options {params.options:q} "
        "> {log:q} 2>&1"
