"""What the result of each step of the workflow depends on, beside code and data."""

from collections.abc import Callable
from typing import Any

from vlalign.params.workflow import Params

# What changes how captions are parsed, but not the parser; and what does not even change the phrases.
TO_PARSE, PARSE_HOW = {"max_words", "long_captions"}, {"max_skipped", "batch_size", "device"}


def relevant(
    params: Params, step: str, *, run: str = "", split: str = "", card: str = "", task: str = "", model: str = ""
) -> dict[str, Any]:
    """The params on which the result of a command of the workflow depends, as plain JSON values.

    A change of them makes the workflow do the step again; other params change only how it works.
    run, split, card, task, model: of which of them the step is, where that matters.
    """
    parser, regions, report = params.annotate.parser, params.annotate.regions, params.report
    figures = [(figure, figure.model_dump(mode="json")) for figure in params.figures]
    seen = {name: spec.trained_on for name, spec in params.models.items()}

    def suites() -> dict[str, Any]:
        return params.evaluation.model_dump(mode="json", include={"suites", "left_out"})

    found: dict[str, Callable[[], dict[str, Any]]] = {
        "dataset": lambda: params.data.model_dump(mode="json"),
        "parser": lambda: {**parser.model_dump(exclude=TO_PARSE | PARSE_HOW), "classes": params.scenes.classes},
        "phrases": lambda: parser.model_dump(include=TO_PARSE),
        "regions": regions.relevant,
        "shards": lambda: (params.cards[card].places() if card else params.sources)[split].shown(),
        "verify": lambda: params.verify.model_dump(exclude={"max_bad_share"}),
        "pretrain": lambda: params.all_runs[run].config(),
        "adapt": lambda: params.all_runs[run].config(),
        "features": lambda: params.all_runs[run].frozen(),
        "evaluate": lambda: _evaluated(params, card, task, model),
        "generate": lambda: _generated(params, run),
        "precision": lambda: report.precision.model_dump(mode="json"),
        "illustrate": lambda: {
            "split": params.evaluation.split,
            "figures": [plain for figure, plain in figures if figure.rule == "illustrate"],
        },
        "report": lambda: {
            **report.model_dump(mode="json", exclude={"precision", "figures"}),
            "figures": [plain for _, plain in figures],
            **suites(),
            "models": seen,
        },
        "suites": lambda: {**suites(), "models": seen, "published": report.published},
        "focus": suites,
    }
    return found[step]()


def _generated(params: Params, run: str) -> dict[str, Any]:
    """Of a run that generates pictures; the weights of a judge that is a run are files that the step reads."""
    generation = params.generation
    if generation is None:
        return {}
    judge = params.models.get(generation.judge or "")
    return {"run": run, **generation.relevant()} | ({"model": judge.model_dump(mode="json")} if judge else {})


def _evaluated(params: Params, card: str, task: str, model: str) -> dict[str, Any]:
    """Of the dataset's own benchmarks, or of one task on one card; a run's weights are files that the step reads."""
    spec = {"model": params.models[model].model_dump(mode="json", exclude={"trained_on"})} if model else {}
    if not card:
        return {**params.measured(), **spec}
    evaluation = params.evaluation
    how = {"params": evaluation.named((task,))[task].model_dump(mode="json"), "precision": evaluation.precision}
    return {"card": params.cards[card].measured(), "task": task, **how, **spec}
