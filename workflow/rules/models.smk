# Fetches and checks the weights once, on the machine that runs Snakemake; no stage downloads anything. The
# plan runs first, so that a mistake in the sheet is reported before a download.


rule models:
    input:
        plan=ancient("<private>/plan.json"),
    output:
        checksums="<private>/models.json",
    log:
        "<logs>/models.log",
    benchmark:
        "<benchmarks>/models.tsv"
    conda:
        "../../envs/environment.yaml"
    threads: 1
    resources:
        mem_mb=more(1000),
        runtime=more(60),
    params:
        weights=weights(),
    shell:
        "deidlib models fetch --checksums {output.checksums:q} > {log:q} 2>&1"
