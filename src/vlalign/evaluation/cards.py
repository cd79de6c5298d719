"""Models on the data sets of cards: from where a card says the data are to numbers that say what they are."""

import contextlib
import logging
import os
from pathlib import Path
from typing import Any

import torch

from vlalign.data.shards.class_files import class_file
from vlalign.data.shards.manifest import verify_split
from vlalign.data.shards.obtain import bring
from vlalign.data.shards.split import read_manifest
from vlalign.errors import VlalignError
from vlalign.evaluation.benchmark import known_benchmarks, manifest_of
from vlalign.evaluation.hard_negatives import read_category
from vlalign.evaluation.metrics import read_folder, take_measured
from vlalign.evaluation.prompts import read_classnames
from vlalign.evaluation.run import Execution, evaluate, subject
from vlalign.models.opened import OpenedModel
from vlalign.params import EvaluationParams, digest
from vlalign.params.cards import VERIFY, Card
from vlalign.params.data import CLASS_FILES, needs_of_split
from vlalign.params.sources import Source
from vlalign.records import read_record

logger = logging.getLogger(__name__)


def obtain(card: Card, folder: Path, task: str, *, files: Path) -> None:
    """Bring and verify the splits of a card that a task reads and that are not there yet, or from another source, below
    `folder`.

    files: folder from which the paths of data sets in their published form count.
    Raises VlalignError when a source is absent or not as it should be, with the place where it is to be had.
    """
    for place, source in card.places(task).items():
        if _is_from(source, folder / place / "manifest.json"):
            continue
        os.environ.update(source.secrets())
        key = f"card {card.name}: sources.{Path(place).name}"
        try:
            bring(source, folder / place, base=files, key=key, classes=place.startswith("zeroshot/"))
            verify_split(folder / place, VERIFY, needs=needs_of_split(place))
        except VlalignError as error:
            raise VlalignError(f"{error}. {card.title}: {card.homepage or 'see its card'}") from None


def _is_from(source: Source, manifest: Path) -> bool:
    """Whether a split was brought from this source; the folder that its paths count from may have been another."""
    if not manifest.is_file():
        return False
    recorded = read_record(manifest)["source"]

    def same(key: str, wanted: Any) -> bool:
        found = recorded.get(key)
        if key not in source.path_keys or not (found and wanted):
            return bool(found == wanted)
        ends, paths = ([one] if isinstance(one, str) else one for one in (wanted, found))
        return len(ends) == len(paths) and all(map(_ends_with, paths, ends))

    return all(same(key, wanted) for key, wanted in source.shown().items())


def _ends_with(path: str, end: str) -> bool:
    parts = Path(end).parts
    return Path(path).parts[-len(parts) :] == parts


def counts(card: Card, folder: Path) -> dict[str, int]:
    """How many images, captions, classes and hard negatives the measured split has.

    Raises VlalignError where a published count is another.
    """
    kind = known_benchmarks()[card.tasks[0]].needs.split[0]
    path = manifest_of(kind, card.split, data=folder, annotations=None)
    assert path is not None
    manifest = read_manifest(path.parent)
    found = {"images": manifest["samples"]}
    if kind == "pairs":
        found["captions"] = manifest["captions"]
    elif kind == "classes":
        found["classes"] = len(read_classnames(class_file(path.parent, CLASS_FILES[0])))
    elif kind == "composition":
        found["items"] = sum(
            len(read_category(path.parent / name)) for name in manifest["files"] if name.endswith(".json")
        )
    for name, published in card.counts.model_dump(exclude_none=True).items():
        if found.get(name, published) != published:
            raise VlalignError(
                f"{path.parent} has {found[name]:,} {name}, but {card.title} was published with {published:,}, and "
                f"numbers would not compare; delete {path.parent} and run again with the whole split, or correct "
                f"`counts.{name}` of card {card.name}"
            )
    return found


def execution_on(card: Card, evaluation: EvaluationParams, *, workers: int, features: Path) -> Execution:
    """How a card is measured; what `auto` stands for depends on the machine, and is recorded beside the numbers."""
    precision: str = evaluation.precision
    if precision == "auto":
        precision = "bf16" if torch.cuda.is_available() else "fp32"
    return Execution(workers=workers, precision=precision, features=features, templates=card.templates)


def measure(
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
    """Measure one task on the data set of one card, and write its metrics into `output`; not again where `output`, or
    the folder in which it was set aside, holds the very numbers that would come out.

    data: folder of the card, where `obtain` has put its splits. evaluation: params of tasks, and the size of batches.
    Raises VlalignError when the data are absent, or their counts are not those that were published.
    """
    told = {
        "card": card.name,
        "card_digest": digest(card.measured()),
        "task": task,
        "counts": counts(card, data),
        "protocol": known_benchmarks()[task].protocol,
        "precision": execution.precision,
        "source": model.source,
        "commit": model.commit,
    }
    settings = evaluation.model_copy(update={"benchmarks": (task,), "split": card.split})
    about = {**subject(model, data=data, annotations=None, settings=settings), **told}
    with contextlib.suppress(VlalignError):
        if read_folder(output)[0] == about:
            logger.info("%s, %s: measured before", card.name, task)
            return
    if not take_measured(previous, output, about):
        evaluate(model, data=data, output_dir=output, settings=settings, execution=execution, told=told)
