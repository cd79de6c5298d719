rule pretrain:
    input:
        unpack(inputs_of_run),
        lambda wildcards: weights_before(wildcards.run, wildcards.seed),
    output:
        expand("results/runs/{{run}}/seed-{{seed}}/{name}", name=RUN_FILES),
    log:
        "logs/pretrain/{run}/seed-{seed}.log",
    wildcard_constraints:
        run=one_of(name for name, run in RUNS.items() if not run.params.model.adapters),
    threads: 1
    resources:
        # One for each GPU: `--set-resources pretrain:processes=8 --set-threads pretrain=8`, or a profile.
        processes=1,
    params:
        code=lambda wildcards: code("pretrain", **plugins_of([wildcards.run])),
        config=lambda wildcards: relevant("pretrain", run=wildcards.run),
        digest=lambda wildcards: digest("pretrain", run=wildcards.run),
    shell:
        # Checkpoints lie outside every output, since Snakemake deletes the outputs of failed jobs.
        "vlalign pretrain {GIVEN} --run {wildcards.run} --seed {wildcards.seed} --digest {params.digest}"
        " --processes {resources.processes} --threads {threads} 2> {log}"


# Every run, and nothing of what is measured of it: the histories alone can answer a question.
rule trained:
    input:
        [run_files(run, seed) for run, seed in SELECTED],
