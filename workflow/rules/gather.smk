# Digests of all shards' embeddings, where several jobs share the searches among them: the one input of those jobs, so that
# the graph of jobs does not grow by each shard for each of them.


rule gather:
    input:
        plan=ancient("<private>/plan.json"),
        embeddings=of_all_shards("embeddings.parquet"),
    output:
        digests="<private>/reid/embeddings.json",
    log:
        "<logs>/gather.log",
    benchmark:
        "<benchmarks>/gather.tsv"
    conda:
        "../../envs/environment.yaml"
    threads: 1
    resources:
        mem_mb=more(2000),
        runtime=more(60),
    shell:
        "deidlib gather --plan {input.plan:q} --out {output.digests:q} " "> {log:q} 2>&1"
