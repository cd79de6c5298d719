rule dataset:
    output:
        MANIFESTS,
        CLASS_LISTS,
        CATEGORIES,
        sheet=report(f"{DATA}/contact_sheet.png", category="Dataset", caption="../report/contact_sheet.rst"),
    log:
        "logs/dataset.log",
    params:
        code=code("dataset"),
        config=as_json(PARAMS.data),
    shell:
        "vlalign dataset --config {params.config:q} --output {DATA} 2> {log}"
