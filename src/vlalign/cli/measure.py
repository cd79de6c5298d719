"""`vlalign measure`."""

import os
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from vlalign.cli.options import Digest, Given, ParamsFiles, Previous, Threads, given
from vlalign.errors import VlalignError

if TYPE_CHECKING:
    from vlalign.params.cards import EvaluatedModel


def measure(
    params: ParamsFiles = None,
    run: Annotated[Path | None, typer.Option(help="Folder of a run.")] = None,
    model: Annotated[str | None, typer.Option(help="Name in `models` of the params.")] = None,
    card: Annotated[str | None, typer.Option(help="Name of a card of the suites, if not the dataset.")] = None,
    task: Annotated[str, typer.Option(help="Of the card.")] = "",
    threads: Threads = 1,
    previous: Previous = None,
    digest: Digest = None,
) -> None:
    """Measure a run or a model as one job of the workflow: on the dataset of the params, or one task on one card whose
    data are there.

    `vlalign evaluate` is for people: it brings data, measures several models on suites, and writes tables.
    """
    import torch

    torch.set_num_threads(threads)
    told = given(params)
    if (run is None) == (model is None):
        raise VlalignError("name what is measured: --run FOLDER or --model NAME")
    if model is not None and model not in told.params.models:
        raise VlalignError(f"--model {model}: `models` of the params has none of this name")
    told = told.agree(digest, "evaluate", card=card or "", task=task, model=model or "")
    if card is not None:
        _measure_card(told, run, model or "", card, task, previous, workers=threads if threads > 1 else 0)
    elif run is not None:
        measure_run(told, run, previous=previous)
    elif model is not None:
        measure_model(told, model, told.params.models[model], previous=previous)


def _measure_card(
    told: Given, run: Path | None, model: str, card: str, task: str, previous: Path | None, *, workers: int
) -> None:
    from vlalign.evaluation import cards
    from vlalign.evaluation.metrics import OF_CARD
    from vlalign.models.opened import open_model, to_device
    from vlalign.params.cards import EvaluatedModel

    evaluation, folders = told.params.evaluation, told.folders
    if card not in told.params.cards:
        raise VlalignError(f"--card {card}: no suite of the params has it")
    found, place = told.params.cards[card], (run or folders.model(model)) / OF_CARD.format(task=task, card=card)
    spec = EvaluatedModel(folder=os.path.relpath(run, told.base)) if run else told.params.models[model]
    opened = to_device(open_model(spec, base=told.base, key=f"models.{model}"))
    execution = cards.execution_on(found, evaluation, workers=workers, features=folders.features)
    how: dict[str, Any] = {"data": folders.cards / card, "evaluation": evaluation, "execution": execution}
    cards.measure(opened, found, task, output=place, previous=previous, **how)


def measure_run(
    told: Given, run: Path, *, data: Path | None = None, output: Path | None = None, previous: Path | None = None
) -> None:
    """A run on the dataset of the params; its model card too, where its metrics go into its own folder."""
    from vlalign.evaluation.metrics import take_measured
    from vlalign.evaluation.run import Execution, evaluate, subject
    from vlalign.reporting.card import has_card, write_card

    output = told.output(output, run / "metrics")
    # Before the long measuring: what is wrong with the run's record would be found after it.
    carded = output.resolve() == (run / "metrics").resolve() and has_card(run)
    asked = _asked(told, data)
    if not take_measured(previous, output, subject(run, **asked)):
        # Runs on the same frozen towers share what these give; of other runs nothing is kept.
        evaluate(run, **asked, output_dir=output, execution=Execution(features=told.folders.features))
    if carded:
        write_card(run)


def measure_model(
    told: Given,
    name: str,
    spec: "EvaluatedModel",
    *,
    data: Path | None = None,
    output: Path | None = None,
    previous: Path | None = None,
) -> None:
    """A model that was not trained here on the dataset of the params."""
    from vlalign.evaluation.metrics import take_measured
    from vlalign.evaluation.run import evaluate, subject
    from vlalign.models.opened import open_model, to_device

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
