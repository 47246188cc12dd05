# Decides whether there is a release, and of which photographs: by the outcomes, the release gate's verdict, and, if a
# review is required, the reviewers' decisions. A decision against a release does not fail this rule: the report states
# it, and the rule release then writes nothing and says why.


checkpoint decide:
    input:
        plan=ancient("<private>/plan.json"),
        outcomes=of_all_shards("outcomes.parquet"),
        attacks="<private>/reid/attacks.json",
    output:
        decision="<private>/decision.json",
        crosswalk="<private>/crosswalk.parquet",
        quarantine="<private>/quarantine.tsv",
    log:
        "<logs>/decide.log",
    benchmark:
        "<benchmarks>/decide.tsv"
    conda:
        "../../envs/environment.yaml"
    threads: 1
    resources:
        mem_mb=more(4000),
        runtime=more(120),
    params:
        settings=settings_of("attempts", "release", "review", "reviewers"),
        review=all_of_review(),
    shell:
        "deidlib decide --plan {input.plan:q} --attacks {input.attacks:q} --config {params.settings:q} "
        "> {log:q} 2>&1"
