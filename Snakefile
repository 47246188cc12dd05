"""From a sample sheet to a verified, de-identified release: one rule a stage (see config/README.md).

snakemake --cores 2 --config cohort=PATH/samples.tsv key_file=KEY
"""

from snakemake.utils import min_version

min_version("9.15")


configfile: f"{workflow.basedir}/config/config.yaml"


report: "workflow/report/workflow.rst"


include: "workflow/rules/common.smk"


pathvars:
    results=config["results"],
    private=f"{config['results']}/private",
    shard=f"{config['results']}/private/shards/{{shard}}",
    attempt=f"{config['results']}/private/shards/{{shard}}/attempt-{{attempt}}",
    release=f"{config['results']}/release/{config['version']}",
    report=f"{config['results']}/report/{config['version']}",
    logs=f"{config['results']}/logs",
    benchmarks=f"{config['results']}/logs/benchmarks",


wildcard_constraints:
    shard=r"s\d+",
    attempt=r"\d+",


localrules:
    all,
    plan,
    models,


# A later stage has a higher priority: shards that have begun go before those that have not.
include: "workflow/rules/plan.smk"
include: "workflow/rules/models.smk"
include: "workflow/rules/intake.smk"
include: "workflow/rules/landmarks.smk"
include: "workflow/rules/regions.smk"
include: "workflow/rules/donors.smk"
include: "workflow/rules/inversion.smk"
include: "workflow/rules/blending.smk"
include: "workflow/rules/checks.smk"
include: "workflow/rules/outcomes.smk"
include: "workflow/rules/embeddings.smk"
include: "workflow/rules/sweep.smk"
include: "workflow/rules/reid.smk"
include: "workflow/rules/decide.smk"
include: "workflow/rules/release.smk"
include: "workflow/rules/report.smk"


rule all:
    default_target: True
    input:
        "<release>/SHA256SUMS",
        "<report>/audit.html",


onstart:
    hold_results(config)


onsuccess:
    print(closing_lines(config))


onerror:
    print("A stage failed. Its log is shown above; every log lies below", f"{config['results']}/logs")
