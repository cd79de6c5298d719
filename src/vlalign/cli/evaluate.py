"""`vlalign evaluate`."""

import os
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from vlalign.cli.options import Changes, Digest, Given, OwnAnnotations, OwnOutput, ParamsFiles, Previous, given
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
    threads: Annotated[int, typer.Option(min=1, help="CPU threads.")] = 1,
    previous: Previous = None,
    digest: Digest = None,
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
        if digest is not None:
            _cell(told, chosen, run, (card or [""])[0], (task or [""])[0], previous, digest, workers)
            return
        _suites(told, chosen, _wanted(told, suite or [], card or [], task or []), files, output, workers)
    elif run is not None:
        _run(told.agree(digest, "evaluate"), run, data, output, previous)
    else:
        [(name, spec), *others] = chosen.items()
        if others:
            raise VlalignError(
                "several models are measured on a --suite or --card; on a dataset, one --model at a time"
            )
        _model(told.agree(digest, "evaluate", model=name if digest else ""), name, spec, data, output, previous)


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
    from vlalign.params.cards import read_card, read_suite
    from vlalign.reporting.evaluations import suites_of_cards

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


def _cell(
    told: Given,
    models: "dict[str, EvaluatedModel]",
    run: Path | None,
    card: str,
    task: str,
    previous: Path | None,
    digest: str,
    workers: int,
) -> None:
    """In the workflow: one task on one card."""
    from vlalign.evaluation.cards import measure
    from vlalign.models.opened import open_model
    from vlalign.reporting.evaluations import execution_on, to_device
    from vlalign.reporting.suites import CELL

    [(name, spec)] = models.items()
    told.agree(digest, "evaluate", card=card, task=task, model="" if run else name)
    evaluation, folders, found = told.params.evaluation, told.folders, told.params.cards[card]
    place = (run or folders.model(name)) / CELL.format(task=task, card=card)
    opened = to_device(open_model(spec, base=told.base, key=f"models.{name}"))
    execution = execution_on(found, evaluation, workers=workers, features=folders.features)
    how: dict[str, Any] = {"data": folders.cards / card, "evaluation": evaluation, "execution": execution}
    measure(opened, found, task, output=place, previous=previous, **how)


def _run(told: Given, run: Path, data: Path | None, output: Path | None, previous: Path | None) -> None:
    """One run on the dataset of the params."""
    from vlalign.evaluation.metrics import take_measured
    from vlalign.evaluation.run import evaluate, subject
    from vlalign.reporting.card import has_card, write_card

    output = told.output(output, run / "metrics")
    # Before the long measuring: what is wrong with the run's record would be found after it.
    carded = output.resolve() == (run / "metrics").resolve() and has_card(run)
    asked = _asked(told, data)
    if not take_measured(previous, output, subject(run, **asked)):
        evaluate(run, **asked, output_dir=output)
    if carded:
        write_card(run)


def _model(
    told: Given, name: str, spec: "EvaluatedModel", data: Path | None, output: Path | None, previous: Path | None
) -> None:
    """A model that was not trained here on the dataset of the params."""
    from vlalign.evaluation.metrics import take_measured
    from vlalign.evaluation.run import evaluate, subject
    from vlalign.models.opened import open_model
    from vlalign.reporting.evaluations import to_device

    if output is None and name not in told.params.models:
        raise VlalignError("give --output, a folder for the numbers of a model that the params do not name")
    output = told.output(output, told.folders.model(name) / "metrics")
    model, asked = to_device(open_model(spec, base=told.base, key=f"models.{name}")), _asked(told, data)
    if not take_measured(previous, output, subject(model, **asked)):
        evaluate(model, **asked, output_dir=output, told={"source": model.source, "commit": model.commit})


def _asked(told: Given, data: Path | None) -> dict[str, Any]:
    settings = told.params.evaluation
    if data is None:
        settings = settings.model_copy(update={"benchmarks": told.params.benchmarks})
    return {"data": told.folders.data, "annotations": told.folders.annotations, "settings": settings}
