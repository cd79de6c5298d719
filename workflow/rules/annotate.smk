# What changes how captions are parsed, but not the parser; and what does not even change the phrases, which therefore is
# no param of a rule.
TO_PARSE, PARSE_HOW = {"max_words", "long_captions"}, {"max_skipped", "batch_size", "device"}
PARSING, PARSING_HOW = (as_json(PARAMS.annotate.parser.model_dump(include=keys)) for keys in (TO_PARSE, PARSE_HOW))
REGIONS = as_json(PARAMS.annotate.regions.model_dump(mode="json", exclude={"batch_size"}))
REGIONS_HOW = as_json(PARAMS.annotate.regions.model_dump(include={"batch_size"}))
PARSING_CODE = code("phrases")
REGIONS_CODE = code("regions", segmenters=[PARAMS.annotate.regions.segments.segmenter])

# Of a model in a folder.
SEGMENTER_FILES = sorted(str(path) for path in PARAMS.annotate.regions.segments.files().values())


rule parser:
    output:
        "data/parser/manifest.json",
    log:
        "logs/parser.log",
    params:
        code=code("parser"),
        config=as_json(PARAMS.annotate.parser.model_dump(exclude=TO_PARSE | PARSE_HOW)),
        classes=(PARAMS.data if SCENES else parameters.ScenesParams()).classes,
    shell:
        "vlalign parser --config {params.config:q} --classes {params.classes} --output data/parser 2> {log}"


rule phrases_part:
    input:
        split=f"{DATA}/{{split}}/manifest.json",
        parser="data/parser/manifest.json",
    output:
        f"{ANNOTATIONS}/phrases/{{split}}/parts/{{part}}.json",
    log:
        "logs/phrases/{split}/{part}.log",
    params:
        code=PARSING_CODE,
        config=PARSING,
    shell:
        "vlalign phrases --config {params.config:q} --how {PARSING_HOW:q} --split {DATA}/{wildcards.split} --model data/parser"
        " --output {ANNOTATIONS}/phrases/{wildcards.split} --part {wildcards.part} 2> {log}"


rule phrases:
    input:
        parts_of_split(ANNOTATIONS + "/phrases"),
        split=f"{DATA}/{{split}}/manifest.json",
        parser="data/parser/manifest.json",
    output:
        f"{ANNOTATIONS}/phrases/{{split}}/manifest.json",
    log:
        "logs/phrases/{split}.log",
    params:
        code=PARSING_CODE,
        config=PARSING,
    shell:
        "vlalign phrases --config {params.config:q} --how {PARSING_HOW:q} --split {DATA}/{wildcards.split} --model data/parser"
        " --output {ANNOTATIONS}/phrases/{wildcards.split} 2> {log}"


rule regions_part:
    input:
        SEGMENTER_FILES,
        split=f"{DATA}/{{split}}/manifest.json",
    output:
        f"{ANNOTATIONS}/regions/{{split}}/parts/{{part}}.json",
    log:
        "logs/regions/{split}/{part}.log",
    threads: 1
    params:
        code=REGIONS_CODE,
        config=REGIONS,
    shell:
        "vlalign regions --config {params.config:q} --how {REGIONS_HOW:q} --split {DATA}/{wildcards.split}"
        " --output {ANNOTATIONS}/regions/{wildcards.split} --part {wildcards.part} 2> {log}"


rule regions:
    input:
        SEGMENTER_FILES,
        parts_of_split(ANNOTATIONS + "/regions"),
        split=f"{DATA}/{{split}}/manifest.json",
    output:
        f"{ANNOTATIONS}/regions/{{split}}/manifest.json",
    log:
        "logs/regions/{split}.log",
    params:
        code=REGIONS_CODE,
        config=REGIONS,
    shell:
        "vlalign regions --config {params.config:q} --how {REGIONS_HOW:q} --split {DATA}/{wildcards.split}"
        " --output {ANNOTATIONS}/regions/{wildcards.split} 2> {log}"
