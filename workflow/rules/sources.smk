def splits_from(kind, classes=False):
    """The splits whose sources are of this kind, with classes or with pairs, as a constraint of a wildcard."""
    chosen = [split for split in SOURCES if (split in CLASSES) == classes]
    return "|".join(split for split in chosen if isinstance(SOURCES[split], kind)) or "(?!)"


# A split with classes also brings their names and the templates of prompts.
SHARDS = f"{DATA}/{{split}}/shards.json"
SHARDS_OF_CLASSES = [SHARDS, *(f"{DATA}/{{split}}/{name}" for name in CLASS_FILES)]


def class_lists(wildcards):
    return [path for path in CLASS_LISTS if Path(path).parent == Path(DATA, wildcards.split)]


def source_config(wildcards):
    """Where a split comes from, without secrets and what does not change what comes."""
    return relevant("shards", split=wildcards.split)


def source_digest(wildcards):
    return digest("shards", split=wildcards.split)


def code_of_source(wildcards):
    return code("shards", sources=[SOURCES[wildcards.split].source])


def listed_files(wildcards):
    """The table or the annotations of a source, but not its many pictures."""
    return [os.path.relpath(REPOSITORY / path) for path in SOURCES[wildcards.split].inputs()]


# Every split begins as a list of shards, shards.json, however they come about.
rule download:
    output:
        SHARDS,
    log:
        "logs/download/{split}.log",
    wildcard_constraints:
        split=splits_from(FetchedSource),
    resources:
        # No param: how many files are fetched at once changes none of them.
        connections=lambda wildcards: SOURCES[wildcards.split].connections,
    params:
        code=code_of_source,
        config=source_config,
        digest=source_digest,
    shell:
        "vlalign shards {GIVEN} --digest {params.digest} --split {wildcards.split}"
        " --connections {resources.connections} 2> {log}"


use rule download as download_classes with:
    output:
        SHARDS_OF_CLASSES,
    wildcard_constraints:
        split=splits_from(FetchedSource, classes=True),


rule pack:
    input:
        listed_files,
    output:
        SHARDS,
    log:
        "logs/pack/{split}.log",
    wildcard_constraints:
        split=splits_from(PackedSource),
    params:
        code=code_of_source,
        config=source_config,
        digest=source_digest,
    shell:
        "vlalign shards {GIVEN} --digest {params.digest} --split {wildcards.split} 2> {log}"


use rule pack as pack_classes with:
    output:
        SHARDS_OF_CLASSES,
    wildcard_constraints:
        split=splits_from(PackedSource, classes=True),


rule find_shards:
    output:
        SHARDS,
    log:
        "logs/find_shards/{split}.log",
    wildcard_constraints:
        split=splits_from(InPlaceSource),
    params:
        code=code_of_source,
        config=source_config,
        digest=source_digest,
    shell:
        "vlalign shards {GIVEN} --digest {params.digest} --split {wildcards.split} 2> {log}"


use rule find_shards as find_shards_of_classes with:
    output:
        SHARDS_OF_CLASSES,
    wildcard_constraints:
        split=splits_from(InPlaceSource, classes=True),


rule verify_part:
    input:
        SHARDS,
    output:
        temp(f"{DATA}/{{split}}/parts/{{part}}.json"),
    log:
        "logs/verify/{split}/{part}.log",
    params:
        code=code("verify"),
        config=relevant("verify"),
    shell:
        "vlalign verify {TOLD[verify]} --split {wildcards.split} --part {wildcards.part} 2> {log}"


rule verify:
    input:
        parts_of_split(DATA),
        class_lists,
        SHARDS,
    output:
        f"{DATA}/{{split}}/manifest.json",
    log:
        "logs/verify/{split}.log",
    params:
        code=code("verify"),
        config=relevant("verify"),
    shell:
        "vlalign verify {TOLD[verify]} --split {wildcards.split} 2> {log}"
