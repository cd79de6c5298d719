"""Whether the files and folders that a dataset's sources name are there, before anything runs."""

from collections.abc import Iterator

from vlalign.errors import VlalignError
from vlalign.params import Params
from vlalign.params.sources import Source


def check_sources(params: Params) -> None:
    """Look for what the dataset in use names on this disk; relative paths count from the working directory.

    Raises VlalignError that names the key of everything missing: files, folders, shards, columns of tables.
    """
    held_out = getattr(params.data, "hold_out", {})
    given = {split.replace("/", "."): source for split, source in params.sources.items() if split not in held_out}
    if mistakes := [mistake for key, source in given.items() for mistake in _missing(key, source)]:
        lines = (f"datasets.{params.dataset}.{mistake}" for mistake in mistakes)
        raise VlalignError("the data are not all there:\n" + "\n".join(lines))


def _missing(key: str, source: Source) -> Iterator[str]:
    for name, look in source.checks().items():
        try:
            look()
        except VlalignError as error:
            yield f"{key}.{name}: {error}"
        except OSError as error:
            yield f"{key}.{name}: {error}; correct it"
