rule evaluate:
    input:
        f"{DATA}/validation/manifest.json",
        f"{DATA}/{PARAMS.evaluation.split}/manifest.json",
        expand("{folder}/{split}/manifest.json", folder=DATA, split=[*CLASSES, *COMPOSITION]),
        CLASS_LISTS,
        CATEGORIES,
        [f"{ANNOTATIONS}/phrases/{split}/manifest.json" for split in HELD_OUT if "grounding" in BENCHMARKS],
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
        config=relevant("evaluate"),
        run=lambda wildcards: run_folder(wildcards.run, wildcards.seed),
        previous=lambda wildcards: FOLDERS.run(wildcards.run, wildcards.seed, below="checkpoints/previous/runs"),
    shell:
        "vlalign evaluate {TOLD[evaluate]} --run {params.run} --threads {threads} --previous {params.previous}/metrics 2> {log}"
