# What changes how captions are parsed, but not the parser; and what does not even change the phrases, which therefore is
# no param of a rule.
TO_PARSE, PARSE_HOW = {"max_words", "long_captions"}, {"max_skipped", "batch_size", "device"}
PARSING, PARSING_HOW = (as_json(PARAMS.annotate.parser.model_dump(include=keys)) for keys in (TO_PARSE, PARSE_HOW))
REGIONS = as_json(PARAMS.annotate.regions.model_dump(mode="json", exclude={"batch_size"}))
REGIONS_HOW = as_json(PARAMS.annotate.regions.model_dump(include={"batch_size"}))
PARSING_CODE = code(
    *(
        f"annotate/{name}"
        for name in ("collection", "parser", "phrase_files", "phrases", "pipeline", "tokens", "trees")
    ),
    "annotate/words",
    *READING,
)
REGION_CODE = code(
    *(f"annotate/{name}" for name in ("colour_patches", "masks", "regions", "sam_masks", "segmenters/*", "segments")),
    *READING,
)

# Of a model in a folder.
SEGMENTER_FILES = sorted(str(path) for path in PARAMS.annotate.regions.segments.files().values())


rule parser:
    input:
        code(
            "annotate/treebank",
            "annotate/tiny_parser",
            "annotate/isolation",
            "annotate/download",
            "annotate/parser",
            "annotate/pipeline",
            "annotate/trees",
            "data/captions",
            "data/layout",
        ),
    output:
        "data/parser/manifest.json",
    log:
        "logs/parser.log",
    params:
        config=as_json(PARAMS.annotate.parser.model_dump(exclude=TO_PARSE | PARSE_HOW)),
        classes=(PARAMS.data if SCENES else parameters.ScenesParams()).classes,
    shell:
        "vlalign parser --config {params.config:q} --classes {params.classes} --output data/parser 2> {log}"


rule phrases_part:
    input:
        PARSING_CODE,
        split=f"{DATA}/{{split}}/manifest.json",
        parser="data/parser/manifest.json",
    output:
        f"{ANNOTATIONS}/phrases/{{split}}/parts/{{part}}.json",
    log:
        "logs/phrases/{split}/{part}.log",
    params:
        config=PARSING,
    shell:
        "vlalign phrases --config {params.config:q} --how {PARSING_HOW:q} --split {DATA}/{wildcards.split} --model data/parser"
        " --output {ANNOTATIONS}/phrases/{wildcards.split} --part {wildcards.part} 2> {log}"


rule phrases:
    input:
        PARSING_CODE,
        parts_of_split(ANNOTATIONS + "/phrases"),
        split=f"{DATA}/{{split}}/manifest.json",
        parser="data/parser/manifest.json",
    output:
        f"{ANNOTATIONS}/phrases/{{split}}/manifest.json",
    log:
        "logs/phrases/{split}.log",
    params:
        config=PARSING,
    shell:
        "vlalign phrases --config {params.config:q} --how {PARSING_HOW:q} --split {DATA}/{wildcards.split} --model data/parser"
        " --output {ANNOTATIONS}/phrases/{wildcards.split} 2> {log}"


rule regions_part:
    input:
        REGION_CODE,
        SEGMENTER_FILES,
        split=f"{DATA}/{{split}}/manifest.json",
    output:
        f"{ANNOTATIONS}/regions/{{split}}/parts/{{part}}.json",
    log:
        "logs/regions/{split}/{part}.log",
    threads: 1
    params:
        config=REGIONS,
    shell:
        "vlalign regions --config {params.config:q} --how {REGIONS_HOW:q} --split {DATA}/{wildcards.split}"
        " --output {ANNOTATIONS}/regions/{wildcards.split} --part {wildcards.part} 2> {log}"


rule regions:
    input:
        REGION_CODE,
        SEGMENTER_FILES,
        parts_of_split(ANNOTATIONS + "/regions"),
        split=f"{DATA}/{{split}}/manifest.json",
    output:
        f"{ANNOTATIONS}/regions/{{split}}/manifest.json",
    log:
        "logs/regions/{split}.log",
    params:
        config=REGIONS,
    shell:
        "vlalign regions --config {params.config:q} --how {REGIONS_HOW:q} --split {DATA}/{wildcards.split}"
        " --output {ANNOTATIONS}/regions/{wildcards.split} 2> {log}"
