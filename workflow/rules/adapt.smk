"""Adapters on frozen towers: what the towers give of every split, once, and the runs that train on it."""

# By the name of the features: a run that has these towers, with one of its seeds.
TOWERS = {RUNS[run].towers(seed): (run, seed) for run, seed in reversed(SELECTED) if RUNS[run].towers(seed)}


def features_of_run(wildcards):
    """Those of the training split, of the one that is watched, and of what comes without a partner."""
    folder = FOLDERS.towers(RUNS[wildcards.run].towers(int(wildcards.seed)))
    unpaired = [name.replace("_", "/") for name in NEEDS[wildcards.run].folders if name.startswith("unpaired_")]
    return [f"{folder}/{split}/manifest.json" for split in ("train", "validation", *unpaired)]


rule features:
    input:
        f"{DATA}/{{split}}/manifest.json",
        lambda wildcards: weights_before(*TOWERS[wildcards.towers]),
    output:
        f"{FOLDERS.towers('{towers}')}/{{split}}/manifest.json",
    log:
        "logs/features/{towers}/{split}.log",
    wildcard_constraints:
        towers=one_of(TOWERS),
    threads: 1
    params:
        code=code("features"),
        config=lambda wildcards: relevant("features", run=TOWERS[wildcards.towers][0]),
        digest=lambda wildcards: digest("features", run=TOWERS[wildcards.towers][0]),
        run=lambda wildcards: "--run {} --seed {}".format(*TOWERS[wildcards.towers]),
    shell:
        "vlalign features {GIVEN} {params.run} --split {wildcards.split} --digest {params.digest}"
        " --threads {threads} 2> {log}"


rule adapt:
    input:
        unpack(inputs_of_run),
        features_of_run,
        lambda wildcards: weights_before(wildcards.run, wildcards.seed),
    output:
        expand("results/runs/{{run}}/seed-{{seed}}/{name}", name=RUN_FILES),
    log:
        "logs/adapt/{run}/seed-{seed}.log",
    wildcard_constraints:
        run=one_of(name for name, run in RUNS.items() if run.params.model.adapters),
    threads: 1
    resources:
        processes=1,
    params:
        code=lambda wildcards: code("adapt", **plugins_of([wildcards.run])),
        config=lambda wildcards: relevant("adapt", run=wildcards.run),
        digest=lambda wildcards: digest("adapt", run=wildcards.run),
    shell:
        "vlalign adapt {GIVEN} --run {wildcards.run} --seed {wildcards.seed} --digest {params.digest}"
        " --processes {resources.processes} --threads {threads} 2> {log}"
