rule pretrain:
    input:
        unpack(annotations_of_run),
        code=code("training/*", *ENCODING),
        split="data/scenes/train/manifest.json",
    output:
        expand("results/runs/{{run}}/seed-{{seed}}/{name}", name=RUN_FILES),
    log:
        "logs/pretrain/{run}/seed-{seed}.log",
    threads: 1
    params:
        config=run_config,
        split=lambda wildcards, input: Path(input.split).parent,
        annotations=annotation_options,
        output=lambda wildcards, output: Path(output[0]).parent,
    shell:
        # Checkpoints lie outside every output, since Snakemake deletes the outputs of failed jobs.
        "vlalign pretrain --config {params.config:q} --seed {wildcards.seed} --split {params.split}"
        " {params.annotations} --output {params.output} --checkpoints checkpoints/{wildcards.run}/seed-{wildcards.seed}"
        " --threads {threads} 2> {log}"
