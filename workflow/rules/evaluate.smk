rule evaluate:
    input:
        [manifest_of(kind, split, data=Path(DATA), annotations=Path(ANNOTATIONS)) for kind, split in MEASURED_ON],
        CLASS_LISTS if "classes" in dict(MEASURED_ON) else [],
        CATEGORIES if "composition" in dict(MEASURED_ON) else [],
        model="results/runs/{run}/seed-{seed}/model.safetensors",
        tower="results/runs/{run}/seed-{seed}/open_clip_config.json",
    output:
        expand("results/runs/{{run}}/seed-{{seed}}/metrics/{name}.json", name=[*BENCHMARKS, "evaluation"]),
        card="results/runs/{run}/seed-{seed}/README.md",
    log:
        "logs/evaluate/{run}/seed-{seed}.log",
    threads: 1
    params:
        code=lambda wildcards: code("evaluate", benchmarks=BENCHMARKS, **plugins_of([wildcards.run])),
        config=as_json(PARAMS.measured()),
        run=lambda wildcards: run_folder(wildcards.run, wildcards.seed),
        previous=lambda wildcards: previous(run_folder(wildcards.run, wildcards.seed)),
    shell:
        "vlalign evaluate --config {params.config:q} --run {params.run} --data {DATA}"
        " --annotations {ANNOTATIONS} --output {params.run}/metrics --threads {threads}"
        " --previous {params.previous}/metrics 2> {log}"
