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
        config=relevant("parser"),
    shell:
        "vlalign parser {TOLD[parser]} 2> {log}"


rule phrases_part:
    input:
        split=f"{DATA}/{{split}}/manifest.json",
        parser="data/parser/manifest.json",
    output:
        temp(f"{ANNOTATIONS}/phrases/{{split}}/parts/{{part}}.json"),
    log:
        "logs/phrases/{split}/{part}.log",
    params:
        code=PARSING_CODE,
        config=relevant("phrases"),
    shell:
        "vlalign phrases {TOLD[phrases]} --split {wildcards.split} --part {wildcards.part} 2> {log}"


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
        config=relevant("phrases"),
    shell:
        "vlalign phrases {TOLD[phrases]} --split {wildcards.split} 2> {log}"


rule regions_part:
    input:
        SEGMENTER_FILES,
        split=f"{DATA}/{{split}}/manifest.json",
    output:
        temp(f"{ANNOTATIONS}/regions/{{split}}/parts/{{part}}.json"),
    log:
        "logs/regions/{split}/{part}.log",
    threads: 1
    params:
        code=REGIONS_CODE,
        config=relevant("regions"),
    shell:
        "vlalign regions {TOLD[regions]} --split {wildcards.split} --part {wildcards.part} 2> {log}"


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
        config=relevant("regions"),
    shell:
        "vlalign regions {TOLD[regions]} --split {wildcards.split} 2> {log}"
