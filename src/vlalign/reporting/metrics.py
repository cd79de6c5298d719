"""The metric files of one run as numbers by path."""

import math
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from vlalign.errors import VlalignError
from vlalign.files import read_json


def read_metrics(directory: Path) -> Iterator[tuple[str, float]]:
    """`<benchmark>.<path>.<metric>` and value of every number below `metrics/` of a run's folder.

    Raises VlalignError for a value that is no finite number.
    """
    for file in sorted((directory / "metrics").glob("*.json")):
        yield from _flatten(read_json(file), prefix=file.stem, file=file)


def _flatten(value: Any, *, prefix: str, file: Path) -> Iterator[tuple[str, float]]:
    if isinstance(value, dict):
        for key, inner in value.items():
            yield from _flatten(inner, prefix=f"{prefix}.{key}", file=file)
    elif isinstance(value, bool) or not isinstance(value, int | float) or not math.isfinite(value):
        raise VlalignError(f"{file}: {prefix} is {value!r}, not a finite number; delete the file and evaluate again")
    else:
        yield prefix, float(value)
