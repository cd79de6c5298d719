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
        config=relevant("dataset"),
    shell:
        "vlalign dataset {TOLD[dataset]} 2> {log}"
