"""The metric files of one run, and their content as numbers by path."""

import contextlib
import json
import math
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

from vlalign.errors import VlalignError
from vlalign.files import read_json, write_json
from vlalign.previous import EVALUATION, RUN, slots, take_back
from vlalign.records import check_record, read_record, stamps, write_record

# The one key of the file of a benchmark that could not be measured; its value is the reason.
NOT_MEASURED = "not_measured"


def write_metrics(folder: Path, scores: Mapping[str, Any], *, measured: Mapping[str, Any]) -> None:
    """Write `<benchmark>.json` for the scores of each, and last `evaluation.json`, which vouches for them.

    measured: of what the scores are, such as the SHA-256 of the weights.
    """
    # What was measured of another model, or on other data, must not stand beside this; files of others stay.
    for stale in _measured_before(folder) - {f"{name}.json" for name in scores}:
        (folder / stale).unlink(missing_ok=True)
    for name, values in scores.items():
        write_json(folder / f"{name}.json", values)
    files = stamps(folder, (f"{name}.json" for name in scores))
    write_record(folder / EVALUATION, {"measured": measured, "files": files})


def _measured_before(folder: Path) -> set[str]:
    """Names of the metric files that an earlier evaluation has written into a folder."""
    with contextlib.suppress(VlalignError, AttributeError):
        return {name for name in read_record(folder / EVALUATION).get("files", {}) if Path(name).name == name}
    return set()


def take_measured(previous: Path | None, folder: Path, measured: Mapping[str, Any]) -> bool:
    """Put the metric files that were set aside back into `folder`, if they are scores of the same."""
    for slot in slots(previous, EVALUATION) if previous is not None else ():
        with contextlib.suppress(VlalignError):
            if read_record(slot / EVALUATION).get("measured") == measured:
                return take_back(slot, folder, record=EVALUATION)
    return False


def read_metrics(directory: Path) -> Iterator[tuple[str, float]]:
    """`<benchmark>.<path>.<metric>` and value of every number below `metrics/` of a run's folder.

    Raises VlalignError for a value that is no finite number, and for a file that was changed since it was measured,
    and when nothing was measured.
    """
    for file, values in _files(directory):
        if _reason(values) is None:
            yield from numbers(values, prefix=file.stem, file=file)


def check_comparable(run_dirs: Sequence[Path]) -> None:
    """Raises VlalignError when runs were measured on different splits, or on different states of the data."""
    seen: dict[str, Path] = {}
    for directory in run_dirs:
        path = directory / "metrics" / EVALUATION
        measured = read_record(path).get("measured", {}) if path.is_file() else {}
        data = measured.get("data")
        if isinstance(data, Mapping):
            seen.setdefault(json.dumps([measured.get("split"), sorted(map(str, data.values()))]), directory)
    if len(seen) > 1:
        one, other = list(seen.values())[:2]
        raise VlalignError(
            f"{one} and {other} were not measured on the same data; delete {other}/metrics and run the workflow again"
        )


def read_reasons(directory: Path) -> dict[str, str]:
    """Benchmark -> why it could not be measured, of a run's folder."""
    reasons = {file.stem: _reason(values) for file, values in _files(directory)}
    return {benchmark: reason for benchmark, reason in reasons.items() if reason is not None}


def _files(directory: Path) -> Iterator[tuple[Path, Any]]:
    """The metric files that the run's evaluation vouches for, with their content."""
    folder = directory / "metrics"
    if not (folder / EVALUATION).exists():
        raise VlalignError(f"{directory} holds no metrics; evaluate the run first")
    record = check_record(folder / EVALUATION, remedy=f"delete {folder} and run the workflow again")
    weights = record.get("measured", {}).get("weights")
    if weights is not None and (directory / RUN).is_file():
        trained = read_record(directory / RUN).get("files", {}).get("model.safetensors", {}).get("sha256", weights)
        if trained != weights:
            raise VlalignError(f"{folder} was measured of other weights; delete {folder} and run the workflow again")
    for name in sorted(record["files"]):
        if (folder / name).parent == folder:
            yield folder / name, read_json(folder / name)


def _reason(values: Any) -> str | None:
    if isinstance(values, dict) and isinstance(values.get(NOT_MEASURED), str) and len(values) == 1:
        return values[NOT_MEASURED]
    return None


def numbers(value: Any, *, prefix: str, file: Path) -> Iterator[tuple[str, float]]:
    """`<prefix>.<path>` and value of every number in a file's content; raises VlalignError for anything else."""
    if isinstance(value, dict):
        for key, inner in value.items():
            yield from numbers(inner, prefix=f"{prefix}.{key}", file=file)
    elif isinstance(value, bool) or not isinstance(value, int | float) or not math.isfinite(value):
        raise VlalignError(f"{file}: {prefix} is {value!r}, not a finite number; delete the file and evaluate again")
    else:
        yield prefix, float(value)
