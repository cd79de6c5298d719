DRAWN = [
    "differences",
    *(["grounding"] if "grounding" in BENCHMARKS else []),
    "training",
    "precision-r2t",
    "precision-t2r",
    *(f"ablation-{name}" for name in GRIDS),
]
ILLUSTRATED = ["similarity", "embeddings"]
DRAWN_FROM = [kind for kind, splits in ANNOTATED.items() if splits]
REPORT_FILES = [
    "results/metrics.json",
    "results/precision.csv",
    "results/precision.csv.json",
    "results/tables",
    "results/report.html",
    "results/report.html.json",
    "results/figures/illustrations.json",
    expand("results/figures/{name}.svg", name=[*DRAWN, *ILLUSTRATED]),
]
# The plane shows the first seed of every arm but the control; similarities are drawn for the baseline and the subject.
SHOWN = {name: RUNS[name].seeds[0] for name in PARAMS.runs.arms if name != PARAMS.report.control}
COMPARED = list(dict.fromkeys(name for name in (PARAMS.report.baseline, SUBJECT) if name in SHOWN))


rule collect:
    input:
        metrics=[metric_files(run, seed) for run, seed in SELECTED],
        runs=[f"{run_folder(run, seed)}/run.json" for run, seed in SELECTED],
    output:
        "results/metrics.json",
    log:
        "logs/collect.log",
    params:
        code=code("collect", benchmarks=BENCHMARKS),
        runs=run_options(SELECTED),
    shell:
        "vlalign collect {params.runs} --output {output} 2> {log}"


rule focus:
    input:
        metrics="results/metrics.json",
        run=f"{run_folder(PARAMS.focus, RUNS[PARAMS.focus].seeds[0])}/run.json",
        history=f"{run_folder(PARAMS.focus, RUNS[PARAMS.focus].seeds[0])}/history.csv",
    output:
        FOCUS_FILES,
    log:
        "logs/focus.log",
    params:
        code=code("focus", benchmarks=BENCHMARKS),
        run=lambda wildcards, input: Path(input.run).parent,
    shell:
        "vlalign focus --metrics {input.metrics} --run {params.run} --output . 2> {log}"


rule precision:
    input:
        [f"{ANNOTATIONS}/{kind}/validation/manifest.json" for kind in DRAWN_FROM],
        f"{DATA}/validation/manifest.json",
        model=f"{run_folder(SUBJECT, RUNS[SUBJECT].seeds[0])}/model.safetensors",
    output:
        "results/precision.csv",
        "results/precision.csv.json",
    log:
        "logs/precision.log",
    params:
        code=code("precision", **plugins_of([SUBJECT])),
        config=as_json(PARAMS.report.precision),
        run=lambda wildcards, input: Path(input.model).parent,
    shell:
        "vlalign precision {params.run} --config {params.config:q} --split {DATA}/validation"
        " --annotations {ANNOTATIONS} --output {output[0]} 2> {log}"


rule illustrate:
    input:
        [f"{run_folder(run, seed)}/model.safetensors" for run, seed in SHOWN.items()],
        f"{DATA}/{PARAMS.evaluation.split}/manifest.json",
        expand(
            "{folder}/{kind}/{split}/manifest.json", folder=ANNOTATIONS, kind=DRAWN_FROM, split=PARAMS.evaluation.split
        ),
    output:
        report("results/figures/similarity.svg", category="Grounding", caption="../report/similarity.rst"),
        report("results/figures/embeddings.svg", category="Shared space", caption="../report/embeddings.rst"),
        "results/figures/illustrations.json",
    log:
        "logs/illustrate.log",
    params:
        code=code("illustrate", **plugins_of(SHOWN)),
        runs=run_options(SHOWN.items()),
        compared=" ".join(f"--compared {run}" for run in COMPARED),
        split=PARAMS.evaluation.split,
    shell:
        "vlalign illustrate {params.runs} {params.compared} --split {params.split} --data {DATA}"
        " --annotations {ANNOTATIONS} --output results/figures 2> {log}"


rule report:
    input:
        metrics="results/metrics.json",
        precision="results/precision.csv",
        illustrated=expand("results/figures/{name}.svg", name=ILLUSTRATED),
        records=["results/precision.csv.json", "results/figures/illustrations.json"],
        runs=[f"{run_folder(run, seed)}/{name}" for run, seed in SELECTED for name in ("run.json", "history.csv")],
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
        figures=report(
            expand("results/figures/{name}.svg", name=DRAWN), category="Figures", caption="../report/figure.rst"
        ),
    log:
        "logs/report.log",
    params:
        # What it says of terms and aggregators, it says of those of runs, whose own rule depends on them.
        code=code("report", figures=DRAWN, benchmarks=BENCHMARKS),
        config=as_json(PARAMS.report),
        runs=run_options(SELECTED),
        held_out=lambda wildcards, input: " ".join(f"--held-out {path}" for path in input.held_out),
    shell:
        "vlalign report --config {params.config:q} --metrics {input.metrics} {params.runs} --precision {input.precision}"
        " --figures results/figures --tables {output.tables} --output {output.page} --manifest {input.manifest}"
        " {params.held_out} 2> {log}"
