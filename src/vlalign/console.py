"""Where messages and progress bars go: standard error, so that standard output stays for results."""

import contextlib
from collections.abc import Callable, Iterator

from rich.console import Console
from rich.progress import Progress

console = Console(stderr=True)


@contextlib.contextmanager
def progress(title: str, *, total: int | None) -> Iterator[Callable[[int], None]]:
    """A bar on the terminal, nothing elsewhere; yields the function that advances it by a number."""
    with Progress(console=console, disable=not console.is_terminal) as bar:
        task = bar.add_task(title, total=total)
        yield lambda count: bar.advance(task, count)
