"""The CSV file that `vlalign precision` writes."""

from pathlib import Path
from typing import TYPE_CHECKING

from vlalign.errors import VlalignError

if TYPE_CHECKING:
    from pandas import DataFrame

# What is read of it: columns of text, and of numbers, which are empty where an aggregator has no such param.
TEXTS = ("features", "aggregator", "direction")
NUMBERS = ("tau", "zeta", "regions", "samples", "error_relative", "bound_relative")


def read_precision(path: Path) -> "DataFrame":
    """A row for every setting; raises VlalignError when the file is none of those."""
    import pandas as pd

    try:
        table = pd.read_csv(path)
    except (FileNotFoundError, ValueError) as error:
        raise VlalignError(f"{path} is no table ({str(error).strip()}); delete it and measure again") from None
    if missing := {*TEXTS, *NUMBERS} - set(table.columns):
        raise VlalignError(f"{path} lacks the columns {', '.join(sorted(missing))}; delete it and measure again")
    if not all(pd.api.types.is_numeric_dtype(table[name]) for name in NUMBERS):
        raise VlalignError(f"{path} has text among its numbers; delete it and measure again")
    return table
