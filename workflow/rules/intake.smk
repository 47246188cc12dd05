# Decodes the photographs of a shard, drops their metadata, gives them pseudonyms, and quarantines those that cannot be
# decoded with certainty. The sheet (DEIDLIB_SHEET) is used only for its folder: changes of the sheet or its files are in
# the shard's own table, whose digest the plan holds. A mask that a reviewer drew replaces the sheet's.


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
