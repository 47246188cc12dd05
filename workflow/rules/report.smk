# The audit: cohort flow, privacy and fidelity figures, models, configuration, a gallery of released images.


rule report:
    input:
        plan=ancient("<private>/plan.json"),
        sums="<release>/SHA256SUMS",
    output:
        html=report("<report>/audit.html", caption="../report/audit.rst", category="Audit"),
        json=report("<report>/audit.json", caption="../report/figures.rst", category="Audit"),
    log:
        "<logs>/report.log",
    benchmark:
        "<benchmarks>/report.tsv"
    conda:
        "../../envs/environment.yaml"
    threads: 1
    resources:
        mem_mb=more(4000),
        runtime=more(240),
    params:
        settings=published_settings(),
    shell:
        "deidlib report --plan {input.plan:q} --release $(dirname {input.sums:q}) "
        "--out $(dirname {output.html:q}) --config {params.settings:q} "
        "> {log:q} 2>&1"
