# Every split begins as a list of shards, shards.json, however they come about.
rule download:
    input:
        code("data/download", "data/holdings", "data/hub", "data/remote", "data/transfer"),
    output:
        f"{DATA}/{{split}}/shards.json",
    log:
        "logs/download/{split}.log",
    wildcard_constraints:
        split=splits_from("hub", "urls"),
    params:
        config=source_config,
        key=source_key,
    shell:
        "vlalign shards --config {params.config:q} --base {BASE} --key {params.key} --output {DATA}/{wildcards.split} 2> {log}"


rule pack:
    input:
        code("data/pack", "data/entries", "data/listing", "data/table*", "data/folders", "data/coco", *READING),
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
        "vlalign shards --config {params.config:q} --base {BASE} --key {params.key} --output {DATA}/{wildcards.split} 2> {log}"


rule find_shards:
    input:
        code("data/local"),
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
        "vlalign shards --config {params.config:q} --base {BASE} --key {params.key} --output {DATA}/{wildcards.split} 2> {log}"


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
        "vlalign verify --config {params.config:q} --split {DATA}/{wildcards.split} {params.needs}"
        " --part {wildcards.part} 2> {log}"


rule verify:
    input:
        code("data/manifest", "data/verify", *READING),
        parts_of_split(DATA + "/{split}"),
        f"{DATA}/{{split}}/shards.json",
    output:
        f"{DATA}/{{split}}/manifest.json",
    log:
        "logs/verify/{split}.log",
    params:
        config=VERIFY,
        needs=needs_of_split,
    shell:
        "vlalign verify --config {params.config:q} --split {DATA}/{wildcards.split} {params.needs} 2> {log}"
