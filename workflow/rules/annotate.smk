# What changes how captions are parsed, but not the parser.
PARSING = {"max_words", "max_skipped", "batch_size"}


rule parser:
    input:
        code(
            "annotate/treebank",
            "annotate/tiny_parser",
            "annotate/isolation",
            "annotate/download",
            "annotate/parser",
            "data/captions",
            "data/layout",
        ),
    output:
        "data/parser/manifest.json",
    log:
        "logs/parser.log",
    params:
        config=as_json(PARAMS.annotate.parser.model_dump(exclude=PARSING)),
        classes=PARAMS.dataset.classes,
    shell:
        "vlalign parser --config {params.config:q} --classes {params.classes} --output data/parser 2> {log}"


rule phrases:
    input:
        code(
            "annotate/parser",
            "annotate/phrases",
            "annotate/tokens",
            "annotate/words",
            "annotate/tables",
            *READING,
        ),
        split="data/scenes/{split}/manifest.json",
        parser="data/parser/manifest.json",
    output:
        "data/annotations/phrases/{split}/manifest.json",
    log:
        "logs/phrases/{split}.log",
    params:
        config=as_json(PARAMS.annotate.parser.model_dump(include=PARSING)),
        split=lambda wildcards, input: Path(input.split).parent,
        parser=lambda wildcards, input: Path(input.parser).parent,
        output=lambda wildcards, output: Path(output[0]).parent,
    shell:
        "vlalign phrases --config {params.config:q} --split {params.split} --model {params.parser}"
        " --output {params.output} 2> {log}"


rule regions:
    input:
        code("annotate/regions", "annotate/tables", *READING),
        split="data/scenes/{split}/manifest.json",
    output:
        "data/annotations/regions/{split}/manifest.json",
    log:
        "logs/regions/{split}.log",
    params:
        config=as_json(PARAMS.annotate.regions),
        split=lambda wildcards, input: Path(input.split).parent,
        output=lambda wildcards, output: Path(output[0]).parent,
    shell:
        "vlalign regions --config {params.config:q} --split {params.split} --output {params.output} 2> {log}"
