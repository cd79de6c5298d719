"""Options that several commands have, and what the params that they name say."""

import os
from collections.abc import Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Annotated, Any

import typer

from vlalign import params as parameters
from vlalign.errors import VlalignError

PARAMS = "params.yaml"
# What a command takes that is called where there is no params.yaml and needs none: defaults of all that it reads.
DEFAULTS = {"focus": "clip", "runs": {"arms": ["clip"]}, "arms": {"clip": {}, "linear": {}}, "model": {"tower": "none"}}

ParamsFiles = Annotated[
    list[str] | None,
    typer.Option("--params", help="params.yaml, then overlays, or KEY=VALUE as in an overlay; repeat. [params.yaml]"),
]
Changes = Annotated[
    list[str] | None,
    typer.Argument(metavar="[KEY=VALUE]...", help="Params that win over all files, such as train.steps=50."),
]
Digest = Annotated[
    str | None,
    typer.Option(help="Of the params that the result depends on, as the workflow has them; others are refused."),
]
Output = Annotated[Path, typer.Option(help="Where to write.")]
OwnOutput = Annotated[Path | None, typer.Option(help="Where to write, if not where the workflow does.")]
Previous = Annotated[
    Path | None, typer.Option(help="Where the output was set aside: taken back if nothing has changed since.")
]
RunSeed = Annotated[int, typer.Option(help="Seed of weights, order and captions.")]
Checkpoints = Annotated[Path | None, typer.Option(help="Folder of the checkpoints to resume from.")]
Processes = Annotated[
    int, typer.Option(min=1, help="Processes on this machine that share every batch, one for each GPU.")
]
Threads = Annotated[int, typer.Option(min=1, help="CPU threads.")]
Split = Annotated[str, typer.Option(help="Folder of the split below that of the dataset, such as train.")]
Card = Annotated[
    str | None, typer.Option(help="Name of a card of the suites, whose split it is, if not the dataset's.")
]
Part = Annotated[
    str | None, typer.Option(help="K-of-N: only the K-th of N parts of the shards, from 0, to be gathered.")
]
Runs = Annotated[list[Path], typer.Option(help="Folder of one run and seed; repeat for more.")]
OwnData = Annotated[Path | None, typer.Option(help="Folder of the dataset, if not that of the params.")]
OwnAnnotations = Annotated[Path | None, typer.Option(help="Folder of the annotations, if not those of the params.")]

RUN_KEYS = parameters.RunParams.model_fields.keys()


@dataclass(frozen=True)
class Given:
    """What a command was told: the params, the folder that their paths count from, and where the workflow keeps things.

    changes: params that were changed by hand, and folders that are not the workflow's. laid_over: the params that
    stand among the files.
    """

    params: parameters.Params
    base: Path
    folders: parameters.Folders
    changes: Mapping[str, Any]
    laid_over: Mapping[str, Any]

    def agree(self, digest: str | None, step: str, **which: str) -> "Given":
        """The same; raises VlalignError when what the step's result depends on is not what the workflow has. Only the
        workflow, which gives a digest, lays params over its files without changing its own results.
        """
        if digest is None:
            laid_over = {"--params": self.laid_over} if self.laid_over else {}
            return replace(self, changes={**laid_over, **self.changes})
        if digest != parameters.digest(parameters.relevant(self.params, step, **which)):
            raise VlalignError(
                f"the params of `{step}` are no longer those that the workflow was started with: a params file was "
                "edited since; run the workflow again, which sees what has changed"
            )
        return self

    def output(self, own: Path | None, default: Path) -> Path:
        """Where to write; raises VlalignError where that would be in place of what the workflow makes."""
        runs = (self.folders.root / "results" / "runs").resolve()
        if self.changes and (own is None or own.resolve().is_relative_to(runs)):
            raise VlalignError(
                f"{own or default} is the workflow's; with params or data of your own, give another --output"
            )
        return own or default


def given(
    files: list[str] | None,
    changes: list[str] | None = None,
    *,
    data: Path | None = None,
    annotations: Path | None = None,
    anywhere: bool = False,
    of_run: bool = False,
) -> Given:
    """Read the params, once; see the options of the same names.

    anywhere: whether defaults do where no file is named and there is no params.yaml. of_run: whether changes of a run's
    params are those of one run alone, which `Run.changed` makes.
    """
    changes, base = changes or [], Path()
    plain = parameters.merged({}, *map(parameters.read_change, changes))
    if not files and anywhere and not Path(PARAMS).exists():
        params = parameters.parse(parameters.merged(DEFAULTS, plain), source="what was given")
    else:
        files = files or [PARAMS]
        shared = [text for text in changes if not (of_run and parameters.read_change(text).keys() & RUN_KEYS)]
        params = parameters.load(*files, *shared)
        base = next((Path(file).parent for file in files if not parameters.is_change(file)), base)
    root = Path(os.path.normpath(base / params.root))
    folders = parameters.Folders.of(Path() if root.resolve() == Path.cwd() else root, params.dataset)
    own = {name: path for name, path in (("data", data), ("annotations", annotations)) if path}
    paths = {name: str(path.absolute()) for name, path in own.items()}
    laid_over = parameters.merged({}, *map(parameters.read_change, filter(parameters.is_change, files or ())))
    return Given(params, base, replace(folders, **own), {**plain, **paths}, laid_over)
