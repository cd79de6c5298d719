"""Pictures from captions: the text embeddings of runs drive a decoder, and what comes out is scored."""

GENERATION = PARAMS.generation
GENERATING = [(run, seed) for run in (GENERATION.runs if GENERATION else ()) for seed in RUNS[run].seeds]


def generated_files(run, seed):
    names = ("generation.json", "items.safetensors", "evaluation.json")
    return [f"{run_folder(run, seed)}/generation/{name}" for name in names]


def files_of_decoder(wildcards):
    """Those of a decoder that lies on this disk, and of the features; another decoder is named by its revision."""
    return [os.path.relpath(path) for path in GENERATION.files(REPOSITORY)]


def files_of_judge(wildcards):
    """The weights of the model that gives the CLIP score, where they lie on this disk."""
    judge = GENERATION.judge
    if judge in RUNS:
        return run_files(judge, RUNS[judge].seeds[0])
    return files_of_model(judge) if judge else []


rule generate:
    input:
        files_of_decoder,
        files_of_judge,
        manifest=f"{DATA}/{GENERATION.split}/manifest.json" if GENERATION else [],
        model="results/runs/{run}/seed-{seed}/model.safetensors",
        tower="results/runs/{run}/seed-{seed}/open_clip_config.json",
    output:
        generated_files("{run}", "{seed}"),
        f"{FOLDERS.generated('{run}', '{seed}')}/manifest.json",
    log:
        "logs/generate/{run}/seed-{seed}.log",
    wildcard_constraints:
        run=one_of(dict(GENERATING)),
    threads: 1
    params:
        code=lambda wildcards: code("generate", **plugins_of([wildcards.run])),
        config=lambda wildcards: relevant("generate", run=wildcards.run),
        digest=lambda wildcards: digest("generate", run=wildcards.run),
    shell:
        "vlalign generate {GIVEN} --run {wildcards.run} --seed {wildcards.seed} --digest {params.digest}"
        " --threads {threads} 2> {log}"
