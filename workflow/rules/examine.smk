# A part of the examination of a large release's images, which the audit rests on; the rule report examines a small one's itself.


rule examine:
    input:
        sums="<release>/SHA256SUMS",
    output:
        found="<parts>.examined/{part}.parquet",
    log:
        "<logs>/examine/{part}.log",
    benchmark:
        "<benchmarks>/examine/{part}.tsv"
    conda:
        "../../envs/environment.yaml"
    threads: 2
    resources:
        mem_mb=more(4000),
        runtime=more(120),
    params:
        folder=folder_of("release"),
        parts=parts_of_images,
    shell:
        "deidlib examine {params.folder:q} --part {wildcards.part} --of {params.parts} --out {output.found:q} "
        "> {log:q} 2>&1"
