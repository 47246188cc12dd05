# Decodes the photographs of a shard, drops their metadata, gives pseudonyms, rejects what cannot be vouched
# for. Of the sheet itself (DEIDLIB_SHEET) only the folder is used: what changed in it, or in its files, is in the shard's own table,
# whose digest the plan holds. A mask that a reviewer drew counts in place of the sheet's.


rule intake:
    input:
        plan=ancient("<private>/plan.json"),
        cohort=ancient(cohort_of_shard),
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
        cohort=digest_of_cohort,
        masks=drawn_masks(),
        drawn=folder_of_drawn_masks(),
    shell:
        "deidlib intake --cohort {input.cohort:q} --out {output.photos:q} --options {params.options:q} {params.drawn} "
        "> {log:q} 2>&1"
