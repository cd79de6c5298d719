"""One command per rule of the workflow, and a few for people.

A command is the function of a module of this package that has the module's name, with hyphens where that has
underscores. Only the one that is called is imported, and what it needs when it runs, so that `--help` answers at once.
"""

import errno
import importlib
import logging
import os
import pkgutil
import sys
import traceback
from pathlib import Path
from typing import Any, NoReturn

import typer
from rich.logging import RichHandler
from rich.text import Text
from typer.core import TyperGroup

from vlalign.console import console
from vlalign.errors import VlalignError
from vlalign.redact import Redaction, plain, redacted

# What is no command.
SHARED = {"options"}
# Set to 1, errors of disk and memory show where they were raised.
TRACEBACK = "VLALIGN_TRACEBACK"
REMEDIES = {
    **dict.fromkeys((errno.ENOSPC, errno.EDQUOT), "make room on the disk and run the same command again"),
    **dict.fromkeys((errno.EACCES, errno.EPERM, errno.EROFS), "change its permissions or give another path"),
}


class Commands(TyperGroup):
    """The modules of this package as commands, each imported when it is asked for."""

    def list_commands(self, ctx: Any) -> list[str]:
        """Their names."""
        names = {module.name for module in pkgutil.iter_modules(__path__)} - SHARED
        return sorted(name.replace("_", "-") for name in names)

    def get_command(self, ctx: Any, cmd_name: str) -> Any:
        """The command of this name; None where there is none."""
        names: Any = dict.fromkeys(self.list_commands(ctx))
        # Of an unknown one, the message offers what is similar among these.
        self.commands = names
        if cmd_name not in names:
            return None
        name = cmd_name.replace("-", "_")
        single = typer.Typer(add_completion=False)
        single.command()(getattr(importlib.import_module(f"{__name__}.{name}"), name))
        return typer.main.get_command(single)


app = typer.Typer(
    cls=Commands,
    help="Fine-grained and distributional vision-language alignment. The workflow calls these commands; "
    "start with `snakemake --cores all all`.",
    no_args_is_help=True,
    add_completion=False,
    pretty_exceptions_enable=False,
)


@app.callback()
def _group() -> None:
    """Commands are found in this package: a group, even when typer knows of none."""


def main() -> None:
    """Run a command; mistakes that the user can mend end with one message and exit code 1."""
    # Of the processes that torchrun starts, the first one talks; the others, when something is wrong with them alone.
    first = os.environ.get("RANK", "0") == "0"
    # A log file is searched: its lines are not folded.
    handler = RichHandler(console=console, show_path=False, show_time=False) if console.is_terminal else None
    logging.basicConfig(
        level=logging.INFO if first else logging.ERROR,
        format="%(message)s" if handler else "%(levelname)-8s %(message)s",
        handlers=[handler] if handler else None,
    )
    for known in logging.getLogger().handlers:
        known.addFilter(Redaction())
    try:
        app()
    except VlalignError as error:
        if error.exit_code == 1 or first:
            _fail(str(error), code=error.exit_code)
        sys.exit(error.exit_code)
    except Exception as error:
        if os.environ.get(TRACEBACK) == "1":
            raise
        _fail(f"{_of_surroundings(error)}. With {TRACEBACK}=1 in the environment, a traceback shows where it was")


def _of_surroundings(error: BaseException) -> str:
    """What disk, memory or a file has to do with an error that no command foresaw, and what to do."""
    if isinstance(error, MemoryError):
        return f"memory does not suffice ({error}); take smaller batches or fewer workers, and check the files it reads"
    if isinstance(error, RecursionError):
        return "something that was read is nested too deeply; check the files and options that were given"
    if not isinstance(error, OSError):
        place = traceback.extract_tb(error.__traceback__)[-1]
        return (
            f"{type(error).__name__}: {error} ({Path(place.filename).name}, line {place.lineno}). A file or an option "
            "is of a shape that no check foresaw: run `vlalign check`, look at what was given, and please report it"
        )
    remedy = REMEDIES.get(error.errno or 0, "mend that and run the same command again")
    problem = f"{error.strerror or error}; {remedy}"
    return f"{error.filename}: {problem}" if error.filename else problem


def _fail(message: str, *, code: int = 1) -> NoReturn:
    # Neither markup nor folded: messages hold paths, and are searched for in log files.
    console.print(Text.assemble(("error: ", "bold red"), plain(redacted(message))), soft_wrap=True)
    sys.exit(code)
