DATASET_FILES = [
    *(f"data/scenes/{split}/manifest.json" for split in SPLITS),
    *(
        f"data/scenes/{benchmark}/{split}/manifest.json"
        for benchmark in ("zeroshot", "composition")
        for split in HELD_OUT
    ),
    "data/scenes/contact_sheet.png",
]


rule dataset:
    input:
        code("data/scenes", "data/captions", "data/layout", "data/drawing", "data/verify", *READING),
    output:
        DATASET_FILES[:-1],
        report(DATASET_FILES[-1], category="Dataset", caption="../report/contact_sheet.rst"),
    log:
        "logs/dataset.log",
    params:
        config=as_json(PARAMS.dataset),
    shell:
        "vlalign dataset --config {params.config:q} --output data/scenes 2> {log}"
