"""Options that several commands have, and how their values are read."""

import json
from pathlib import Path
from typing import Annotated, Any

import typer
from pydantic import ValidationError

from vlalign import params as parameters
from vlalign.errors import VlalignError

Config = Annotated[str, typer.Option(help="The step's own part of params.yaml, as JSON.")]
How = Annotated[str, typer.Option(help="Further keys of --config, which change how the step works, not its result.")]
Output = Annotated[Path, typer.Option(help="Where to write.")]
Previous = Annotated[
    Path | None, typer.Option(help="Where the output was set aside: taken back if nothing has changed since.")
]
Split = Annotated[Path, typer.Option(help="Folder of shards with its manifest.json.")]
Part = Annotated[
    str | None, typer.Option(help="K-of-N: only the K-th of N parts of the shards, from 0, to be gathered.")
]
Runs = Annotated[list[Path], typer.Option(help="Folder of one run and seed; repeat for more.")]
Data = Annotated[Path, typer.Option(help="Folder of the dataset.")]
Annotations = Annotated[Path, typer.Option(help="Folder of the annotations.")]


def values(text: str) -> dict[str, Any]:
    """What --config holds; raises VlalignError when it is not JSON."""
    try:
        found = json.loads(text)
    except (ValueError, RecursionError) as error:
        raise VlalignError(f"--config is not JSON: {error}") from None
    if not isinstance(found, dict):
        raise VlalignError(f"--config is no JSON object but a {type(found).__name__}; give one, such as {{}}")
    return found


def runtime_params(text: str) -> parameters.RuntimeParams:
    """What --runtime holds; raises VlalignError that names the keys at fault."""
    try:
        return parameters.RuntimeParams.model_validate(values(text))
    except ValidationError as error:
        raise VlalignError(f"--runtime is not valid:\n{parameters.describe(error)}") from None
