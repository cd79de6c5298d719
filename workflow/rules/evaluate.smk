rule evaluate:
    input:
        measured_data,
        model="results/runs/{run}/seed-{seed}/model.safetensors",
        tower="results/runs/{run}/seed-{seed}/open_clip_config.json",
    output:
        expand("results/runs/{{run}}/seed-{{seed}}/metrics/{name}", name=METRIC_FILES),
        card="results/runs/{run}/seed-{seed}/README.md",
    log:
        "logs/evaluate/{run}/seed-{seed}.log",
    threads: 1
    params:
        code=lambda wildcards: code("measure", benchmarks=BENCHMARKS, **plugins_of([wildcards.run])),
        config=relevant("evaluate"),
        run=lambda wildcards: run_folder(wildcards.run, wildcards.seed),
        previous=lambda wildcards: FOLDERS.run(wildcards.run, wildcards.seed, below="checkpoints/previous/runs"),
    shell:
        "vlalign measure {TOLD[evaluate]} --run {params.run} --threads {threads} --previous {params.previous}/metrics 2> {log}"
