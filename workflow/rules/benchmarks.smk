"""Data sets of cards, and every run and model on them: one job for each model, task and card.

`snakemake suites` measures the models of the params and writes their tables; it trains nothing.
"""

# Suffixes of weights, configs and tokenizers.
OF_MODELS = (".safetensors", ".bin", ".pt", ".pth", ".json", ".txt", ".model")
SUITES = [suite.name for suite in PARAMS.evaluation.suites]


def splits_of(card, task=""):
    return [f"{FOLDERS.cards}/{card}/{place}" for place in CARDS[card].places(task)]


def card_source(wildcards):
    return CARDS[wildcards.card].places()[wildcards.place]


def published_files(wildcards):
    """The table or the annotations of a source, but not its many pictures."""
    located = card_source(wildcards).located(REPOSITORY / PARAMS.evaluation.files)
    return [os.path.relpath(path) for path in located.inputs()]


def local_files(wildcards):
    return files_of_model(wildcards.model)


def files_of_model(name):
    """Those of a model that lie on this disk; its record names the digest of its weights in any case."""
    spec = PARAMS.models[name]
    paths = [REPOSITORY / path for path in (spec.pretrained, spec.tower) if isinstance(path, str)]
    if spec.folder is not None:
        paths += sorted(Path(REPOSITORY, spec.folder.removeprefix("local-dir:")).glob("*"))
    return [os.path.relpath(path) for path in paths if path.suffix in OF_MODELS and path.is_file()]


wildcard_constraints:
    card=one_of(CARDS),
    task=one_of(sorted({task for task, _ in CELLS})),
    model=one_of(PARAMS.models),
    place=one_of(sorted({place for card in CARDS.values() for place in card.places()})),


rule card_shards:
    input:
        published_files,
    output:
        f"{FOLDERS.cards}/{{card}}/{{place}}/shards.json",
    log:
        "logs/benchmarks/{card}/{place}/shards.log",
    resources:
        connections=lambda wildcards: getattr(card_source(wildcards), "connections", 1),
    params:
        code=lambda wildcards: code("shards", sources=[card_source(wildcards).source]),
        config=lambda wildcards: relevant("shards", card=wildcards.card, split=wildcards.place),
        digest=lambda wildcards: digest("shards", card=wildcards.card, split=wildcards.place),
    shell:
        "vlalign shards {GIVEN} --digest {params.digest} --card {wildcards.card} --split {wildcards.place}"
        " --connections {resources.connections} 2> {log}"


rule card_manifest:
    input:
        f"{FOLDERS.cards}/{{card}}/{{place}}/shards.json",
    output:
        f"{FOLDERS.cards}/{{card}}/{{place}}/manifest.json",
    log:
        "logs/benchmarks/{card}/{place}/verify.log",
    params:
        code=code("verify"),
    shell:
        "vlalign verify {GIVEN} --card {wildcards.card} --split {wildcards.place} 2> {log}"


rule measure_run:
    input:
        lambda wildcards: [f"{split}/manifest.json" for split in splits_of(wildcards.card, wildcards.task)],
        model="results/runs/{run}/seed-{seed}/model.safetensors",
        tower="results/runs/{run}/seed-{seed}/open_clip_config.json",
    output:
        cell_files("results/runs/{run}/seed-{seed}", "{task}", "{card}"),
    log:
        "logs/benchmarks/{run}/seed-{seed}/{task}/{card}.log",
    threads: 1
    params:
        code=lambda wildcards: code("measure", benchmarks=[wildcards.task], **plugins_of([wildcards.run])),
        config=lambda wildcards: relevant("evaluate", card=wildcards.card, task=wildcards.task),
        digest=lambda wildcards: digest("evaluate", card=wildcards.card, task=wildcards.task),
        run=lambda wildcards: run_folder(wildcards.run, wildcards.seed),
        previous=lambda wildcards, output: Path("checkpoints/previous", *Path(output[0]).parent.parts[1:]),
    shell:
        "vlalign measure {GIVEN} --digest {params.digest} --run {params.run} --card {wildcards.card}"
        " --task {wildcards.task} --threads {threads} --previous {params.previous} 2> {log}"


rule measure_model:
    input:
        local_files,
        lambda wildcards: [f"{split}/manifest.json" for split in splits_of(wildcards.card, wildcards.task)],
    output:
        cell_files("results/models/{model}", "{task}", "{card}"),
    log:
        "logs/benchmarks/{model}/{task}/{card}.log",
    threads: 1
    params:
        code=lambda wildcards: code("measure", benchmarks=[wildcards.task]),
        config=lambda wildcards: relevant("evaluate", card=wildcards.card, task=wildcards.task, model=wildcards.model),
        digest=lambda wildcards: digest("evaluate", card=wildcards.card, task=wildcards.task, model=wildcards.model),
        previous=lambda wildcards, output: Path("checkpoints/previous", *Path(output[0]).parent.parts[1:]),
    shell:
        "vlalign measure {GIVEN} --digest {params.digest} --model {wildcards.model} --card {wildcards.card}"
        " --task {wildcards.task} --threads {threads} --previous {params.previous} 2> {log}"


rule evaluate_model:
    input:
        local_files,
        measured_data,
    output:
        expand("results/models/{{model}}/metrics/{name}", name=METRIC_FILES),
    log:
        "logs/evaluate/{model}.log",
    threads: 1
    params:
        code=code("measure", benchmarks=BENCHMARKS),
        config=lambda wildcards: relevant("evaluate", model=wildcards.model),
        digest=lambda wildcards: digest("evaluate", model=wildcards.model),
    shell:
        "vlalign measure {GIVEN} --digest {params.digest} --model {wildcards.model} --threads {threads}"
        " --previous checkpoints/previous/models/{wildcards.model}/metrics 2> {log}"


rule suites:
    input:
        [path for name in PARAMS.models for path in all_cells(model_folder(name))],
    output:
        expand("results/suites/{suite}.{suffix}", suite=SUITES, suffix=["csv", "json", "md", "tex"]),
        record="results/suites.json",
    log:
        "logs/suites.log",
    params:
        code=code("suites", benchmarks=sorted({task for task, _ in CELLS})),
        # Templates of cards have braces, which Snakemake would fill in.
        config=lambda wildcards: relevant("suites"),
    shell:
        "vlalign suites {TOLD[suites]} 2> {log}"
