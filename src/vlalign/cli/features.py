"""`vlalign features`."""

from typing import Annotated

import typer

from vlalign.cli.options import Changes, Digest, OwnData, OwnOutput, ParamsFiles, Part, Split, Threads, given
from vlalign.cli.pretrain import run_named
from vlalign.errors import VlalignError


def features(
    split: Split,
    run: Annotated[str, typer.Option(help="An arm with `model.adapters`, whose frozen towers are meant.")],
    seed: Annotated[int, typer.Option(help="Of the run that the towers come from, if they come from one.")] = 0,
    changes: Changes = None,
    params: ParamsFiles = None,
    data: OwnData = None,
    output: OwnOutput = None,
    part: Part = None,
    threads: Threads = 1,
    digest: Digest = None,
) -> None:
    """Compute what frozen towers give for every picture and caption of a split, for `vlalign adapt`.

    Shards whose features are there already, of the same towers, are left as they are.
    """
    import torch

    from vlalign.adaptation.features import encode_split
    from vlalign.models import build, weights_file
    from vlalign.models.folders import check_files
    from vlalign.models.opened import on_device

    torch.set_num_threads(threads)
    told = given(params, changes, data=data, of_run=True).agree(digest, "features", run=run)
    chosen, folders = run_named(told, run), told.folders
    towers, model = chosen.towers(seed), chosen.params.model
    if towers is None:
        raise VlalignError(f"--run {run} has no `model.adapters`, so that it trains its towers and needs no features")
    start = folders.run(model.start, seed) if model.start else None
    if start is not None:
        check_files(start, weights_file(start))
    encoder = on_device(build(model, start=start).eval())
    place, size = told.output(output, folders.towers(towers) / split), told.params.evaluation.batch_size
    encode_split(folders.data / split, place, encoder, tokens=chosen.params.needs.tokens, batch_size=size, part=part)
