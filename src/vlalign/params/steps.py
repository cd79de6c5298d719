"""What the result of each step of the workflow depends on, beside code and data."""

from collections.abc import Callable
from typing import Any

from vlalign.params.workflow import Params

# What changes how captions are parsed, but not the parser; and what does not even change the phrases.
TO_PARSE, PARSE_HOW = {"max_words", "long_captions"}, {"max_skipped", "batch_size", "device"}


def relevant(params: Params, step: str, *, run: str = "", split: str = "") -> dict[str, Any]:
    """The params on which the result of a command of the workflow depends, as plain JSON values.

    A change of them makes the workflow do the step again; other params change only how it works.
    run, split: of which run or split the step is, where that matters.
    """
    parser, regions, report = params.annotate.parser, params.annotate.regions, params.report
    figures = [(figure, figure.model_dump(mode="json")) for figure in params.figures]
    found: dict[str, Callable[[], dict[str, Any]]] = {
        "dataset": lambda: params.data.model_dump(mode="json"),
        "parser": lambda: {**parser.model_dump(exclude=TO_PARSE | PARSE_HOW), "classes": params.scenes.classes},
        "phrases": lambda: parser.model_dump(include=TO_PARSE),
        "regions": lambda: regions.model_dump(mode="json", exclude={"batch_size"}),
        "shards": lambda: params.sources[split].shown(),
        "verify": lambda: params.verify.model_dump(exclude={"max_bad_share"}),
        "pretrain": lambda: params.all_runs[run].config(),
        "evaluate": params.measured,
        "precision": lambda: report.precision.model_dump(mode="json"),
        "illustrate": lambda: {
            "split": params.evaluation.split,
            "figures": [plain for figure, plain in figures if figure.rule == "illustrate"],
        },
        "report": lambda: {
            **report.model_dump(mode="json", exclude={"precision", "figures"}),
            "figures": [plain for _, plain in figures],
        },
    }
    return found[step]()
