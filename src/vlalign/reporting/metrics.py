"""The metric files of one run as numbers by path."""

import math
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from vlalign.errors import VlalignError
from vlalign.files import read_json

# The one key of the file of a benchmark that could not be measured; its value is the reason.
NOT_MEASURED = "not_measured"


def read_metrics(directory: Path) -> Iterator[tuple[str, float]]:
    """`<benchmark>.<path>.<metric>` and value of every number below `metrics/` of a run's folder.

    Raises VlalignError for a value that is no finite number.
    """
    for file in sorted((directory / "metrics").glob("*.json")):
        values = read_json(file)
        if _reason(values) is None:
            yield from numbers(values, prefix=file.stem, file=file)


def read_reasons(directory: Path) -> dict[str, str]:
    """Benchmark -> why it could not be measured, of a run's folder."""
    reasons = {file.stem: _reason(read_json(file)) for file in sorted((directory / "metrics").glob("*.json"))}
    return {benchmark: reason for benchmark, reason in reasons.items() if reason is not None}


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
