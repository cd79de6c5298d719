rule pretrain:
    input:
        unpack(inputs_of_run),
        pretrained_weights,
        split=f"{DATA}/train/manifest.json",
        validation=f"{DATA}/validation/manifest.json",
    output:
        expand("results/runs/{{run}}/seed-{{seed}}/{name}", name=RUN_FILES),
    log:
        "logs/pretrain/{run}/seed-{seed}.log",
    threads: 1
    resources:
        # One for each GPU: `--set-resources pretrain:processes=8 --set-threads pretrain=8`, or a profile.
        processes=1,
    params:
        code=lambda wildcards: code("pretrain", **plugins_of([wildcards.run])),
        config=run_config,
        split=lambda wildcards, input: Path(input.split).parent,
        validation=lambda wildcards, input: Path(input.validation).parent,
        more=input_options,
        output=lambda wildcards, output: Path(output[0]).parent,
        previous=lambda wildcards: previous(run_folder(wildcards.run, wildcards.seed)),
    shell:
        # Checkpoints lie outside every output, since Snakemake deletes the outputs of failed jobs. RUNTIME is no param
        # of the rule, since it changes no weights.
        "vlalign pretrain --config {params.config:q} --seed {wildcards.seed} --split {params.split}"
        " {params.more} --validation {params.validation} --output {params.output}"
        " --checkpoints checkpoints/{wildcards.run}/seed-{wildcards.seed} --previous {params.previous}"
        " --runtime {RUNTIME:q} --tracking logs/pretrain/{wildcards.run}/seed-{wildcards.seed}"
        " --processes {resources.processes} --threads {threads} 2> {log}"
