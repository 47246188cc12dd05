# Checks the whole sheet, then deals patients to shards. The shards' own tables (cohort.parquet) are no declared output,
# and are written only if their content changed, so a sheet that grew reruns only the shards that grew. Content decides,
# never dates: the rule depends on a digest of the sheet and of its files' states.


checkpoint plan:
    output:
        plan="<private>/plan.json",
    log:
        "<logs>/plan.log",
    benchmark:
        "<benchmarks>/plan.tsv"
    priority: 100
    conda:
        "../../envs/environment.yaml"
    threads: 1
    resources:
        mem_mb=more(4000),
        runtime=more(60),
    params:
        shards=config["shards"] or 0,
        key=KEY_CHECK,
        state=sheet_state,
        released=released_columns(),
    shell:
        # the preview of the sheet is shown on the terminal as well
        'deidlib plan "$DEIDLIB_SHEET" {output.plan:q} --shards {params.shards} --config {params.released:q} '
        "2>&1 | tee {log:q} >&2"
