# Whether there is a release, and of what: by the outcomes, the release gate's verdict, and where a review is required by
# what reviewers decided. A decision against a release is no failure of this rule: the report tells it, and the rule
# release then writes nothing and says why.


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
