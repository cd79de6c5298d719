"""Files of metrics: those of one run, and those that are collected from all."""

import contextlib
import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple

from pydantic import Field, ValidationError

from vlalign.errors import VlalignError
from vlalign.evaluation.benchmark import MetricRow
from vlalign.files import atomic_tensors, read_json, write_json
from vlalign.params.base import Strict, describe
from vlalign.previous import EVALUATION, RUN, slots, take_back
from vlalign.records import REMEDY, check_record, read_record, stamps, write_record

# What every item scored, of all metrics that are means over items.
ITEMS = "items.safetensors"
# Between the parts of a name there, none of which holds one.
TAB = "\t"
# Folder of the metrics of one task on one card, below that of the model.
OF_CARD = "benchmarks/{task}/{card}"
# Benchmark, metric, group and stratum.
Place = tuple[str, str, str, str]


class Items(NamedTuple):
    """What every item scored, 0-1, and the blocks whose means are averaged, if there are any; both of shape [N]."""

    scores_N: Any
    blocks_N: Any = None


class Measurement(Strict, strict=True):
    """What came of one benchmark: rows, or the reason why it could not be measured. A file of metrics holds one."""

    rows: list[MetricRow] = Field(default=[])
    not_measured: str | None = None

    def content(self) -> dict[str, Any]:
        """As plain values."""
        if self.not_measured is not None:
            return {"not_measured": self.not_measured}
        return {"rows": [row.model_dump() for row in self.rows]}


def measurement(content: Any, file: Path) -> Measurement:
    """The content of a file of metrics; raises VlalignError that names the key at fault."""
    try:
        return Measurement.model_validate(content)
    except ValidationError as error:
        raise VlalignError(f"{file} does not hold metrics; {REMEDY}:\n{describe(error, of=Measurement)}") from None


def read_collected(path: str | Path) -> list[MetricRow]:
    """The rows of all runs, as `vlalign collect` writes them; raises VlalignError when the file is none of those."""
    rows = measurement(read_record(path), Path(path)).rows
    if any(not row.run or row.seed is None for row in rows):
        raise VlalignError(f"{path} has rows without `run` or `seed`; {REMEDY}")
    places = {(row.run, row.seed, *row.place) for row in rows}
    if len(places) < len(rows) or any(not row.benchmark for row in rows):
        raise VlalignError(f"{path} has rows without `benchmark`, or one that stands there twice; {REMEDY}")
    return rows


def write_metrics(
    folder: Path,
    scores: Mapping[str, Measurement],
    items: Mapping[Place, Items],
    *,
    measured: Mapping[str, Any],
) -> None:
    """Write `<benchmark>.json` for each measurement, `items.safetensors`, and last `evaluation.json`, which vouches for
    them.

    items: what each item scored, by what `MetricRow.place` says. measured: of what the scores are, such as the SHA-256
    of the weights.
    """
    # What was measured of another model, or on other data, must not stand beside this; files of others stay.
    with contextlib.suppress(VlalignError, AttributeError):
        before = {name for name in read_record(folder / EVALUATION).get("files", {}) if Path(name).name == name}
        for stale in before - {f"{name}.json" for name in scores}:
            (folder / stale).unlink(missing_ok=True)
    for name, found in scores.items():
        write_json(folder / f"{name}.json", found.content())
    _write_items(folder / ITEMS, items)
    files = stamps(folder, [ITEMS, *(f"{name}.json" for name in scores)])
    write_record(folder / EVALUATION, {"measured": measured, "files": files})


def _write_items(path: Path, items: Mapping[Place, Items]) -> None:
    from safetensors.numpy import save_file

    found = {TAB.join(place): one.scores_N for place, one in items.items()}
    found |= {TAB.join((*place, "blocks")): one.blocks_N for place, one in items.items() if one.blocks_N is not None}
    with atomic_tensors(path) as temporary:
        save_file(found, temporary)


def read_items(folder: Path) -> dict[Place, Items]:
    """What every item scored, by benchmark, metric, group and stratum, from a folder of metrics.

    Raises VlalignError when nothing was measured there, and for files that were changed since.
    """
    from safetensors import SafetensorError
    from safetensors.numpy import load_file

    if not (folder / EVALUATION).exists():
        raise VlalignError(f"{folder} holds no metrics; evaluate the model first")
    if ITEMS not in check_record(folder / EVALUATION)["files"]:
        raise VlalignError(f"{folder} holds no {ITEMS}; delete the folder and evaluate the model again")
    try:
        found = load_file(folder / ITEMS)
    except (SafetensorError, ValueError) as error:
        raise VlalignError(f"{folder / ITEMS} cannot be read ({error}); {_again(folder)}") from None
    names = {tuple(name.split(TAB)): name for name in found}
    return {
        place: Items(found[name], found.get(f"{name}{TAB}blocks")) for place, name in names.items() if len(place) == 4
    }


def take_measured(previous: Path | None, folder: Path, measured: Mapping[str, Any]) -> bool:
    """Put the metric files that were set aside back into `folder`, if they are scores of the same."""
    for slot in slots(previous, EVALUATION) if previous is not None else ():
        with contextlib.suppress(VlalignError):
            if read_record(slot / EVALUATION).get("measured") == measured:
                return take_back(slot, folder, record=EVALUATION)
    return False


def read_metrics(directory: Path) -> dict[str, Measurement]:
    """What was measured of a run, from its folder, by benchmark.

    Raises VlalignError for a file that was changed since it was measured, or is no file of metrics, and when nothing
    was measured.
    """
    folder = directory / "metrics"
    if not (folder / EVALUATION).exists():
        raise VlalignError(f"{directory} holds no metrics; evaluate the run first")
    measured, found = read_folder(folder)
    weights = measured.get("weights")
    if weights is not None and (directory / RUN).is_file():
        try:
            trained = read_record(directory / RUN)["files"]["model.safetensors"]["sha256"]
        except (KeyError, TypeError):
            trained = weights
        if trained != weights:
            raise VlalignError(f"{folder} was measured of other weights; {_again(folder)}")
    return found


def read_folder(folder: Path) -> tuple[Mapping[str, Any], dict[str, Measurement]]:
    """Of what the scores in a folder of metrics are, and what was measured, by benchmark; see `read_metrics`."""
    record = check_record(folder / EVALUATION, remedy=_again(folder))
    measured = _measured(record, folder / EVALUATION)
    names = (name for name in sorted(record["files"]) if name != ITEMS)
    files = [folder / name for name in names if (folder / name).parent == folder]
    return measured, {file.stem: measurement(read_json(file), file) for file in files}


def _again(folder: Path) -> str:
    return f"delete {folder} and run the workflow again"


def check_comparable(run_dirs: Sequence[Path]) -> None:
    """Raises VlalignError when runs were measured on different splits, or on different states of the data."""
    seen: dict[str, Path] = {}
    for directory in run_dirs:
        path = directory / "metrics" / EVALUATION
        measured = _measured(read_record(path), path) if path.is_file() else {}
        data = measured.get("data")
        if isinstance(data, Mapping):
            seen.setdefault(json.dumps([measured.get("split"), sorted(map(str, data.values()))]), directory)
    if len(seen) > 1:
        one, other = list(seen.values())[:2]
        raise VlalignError(
            f"{one} and {other} were not measured on the same data; delete {other}/metrics and run the workflow again"
        )


def _measured(record: Mapping[str, Any], file: Path) -> Mapping[str, Any]:
    """Of what the scores are that an evaluation vouches for."""
    measured = record.get("measured")
    if not isinstance(measured, Mapping):
        raise VlalignError(f"{file}: `measured` is no mapping; delete {file.parent} and run the workflow again")
    return measured
