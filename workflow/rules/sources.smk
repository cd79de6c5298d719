def splits_from(*kinds):
    """The splits whose sources are of these kinds, as a constraint of a wildcard."""
    return "|".join(split for split, source in SOURCES.items() if source["source"] in kinds) or "(?!)"


def source_config(wildcards):
    """Where a split comes from, without what does not change what comes."""
    return as_json({key: value for key, value in SOURCES[wildcards.split].items() if key != "connections"})


# Of each split: files that are fetched at once.
CONNECTIONS = {split: source["connections"] for split, source in SOURCES.items() if "connections" in source}


def source_key(wildcards):
    """Where the source stands in params.yaml."""
    return f"datasets.{PARAMS.dataset}.{wildcards.split.replace('/', '.')}"


def listed_files(wildcards):
    """The table or the annotations of a source, but not its many pictures."""
    source = SOURCES[wildcards.split]
    return [os.path.relpath(REPOSITORY / source[key]) for key in ("table", "annotations") if key in source]


def needs_of_split(wildcards):
    """What samples of a split must have."""
    group, _, kind = wildcards.split.partition("/")
    unpaired = {"images": ["image"], "captions": ["captions"]}
    needs = {"zeroshot": ["image", "label"], "unpaired": unpaired.get(kind)}.get(group, ["image", "captions"])
    return " ".join(f"--needs {need}" for need in needs)


# Every split begins as a list of shards, shards.json, however they come about.
rule download:
    input:
        code("data/sources", "data/download", "data/holdings", "data/hub", "data/remote", "data/transfer"),
    output:
        f"{DATA}/{{split}}/shards.json",
    log:
        "logs/download/{split}.log",
    wildcard_constraints:
        split=splits_from("hub", "urls"),
    resources:
        # No param: how many files are fetched at once changes none of them.
        connections=lambda wildcards: CONNECTIONS[wildcards.split],
    params:
        config=source_config,
        key=source_key,
    shell:
        "vlalign shards --config {params.config:q} --how '{{\"connections\": {resources.connections}}}'"
        " --base {BASE:q} --key {params.key} --output {DATA}/{wildcards.split} 2> {log}"


rule pack:
    input:
        code(
            "data/sources",
            "data/pack",
            "data/entries",
            "data/listing",
            "data/table*",
            "data/folders",
            "data/coco",
            *READING,
        ),
        listed_files,
    output:
        f"{DATA}/{{split}}/shards.json",
    log:
        "logs/pack/{split}.log",
    wildcard_constraints:
        split=splits_from("table", "folder", "karpathy", "coco"),
    params:
        config=source_config,
        key=source_key,
    shell:
        "vlalign shards --config {params.config:q} --base {BASE:q} --key {params.key} --output {DATA}/{wildcards.split} 2> {log}"


rule find_shards:
    input:
        code("data/local", "data/sources"),
    output:
        f"{DATA}/{{split}}/shards.json",
    log:
        "logs/find_shards/{split}.log",
    wildcard_constraints:
        split=splits_from("shards", "img2dataset"),
    params:
        config=source_config,
        key=source_key,
    shell:
        "vlalign shards --config {params.config:q} --base {BASE:q} --key {params.key} --output {DATA}/{wildcards.split} 2> {log}"


rule verify_part:
    input:
        code("data/manifest", "data/verify", *READING),
        f"{DATA}/{{split}}/shards.json",
    output:
        f"{DATA}/{{split}}/parts/{{part}}.json",
    log:
        "logs/verify/{split}/{part}.log",
    params:
        config=VERIFY,
        needs=needs_of_split,
    shell:
        "vlalign verify --config {params.config:q} --how {VERIFY_HOW:q} --split {DATA}/{wildcards.split} {params.needs}"
        " --part {wildcards.part} 2> {log}"


rule verify:
    input:
        code("data/manifest", "data/verify", *READING),
        parts_of_split(DATA),
        f"{DATA}/{{split}}/shards.json",
    output:
        f"{DATA}/{{split}}/manifest.json",
    log:
        "logs/verify/{split}.log",
    params:
        config=VERIFY,
        needs=needs_of_split,
    shell:
        "vlalign verify --config {params.config:q} --how {VERIFY_HOW:q} --split {DATA}/{wildcards.split} {params.needs} 2> {log}"
