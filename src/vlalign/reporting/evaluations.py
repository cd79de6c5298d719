"""Models on suites of cards, without the workflow: data, numbers and tables in one go."""

import contextlib
import logging
import os
import re
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

import torch
from pydantic import ValidationError

from vlalign.errors import VlalignError
from vlalign.evaluation.cards import measure, obtain, subject_of
from vlalign.evaluation.metrics import read_folder, take_measured
from vlalign.evaluation.run import Execution
from vlalign.models.opened import OpenedModel, open_model
from vlalign.params import EvaluationParams, describe
from vlalign.params.cards import Card, EvaluatedModel, Suite
from vlalign.reporting.cells import Table
from vlalign.reporting.exports import write_all
from vlalign.reporting.suites import CELL, Subject, suite_table

logger = logging.getLogger(__name__)


def model_named(
    text: str, pretrained: str | None = None, *, base: Path = Path(), **stated: str | None
) -> tuple[str, EvaluatedModel]:
    """A short name and what to open, from what a person types: a folder, a repository of the hub, or a tower.

    text: `results/runs/clip/seed-0`, `owner/name` or `hf-hub:owner/name`, `ViT-B-32`, `towers.json`. pretrained: a tag
    or a file of weights, for a tower. base: folder from which paths of the result count. stated: `pooling` and
    `activation`, where they are stated.
    """
    plain = text.removeprefix("hf-hub:").removeprefix("local-dir:")
    if not text.startswith("hf-hub:") and Path(plain).is_dir():
        parts = Path(plain).resolve().parts
        name = "-".join(parts[-2:] if parts[-1].startswith("seed-") else parts[-1:])
        return _short(name), _model(text, {"folder": os.path.relpath(plain, base), **stated})
    if text.startswith("hf-hub:") or (plain.count("/") == 1 and not Path(plain).suffix and pretrained is None):
        return _short(plain.partition("/")[2]), _model(text, {"hub": plain, **stated})
    tower = os.path.relpath(text, base) if text.endswith(".json") else text
    name = f"{Path(text).stem if text.endswith('.json') else text}-{Path(pretrained).stem if pretrained else 'random'}"
    weights = os.path.relpath(pretrained, base) if pretrained and Path(pretrained).is_file() else pretrained
    return _short(name), _model(text, {"tower": tower, "pretrained": weights, **stated})


def _model(text: str, content: Mapping[str, Any]) -> EvaluatedModel:
    try:
        return EvaluatedModel.model_validate(content)
    except ValidationError as error:
        raise VlalignError(f"--model {text}: {describe(error, of=EvaluatedModel)}") from None


def _short(name: str) -> str:
    return re.sub(r"[^a-z0-9._-]+", "-", name.lower()).strip("-._") or "model"


def to_device(model: OpenedModel) -> OpenedModel:
    """The model on the GPU, where there is one."""
    model.encoder.to("cuda" if torch.cuda.is_available() else "cpu")
    return model


def execution_on(card: Card, evaluation: EvaluationParams, *, workers: int, features: Path) -> Execution:
    """How a card is measured; what `auto` stands for depends on the machine, and is recorded beside the numbers."""
    precision: str = evaluation.precision
    if precision == "auto":
        precision = "bf16" if torch.cuda.is_available() else "fp32"
    return Execution(workers=workers, precision=precision, features=features, templates=card.templates)


def measure_new(
    model: OpenedModel,
    card: Card,
    task: str,
    *,
    data: Path,
    output: Path,
    evaluation: EvaluationParams,
    execution: Execution,
    previous: Path | None = None,
) -> None:
    """`measure`, unless `output`, or where it was set aside, holds the very numbers that would come out."""
    about = subject_of(model, card, task, data=data, evaluation=evaluation, execution=execution)
    with contextlib.suppress(VlalignError):
        if read_folder(output)[0] == about:
            logger.info("%s, %s: measured before", card.name, task)
            return
    if take_measured(previous, output, about):
        return
    measure(model, card, task, data=data, output=output, evaluation=evaluation, execution=execution)


def evaluate_suites(
    models: Mapping[str, EvaluatedModel],
    suites: Sequence[Suite],
    *,
    data: Path,
    files: Path,
    output: Path,
    evaluation: EvaluationParams,
    base: Path = Path(),
    workers: int = 0,
) -> list[Table]:
    """Measure every model on every card, bring what is missing of the data, and write a table of each suite.

    models: what to open, by short names. data: folder in which the splits of cards are kept, each card in its own.
    files: folder with data sets in their published form. output: folder of the results, where a model has a folder of
    its own. base: folder from which paths of models count. A card whose data cannot be had keeps a line in its tables
    that says why.

    Returns the tables, which are also written as CSV, JSON, Markdown and LaTeX.
    Raises VlalignError for a model that cannot be opened, and when no card could be measured.
    """
    opened = {name: to_device(open_model(spec, base=base, key=name)) for name, spec in models.items()}
    cells = list({(suite.task, card.name): (suite.task, card) for suite in suites for card in suite.cards}.values())
    absent: dict[str, str] = {}
    for count, (task, card) in enumerate(cells, start=1):
        logger.info("%s, %s: %d of %d", card.title, task, count, len(cells))
        try:
            obtain(card, data / card.name, task, files=files)
            how = execution_on(card, evaluation, workers=workers, features=data / "features")
            for name, model in opened.items():
                place = output / name / CELL.format(task=task, card=card.name)
                measure_new(
                    model, card, task, data=data / card.name, output=place, evaluation=evaluation, execution=how
                )
        except VlalignError as error:
            logger.warning("%s is not measured: %s", card.name, error)
            absent[card.name] = str(error)
    if len(absent) == len({card.name for _, card in cells}):
        raise VlalignError("no card could be measured:\n" + "\n".join(f"{name}: {why}" for name, why in absent.items()))
    subjects = [Subject(name, (output / name,), trained_on=spec.trained_on) for name, spec in models.items()]
    tables = [suite_table(suite, subjects, absent) for suite in suites]
    for table in tables:
        write_all(table, output)
    return tables


def suites_of_cards(cards: Iterable[Card], tasks: Sequence[str]) -> list[Suite]:
    """Suites of single cards, one for each task of theirs that is wanted, or of all if none is."""
    cards = list(cards)
    wanted = dict.fromkeys(task for card in cards for task in card.tasks if not tasks or task in tasks)
    if missing := set(tasks) - set(wanted):
        known = dict.fromkeys(task for card in cards for task in card.tasks)
        raise VlalignError(f"--task {sorted(missing)[0]}: none of the cards is for it; they are for {', '.join(known)}")
    chosen = {task: [card.model_dump() for card in cards if task in card.tasks] for task in wanted}
    return [
        Suite.model_validate({"name": f"cards-{task}", "title": f"Cards, {task}", "task": task, "cards": some})
        for task, some in chosen.items()
    ]
