"""Where messages and progress bars go: standard error, so that standard output stays for results."""

import contextlib
from collections.abc import Callable, Iterator

from rich.console import Console
from rich.progress import Progress

console = Console(stderr=True)
# Characters of a line where no terminal says how many fit: what nobody looks at is not folded.
WIDE = 200


def terminal() -> Console:
    """Standard output, for tables."""
    found = Console()
    return found if found.is_terminal else Console(width=WIDE)


@contextlib.contextmanager
def progress(title: str, *, total: int | None) -> Iterator[Callable[[int], None]]:
    """A bar on the terminal, nothing elsewhere; yields the function that advances it by a number."""
    with Progress(console=console, disable=not console.is_terminal) as bar:
        task = bar.add_task(title, total=total)
        yield lambda count: bar.advance(task, count)
