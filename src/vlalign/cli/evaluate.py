"""`vlalign evaluate`."""

import os
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from vlalign.cli.measure import measure_model, measure_run
from vlalign.cli.options import Changes, Given, OwnAnnotations, OwnOutput, ParamsFiles, Threads, given
from vlalign.errors import VlalignError

if TYPE_CHECKING:
    from vlalign.params.cards import EvaluatedModel, Suite

Models = Annotated[
    list[str] | None,
    typer.Option(help="Name in `models` of the params, folder, repository of the hub, or open_clip name; repeat."),
]
Pooling = Annotated[str | None, typer.Option(help="Of the models: average or default, where nothing says it.")]
Activation = Annotated[str | None, typer.Option(help="Of the models: gelu or quick-gelu, where nothing says it.")]
Data = Annotated[
    Path | None, typer.Option(help="Folder of the dataset, or where data of cards are kept, if not that of the params.")
]
Pretrained = Annotated[
    list[str] | None,
    typer.Option(
        help="Tag or file of weights of each --model that is an open_clip name or config, random ones if none has "
        "any; repeat."
    ),
]


def evaluate(
    changes: Changes = None,
    params: ParamsFiles = None,
    run: Annotated[Path | None, typer.Option(help="Folder of a run.")] = None,
    model: Models = None,
    pretrained: Pretrained = None,
    pooling: Pooling = None,
    activation: Activation = None,
    suite: Annotated[list[str] | None, typer.Option(help="Name of a suite of cards; repeat.")] = None,
    card: Annotated[list[str] | None, typer.Option(help="Name of a card; repeat.")] = None,
    task: Annotated[list[str] | None, typer.Option(help="Of each --card, only these tasks; repeat.")] = None,
    data: Data = None,
    files: Annotated[Path | None, typer.Option(help="Folder of data sets in their published form.")] = None,
    annotations: OwnAnnotations = None,
    output: OwnOutput = None,
    threads: Threads = 1,
) -> None:
    """Measure runs, or any other CLIP-like model, on the benchmarks of a dataset or on suites of cards.

    With --suite or --card, what is missing of the data is brought and kept in --data; the tables of all models stand in
    --output, as CSV, JSON, Markdown and LaTeX, and are shown at the end:

    vlalign evaluate --model ViT-B-32 --pretrained openai --suite zeroshot17 --data DATA --output OUT

    Without, the dataset of the params is measured, one JSON file for each benchmark, and a run whose metrics go into
    its own folder gets its model card.
    """
    import torch

    torch.set_num_threads(threads)
    told = given(params, changes, data=data, annotations=annotations, anywhere=True)
    chosen = _models(told, run, model or [], pretrained or [], {"pooling": pooling, "activation": activation})
    workers = threads if threads > 1 else 0
    if task and not card:
        raise VlalignError("--task chooses among the tasks of a --card; a suite has one already")
    if suite or card:
        _suites(told, chosen, _wanted(told, suite or [], card or [], task or []), files, output, workers)
        return
    by_hand = told.agree(None, "evaluate")
    if run is not None:
        measure_run(by_hand, run, data=data, output=output)
        return
    [(name, spec), *others] = chosen.items()
    if others:
        raise VlalignError("several models are measured on a --suite or --card; on a dataset, one --model at a time")
    measure_model(by_hand, name, spec, data=data, output=output)


def _models(
    told: Given, run: Path | None, names: list[str], weights: list[str], stated: dict[str, str | None]
) -> "dict[str, EvaluatedModel]":
    """What to open, by short names: the run, or each model in the params or as it was typed."""
    from vlalign.params.cards import EvaluatedModel
    from vlalign.reporting.evaluations import is_tower, model_named, name_of_folder

    if (run is None) == (not names):
        raise VlalignError("name what is measured: --run FOLDER, or --model once or several times")
    typed = [name for name in names if name not in told.params.models]
    if any(stated.values()) and not typed:
        raise VlalignError("--pooling and --activation are of a --model that the params do not name; `models` has them")
    towers = [name for name in typed if is_tower(name)]
    if weights and len(weights) != len(towers):
        raise VlalignError(
            f"--pretrained: {len(weights)} of them, but {len(towers)} of --model are open_clip names or configs "
            f"({', '.join(towers) or 'none'}); give one for each, in their order"
        )
    tags = iter(weights)
    found = {name: told.params.models[name] for name in names if name in told.params.models}
    every = [
        model_named(text, next(tags, None) if is_tower(text) else None, base=told.base, **stated) for text in typed
    ]
    if run is not None:
        every = [(name_of_folder(run), EvaluatedModel(folder=os.path.relpath(run, told.base)))]
    for name, spec in every:
        if name in found:
            raise VlalignError(f"--model: two of them are called {name}; give them names in `models` of the params")
        found[name] = spec
    return found


def _wanted(told: Given, suites: list[str], cards: list[str], tasks: list[str]) -> "list[Suite]":
    from vlalign.params.cards import read_card, read_suite, refuse_twice
    from vlalign.reporting.evaluations import suites_of_cards

    for option, names in (("--suite", suites), ("--card", cards), ("--task", tasks)):
        try:
            refuse_twice(option, names)
        except ValueError as error:
            raise VlalignError(str(error)) from None
    folders = [told.base / folder for folder in told.params.evaluation.cards]
    found = [read_suite(name, folders) for name in suites]
    return found + (suites_of_cards([read_card(name, folders) for name in cards], tasks) if cards else [])


def _suites(
    told: Given,
    models: "dict[str, EvaluatedModel]",
    suites: "list[Suite]",
    files: Path | None,
    output: Path | None,
    workers: int,
) -> None:
    """By hand: data, numbers and tables."""
    from vlalign.reporting.evaluations import evaluate_suites
    from vlalign.reporting.exports import show

    if output is None:
        raise VlalignError("give --output, a folder for the numbers and the tables")
    results = (told.folders.root / "results").resolve()
    if any(output.resolve().is_relative_to(results / name) for name in ("runs", "models")):
        raise VlalignError(f"--output {output} is the workflow's, which measures suites itself; give another folder")
    evaluation, own = told.params.evaluation, "data" in told.changes
    tables, failed = evaluate_suites(
        models,
        suites,
        data=told.folders.data if own else told.folders.cards,
        files=files or told.base / evaluation.files,
        output=output,
        evaluation=evaluation,
        published=told.params.report.published,
        base=told.base,
        workers=workers,
    )
    for table in tables:
        show(table)
    if failed:
        raise VlalignError("\n".join(("not measured, as the tables say:", *failed)))
