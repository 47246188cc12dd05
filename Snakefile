"""The workflow lies in workflow/Snakefile; this file lets `snakemake` find it from the repository's root.

snakemake --cores 2 --config cohort=PATH/samples.tsv key_file=KEY
"""


include: "workflow/Snakefile"


# The default target of an included file does not count.
workflow.default_target = "all"
