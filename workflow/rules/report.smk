# The figures that each rule draws.
FIGURES = {rule: [one for one in PARAMS.figures if one.rule == rule] for rule in ("report", "illustrate")}


def svg_files(rule):
    return [f"results/figures/{name}.svg" for figure in FIGURES[rule] for name in figure.names()]


# Kinds of data of the measured split that trained models are shown beside its pairs.
SHOWN_KINDS = {
    kind
    for one in FIGURES["illustrate"]
    for name in one.benchmarks
    for kind in KINDS[name].needs.split
    if kind != "pairs"
}
DRAWN_FROM = [kind for kind, splits in ANNOTATED.items() if splits]
REPORT_FILES = [
    "results/metrics.json",
    "results/precision.csv",
    "results/precision.csv.json",
    "results/tables",
    "results/report.html",
    "results/report.html.json",
    "results/figures/illustrations.json",
    svg_files("report"),
    svg_files("illustrate"),
]
# The plane shows the first seed of every arm but the control; similarities are drawn for the baseline, the subject, and
# what figures compare beside them. The subject comes last.
COMPARED = [PARAMS.report.baseline, *(name for one in FIGURES["illustrate"] for name in one.compares())]
COMPARED = [name for name in dict.fromkeys(COMPARED) if name in PARAMS.runs.arms and name != SUBJECT] + [SUBJECT]
SHOWN = {name: RUNS[name].seeds[0] for name in PARAMS.runs.arms if name != PARAMS.report.control or name in COMPARED}


rule collect:
    input:
        MODEL_METRICS,
        metrics=[metric_files(run, seed) for run, seed in SELECTED],
        runs=[f"{run_folder(run, seed)}/run.json" for run, seed in SELECTED],
    output:
        "results/metrics.json",
    log:
        "logs/collect.log",
    params:
        code=code("collect"),
        runs=run_options(SELECTED),
        models=" ".join(f"--model {model_folder(name)}" for name in PARAMS.models),
    shell:
        "vlalign collect {params.runs} {params.models} --output {output} 2> {log}"


rule focus:
    input:
        [path for seed in RUNS[PARAMS.focus].seeds for path in all_cells(run_folder(PARAMS.focus, seed))],
        metrics="results/metrics.json",
        run=f"{run_folder(PARAMS.focus, RUNS[PARAMS.focus].seeds[0])}/run.json",
        history=f"{run_folder(PARAMS.focus, RUNS[PARAMS.focus].seeds[0])}/history.csv",
    output:
        FOCUS_FILES,
    log:
        "logs/focus.log",
    params:
        code=code("focus"),
        declared=DECLARED,
        # Templates of cards have braces, which Snakemake would fill in.
        config=lambda wildcards: relevant("focus"),
        run=lambda wildcards, input: Path(input.run).parent,
    shell:
        "vlalign focus {TOLD[focus]} --metrics {input.metrics} --run {params.run} --output . 2> {log}"


rule precision:
    input:
        [f"{ANNOTATIONS}/{kind}/validation/manifest.json" for kind in DRAWN_FROM],
        f"{DATA}/validation/manifest.json",
        model=f"{run_folder(PRECISION_OF, RUNS[PRECISION_OF].seeds[0])}/model.safetensors",
    output:
        "results/precision.csv",
        "results/precision.csv.json",
    log:
        "logs/precision.log",
    params:
        code=code("precision", **plugins_of([PRECISION_OF])),
        config=relevant("precision"),
        run=lambda wildcards, input: Path(input.model).parent,
    shell:
        "vlalign precision {params.run} {TOLD[precision]} --output {output[0]} 2> {log}"


rule illustrate:
    input:
        [f"{run_folder(run, seed)}/model.safetensors" for run, seed in SHOWN.items()],
        f"{DATA}/{PARAMS.evaluation.split}/manifest.json",
        [
            manifest_of(kind, PARAMS.evaluation.split, data=Path(DATA), annotations=Path(ANNOTATIONS))
            for kind in sorted(SHOWN_KINDS)
        ],
        CLASS_LISTS if "classes" in SHOWN_KINDS else [],
        CATEGORIES if "composition" in SHOWN_KINDS else [],
        expand(
            "{folder}/{kind}/{split}/manifest.json", folder=ANNOTATIONS, kind=DRAWN_FROM, split=PARAMS.evaluation.split
        ),
        # Which set a phrase names is tuned there.
        [f"{folder}/validation/manifest.json" for folder in (DATA, f"{ANNOTATIONS}/phrases")],
    output:
        "results/figures/illustrations.json",
        report(svg_files("illustrate"), category="Figures", caption="../report/figure.rst"),
    log:
        "logs/illustrate.log",
    params:
        code=code("illustrate", figures=[figure.name for figure in FIGURES["illustrate"]], **plugins_of(SHOWN)),
        config=relevant("illustrate"),
        runs=run_options(SHOWN.items()),
        compared=" ".join(f"--compared {run}" for run in COMPARED),
    shell:
        "vlalign illustrate {TOLD[illustrate]} {params.runs} {params.compared} --output results/figures 2> {log}"


rule report:
    input:
        metrics="results/metrics.json",
        precision="results/precision.csv",
        illustrated=svg_files("illustrate"),
        records=["results/precision.csv.json", "results/figures/illustrations.json"],
        runs=[f"{run_folder(run, seed)}/{name}" for run, seed in SELECTED for name in ("run.json", "history.csv")],
        cells=CELL_FILES + MODEL_METRICS,
        generated=[generated_files(run, seed) for run, seed in GENERATING],
        # Why a benchmark could not be measured.
        reasons=[metric_files(run, seed) for run, seed in SELECTED],
        manifest=f"{DATA}/train/manifest.json",
        held_out=[f"{DATA}/{split}/manifest.json" for split in (*HELD_OUT, *CLASSES, *COMPOSITION)],
    output:
        tables=report(
            directory("results/tables"), patterns=["{name}.csv"], category="Tables", caption="../report/table.rst"
        ),
        page=report("results/report.html", category="Report", caption="../report/page.rst"),
        record="results/report.html.json",
        figures=report(svg_files("report"), category="Figures", caption="../report/figure.rst"),
    log:
        "logs/report.log",
    params:
        # What it says of terms and aggregators, it says of those of runs, whose own rule depends on them; likewise of
        # illustrations.
        code=code("report", figures=[figure.name for figure in FIGURES["report"]]),
        declared=DECLARED,
        # Templates of cards have braces, which Snakemake would fill in.
        config=lambda wildcards: relevant("report"),
        runs=run_options(SELECTED),
        held_out=lambda wildcards, input: " ".join(f"--held-out {path}" for path in input.held_out),
    shell:
        "vlalign report {TOLD[report]} --metrics {input.metrics} {params.runs} --precision {input.precision}"
        " --figures results/figures --tables {output.tables} --output {output.page} --manifest {input.manifest}"
        " {params.held_out} 2> {log}"
