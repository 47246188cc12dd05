# The audit: a summary for the review board, and the whole audit, each as a page and as a PDF; and every number as JSON. A
# newly analysed panel study reruns it. The reviewer's copy shows originals, so it stays in private/ and out of Snakemake's
# report.


rule report:
    input:
        plan=ancient("<private>/plan.json"),
        decision="<private>/decision.json",
        crosswalk="<private>/crosswalk.parquet",
        outcomes=of_all_shards("outcomes.parquet"),
        photos=of_all_shards("photos.parquet"),
        regions=of_all_shards("regions.parquet"),
        blended=of_all_attempts("blended.parquet"),
        sums=sums_of_the_release,
        examined=shared_examination,
        attacks="<private>/reid/attacks.json",
    output:
        summary=report("<report>/summary.html", caption="../report/summary.rst", category="Audit"),
        summary_pdf=report("<report>/summary.pdf", caption="../report/summary.rst", category="Audit"),
        html=report("<report>/audit.html", caption="../report/audit.rst", category="Audit"),
        pdf=report("<report>/audit.pdf", caption="../report/pdf.rst", category="Audit"),
        json=report("<report>/audit.json", caption="../report/figures.rst", category="Audit"),
        reviewer="<private>/reviewer.html",
    log:
        "<logs>/report.log",
    benchmark:
        "<benchmarks>/report.tsv"
    conda:
        "../../envs/environment.yaml"
    threads: 8
    resources:
        mem_mb=more(4000),
        runtime=more(240),
    params:
        settings=published_settings(audit=True),
        folder=folder_of("report"),
        release=option_of_the_release,
        panel=panel_results(),
        parts=parts_of_images,
    shell:
        "deidlib report --plan {input.plan:q} {params.release} "
        "--parts {params.parts} --attacks {input.attacks:q} --reviewer {output.reviewer:q} "
        "--out {params.folder:q} --config {params.settings:q} "
        "> {log:q} 2>&1"
