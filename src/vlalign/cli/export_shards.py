"""`vlalign export-shards`."""

from pathlib import Path
from typing import Annotated, Literal

import typer

from vlalign.cli.options import Changes, Output, OwnData, ParamsFiles, Split, given


def export_shards(
    split: Split,
    output: Output,
    changes: Changes = None,
    params: ParamsFiles = None,
    data: OwnData = None,
    captions: Annotated[
        Literal["all", "first", "each"],
        typer.Option(help="all: a line for each, as CLIP_benchmark has it; first; each: a sample for every caption."),
    ] = "all",
    shard_size: Annotated[int, typer.Option(min=1, help="Samples of a shard.")] = 2000,
) -> None:
    """Write a split as shards that CLIP_benchmark and open_clip's trainer read; says what to call.

    For open_clip's trainer take one caption a sample, `--captions first` or `each`: it reads a file of captions as one.
    """
    from vlalign.data.shards.export import TYPE, export_shards

    told = given(params, changes, data=data, anywhere=True)
    sizes = export_shards(told.folders.data / split, output, captions=captions, shard_size=shard_size)
    folder, task = output / Path(split).name, f"zeroshot_{(output / TYPE).read_text().strip()}"
    place = f"--dataset wds/{output.name} --dataset_root {output} --split {folder.name} --task {task}"
    print(f"{sum(sizes.values())} samples in {len(sizes)} shards. To read them:")
    print(f"  clip_benchmark eval {place} ...")
    if captions != "all":
        print(f"  python -m open_clip_train.main --train-data '{folder}/{{0..{len(sizes) - 1}}}.tar' ...")
