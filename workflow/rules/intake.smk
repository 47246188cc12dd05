# Decodes the photographs of a shard, drops their metadata, gives pseudonyms, rejects what cannot be vouched
# for. The sheet itself is only asked for its folder: what changed in it is in the shard's own table.


rule intake:
    input:
        cohort=cohort_of_shard,
        sheet=ancient(sheet),
    output:
        photos="<shard>/photos.parquet",
    log:
        "<logs>/intake/{shard}.log",
    benchmark:
        "<benchmarks>/intake/{shard}.tsv"
    group:
        "prepare"
    conda:
        "../../envs/environment.yaml"
    threads: 1
    resources:
        mem_mb=more(4000),
        runtime=more(120),
    params:
        options=options("intake"),
        key=KEY_CHECK,
    shell:
        "deidlib intake --cohort {input.cohort:q} --sheet {input.sheet:q} --out {output.photos:q} "
        "--options {params.options:q} "
        "> {log:q} 2>&1"
