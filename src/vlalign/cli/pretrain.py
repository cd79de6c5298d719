"""`vlalign pretrain`."""

import sys
from pathlib import Path
from typing import Annotated

import typer

from vlalign.cli.options import Config, Output, Previous, Split, runtime_params, values
from vlalign.errors import VlalignError


def pretrain(
    config: Config,
    seed: Annotated[int, typer.Option(help="Seed of weights, order and captions.")],
    split: Split,
    output: Output,
    checkpoints: Annotated[Path, typer.Option(help="Folder of the checkpoints to resume from.")],
    phrases: Annotated[Path | None, typer.Option(help="Annotation folder of the split's phrases.")] = None,
    regions: Annotated[Path | None, typer.Option(help="Annotation folder of the split's regions.")] = None,
    validation: Annotated[Path | None, typer.Option(help="Folder of the validation split's shards.")] = None,
    unpaired_images: Annotated[Path | None, typer.Option(help="Folder of images without captions.")] = None,
    unpaired_captions: Annotated[Path | None, typer.Option(help="Folder of captions without images.")] = None,
    runtime: Annotated[str, typer.Option(help="The `runtime` part of params.yaml, as JSON.")] = "{}",
    tracking: Annotated[
        Path | None, typer.Option(help="Folder of this run's trackers, whose files there are replaced.")
    ] = None,
    processes: Annotated[
        int, typer.Option(min=1, help="Processes on this machine that share every batch, one for each GPU.")
    ] = 1,
    threads: Annotated[int, typer.Option(min=1, help="CPU threads, which the processes share.")] = 1,
    previous: Previous = None,
) -> None:
    """Train one run with one seed; a run that was killed continues from its last checkpoint.

    --config holds `run`, its name, and `params` with model, train and objective, as the workflow gives them.

    On several machines, start it with `torchrun ... -m vlalign pretrain` on each.
    """
    import torch

    from vlalign.training.inputs import Inputs
    from vlalign.training.pretrain import Places, pretrain
    from vlalign.training.processes import is_one_of_several, neighbours, start

    watched = runtime_params(runtime)
    if watched.trackers and tracking is None:
        raise VlalignError("--runtime names trackers: give the folder that they shall write to (--tracking)")
    if processes > 1 and not is_one_of_several():
        start(processes, sys.argv[1:])
    torch.set_num_threads(max(1, threads // neighbours()))
    pretrain(
        values(config),
        seed=seed,
        inputs=Inputs(split, phrases, regions, validation, unpaired_images, unpaired_captions),
        places=Places(output, checkpoints, tracking, previous),
        runtime=watched,
    )
