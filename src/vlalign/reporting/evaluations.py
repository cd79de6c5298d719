"""Models on suites of cards, without the workflow: data, numbers and tables in one go."""

import logging
import os
import re
from collections.abc import Iterable, Mapping, Sequence
from difflib import get_close_matches
from pathlib import Path
from typing import NamedTuple

import open_clip
from pydantic import ValidationError

from vlalign.errors import VlalignError
from vlalign.evaluation.cards import execution_on, measure, obtain
from vlalign.evaluation.metrics import OF_CARD
from vlalign.files import check_writable
from vlalign.models.opened import open_model, to_device
from vlalign.params import EvaluationParams, describe
from vlalign.params.cards import Card, EvaluatedModel, Suite
from vlalign.reporting.cells import Table
from vlalign.reporting.exports import write_all
from vlalign.reporting.suites import Subject, suite_table

logger = logging.getLogger(__name__)
# As open_clip writes where a model is.
HUB, FOLDER = "hf-hub:", "local-dir:"


def is_tower(text: str) -> bool:
    """Whether a person who types this means towers, whose weights are given beside it: an open_clip name or a JSON file
    of a config, and neither a folder nor a repository of the hub.
    """
    if text.startswith((HUB, FOLDER)) or Path(text).is_dir():
        return False
    return text.endswith(".json") or text.count("/") != 1 or text.replace("/", "-") in open_clip.list_models()


def model_named(
    text: str, pretrained: str | None = None, *, base: Path = Path(), **stated: str | None
) -> tuple[str, EvaluatedModel]:
    """A short name and what to open, from what a person types: a folder, a repository of the hub, or a tower.

    text: `results/runs/clip/seed-0`, `owner/name` or `hf-hub:owner/name`, `ViT-B-32`, `towers.json`. pretrained: a tag
    or a file of weights, for a tower. base: folder from which paths of the result count. stated: `pooling` and
    `activation`, where they are stated.
    Raises VlalignError for what no model is called.
    """
    plain = text.removeprefix(HUB).removeprefix(FOLDER)
    if not plain.strip() or (Path(plain).is_file() and not plain.endswith(".json")):
        raise VlalignError(
            f"--model '{text}' is {'a file' if plain.strip() else 'empty'}; give a folder, or --pretrained FILE beside "
            "the --model of its towers, an open_clip name or a config"
        )
    content: dict[str, str | None]
    if is_tower(text):
        _check_tower(text)
        tower = os.path.relpath(text, base) if text.endswith(".json") else text
        weights = os.path.relpath(pretrained, base) if pretrained and Path(pretrained).is_file() else pretrained
        stem = Path(text).stem if text.endswith(".json") else text
        name = f"{stem}-{Path(pretrained).stem if pretrained else 'random'}"
        content = {"tower": tower, "pretrained": weights}
    elif text.startswith(HUB) or not Path(plain).is_dir():
        name, content = plain.rpartition("/")[2], {"hub": plain}
    else:
        name, content = name_of_folder(Path(plain)), {"folder": os.path.relpath(plain, base)}
    try:
        return _short(name), EvaluatedModel.model_validate({**content, **stated})
    except ValidationError as error:
        raise VlalignError(f"--model {text}: {describe(error, of=EvaluatedModel)}") from None


def name_of_folder(folder: Path) -> str:
    """`clip-seed-0` for that of a run, else the folder's own name."""
    parts = folder.resolve().parts
    return _short("-".join(parts[-2:] if parts[-1].startswith("seed-") else parts[-1:]))


def _check_tower(text: str) -> None:
    known = open_clip.list_models()
    if not text.endswith(".json") and text.replace("/", "-") not in known:
        near = ", ".join(get_close_matches(text, known, n=3)) or "open_clip.list_models() names them all"
        raise VlalignError(
            f"--model {text}: there is no such folder, it is no repository of the hub (owner/name), and no towers of "
            f"open_clip are called so; nearest: {near}"
        )


def _short(name: str) -> str:
    return re.sub(r"[^a-z0-9._-]+", "-", name.lower()).strip("-._") or "model"


class Evaluated(NamedTuple):
    """A table of each suite, and what went wrong while measuring; of data that cannot be had the tables tell alone."""

    tables: list[Table]
    failed: list[str]


def evaluate_suites(
    models: Mapping[str, EvaluatedModel],
    suites: Sequence[Suite],
    *,
    data: Path,
    files: Path,
    output: Path,
    evaluation: EvaluationParams,
    published: Mapping[str, str] | None = None,
    base: Path = Path(),
    workers: int = 0,
) -> Evaluated:
    """Measure every model on every card, bring what is missing of the data, and write a table of each suite.

    models: what to open, by short names. data: folder in which the splits of cards are kept, each card in its own.
    files: folder with data sets in their published form. output: folder of the results, where a model has a folder of
    its own. published: methods whose published numbers stand beside models. base: folder from which paths of models
    count. What cannot be had or measured keeps its place in the tables, which say why, and the rest is measured.

    The tables are also written as CSV, JSON, Markdown and LaTeX.
    Raises VlalignError for a model that cannot be opened, when the data of no card can be had, and when `output` cannot
    be written to.
    """
    check_writable(output)
    opened = {name: to_device(open_model(spec, base=base, key=name)) for name, spec in models.items()}
    cells = list({(suite.task, card.name): (suite.task, card) for suite in suites for card in suite.cards}.values())
    absent: dict[tuple[str, str], str] = {}
    failed: dict[tuple[str, str, str], str] = {}
    for count, (task, card) in enumerate(cells, start=1):
        logger.info("%s, %s: %d of %d", card.title, task, count, len(cells))
        try:
            obtain(card, data / card.name, task, files=files)
        except VlalignError as error:
            logger.warning("%s is not measured: %s", card.name, error)
            absent[task, card.name] = str(error)
            continue
        how = execution_on(card, evaluation, workers=workers, features=data / "features")
        for name, model in opened.items():
            place = output / name / OF_CARD.format(task=task, card=card.name)
            logger.info("%s on %s", name, card.name)
            try:
                measure(model, card, task, data=data / card.name, output=place, evaluation=evaluation, execution=how)
            except VlalignError as error:
                logger.warning("%s on %s is not measured: %s", name, card.name, error)
                failed[name, task, card.name] = str(error)
    if len(absent) == len(cells):
        raise VlalignError("no card can be had:\n" + "\n".join(f"{card}: {why}" for (_, card), why in absent.items()))
    tables = []
    for suite in suites:
        missing = {(name, card): why for (task, card), why in absent.items() if task == suite.task for name in models}
        missing |= {(name, card): why for (name, task, card), why in failed.items() if task == suite.task}
        subjects = [
            Subject(name, (output / name,), (published or {}).get(name, ""), spec.trained_on)
            for name, spec in models.items()
        ]
        tables.append(suite_table(suite, subjects, missing))
        write_all(tables[-1], output)
    return Evaluated(tables, [f"{name}, {card}: {why}" for (name, _, card), why in failed.items()])


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
