rule evaluate:
    input:
        "data/scenes/validation/manifest.json",
        f"data/scenes/{PARAMS.evaluation.split}/manifest.json",
        expand("data/scenes/zeroshot/{split}/manifest.json", split=HELD_OUT),
        f"data/scenes/composition/{PARAMS.evaluation.split}/manifest.json",
        expand("data/annotations/{kind}/{split}/manifest.json", kind=["phrases", "regions"], split=HELD_OUT),
        code("evaluation/*", *ENCODING, without=["evaluation/illustrate", "evaluation/precision"]),
        code("reporting/card", "reporting/cells", "reporting/headline", "reporting/metrics", "reporting/stats"),
        model="results/runs/{run}/seed-{seed}/model.safetensors",
        tower="results/runs/{run}/seed-{seed}/open_clip_config.json",
    output:
        expand("results/runs/{{run}}/seed-{{seed}}/metrics/{name}.json", name=BENCHMARKS),
        card="results/runs/{run}/seed-{seed}/README.md",
    log:
        "logs/evaluate/{run}/seed-{seed}.log",
    threads: 1
    params:
        config=as_json(PARAMS.evaluation),
        run=lambda wildcards: run_folder(wildcards.run, wildcards.seed),
    shell:
        "vlalign evaluate --config {params.config:q} --run {params.run} --data data/scenes"
        " --annotations data/annotations --output {params.run}/metrics --threads {threads} 2> {log}"
