"""`vlalign generate`."""

from typing import TYPE_CHECKING, Annotated, Any

import typer

from vlalign.cli.options import Changes, Digest, Given, OwnData, OwnOutput, ParamsFiles, RunSeed, Threads, given
from vlalign.errors import VlalignError

if TYPE_CHECKING:
    from vlalign.models import DualEncoder


def generate(
    run: Annotated[str, typer.Option(help="One of `generation.runs`, which is trained.")],
    seed: RunSeed = 0,
    changes: Changes = None,
    params: ParamsFiles = None,
    data: OwnData = None,
    output: OwnOutput = None,
    threads: Threads = 1,
    digest: Digest = None,
) -> None:
    """Generate pictures from the captions of a split with `generation.decoder`, and score them.

    Pictures that are there already, of the same run, decoder and params, are left as they are. With --output they lie
    in its folder `pictures`, beside the scores.
    """
    import torch

    from vlalign import freshness, models
    from vlalign.evaluation.metrics import Measurement, write_metrics
    from vlalign.generation import decoders, metrics, pictures, scores
    from vlalign.models.folders import CONFIG
    from vlalign.models.opened import on_device
    from vlalign.models.weights import WEIGHTS
    from vlalign.records import stamp, stamps

    torch.set_num_threads(threads)
    told = given(params, changes, data=data).agree(digest, "generate", run=run)
    generation, folders = told.params.generation, told.folders
    if generation is None or run not in generation.runs:
        raise VlalignError(f"--run {run} is none of `generation.runs`; name it there, beside `generation.decoder`")
    trained, split = folders.run(run, seed), folders.data / generation.split
    scored = told.output(output, trained / "generation")
    place = output / "pictures" if output else folders.generated(run, seed)
    # What is wrong with them would be found after all pictures are made.
    scores.check_fid(generation.fid, base=told.base)
    judge = _judge(told, generation.judge)
    encoder = on_device(models.load(trained))
    folder, content = decoders.find_decoder(generation.decoder, base=told.base)
    decoder = decoders.load_decoder(folder, generation.decoder)
    captions = pictures.Captions(split, generation.captions)
    weights = {name: one["sha256"] for name, one in stamps(trained, [WEIGHTS, CONFIG]).items()}
    made_of: dict[str, Any] = {
        "weights": weights,
        "decoder": content,
        "params": generation.decoder.model_dump(mode="json", exclude={"model", "revision"}),
    }
    generator = pictures.Generator(encoder, decoder, captions, name=run)
    pictures.generate(generator, place, made_of=made_of, seed=generation.seed, batch_size=generation.batch_size)
    rows = scores.score(place, captions, fid=generation.fid, base=told.base, judge=judge)
    measured = {
        "weights": weights[WEIGHTS],
        "data": {split.as_posix(): stamp(split / "manifest.json")["sha256"]},
        "split": generation.split,
        "decoder": made_of["decoder"],
        "params": generation.relevant(),
        "code": freshness.digest("generate"),
    }
    write_metrics(scored, {metrics.NAME: Measurement(rows=rows)}, {}, measured=measured)


def _judge(told: Given, name: str | None) -> "DualEncoder | None":
    """The encoder of the CLIP score: one of `models`, or the first seed of a run."""
    from vlalign import models
    from vlalign.models.opened import on_device, open_model

    if name is None:
        return None
    if name in told.params.models:
        opened = open_model(told.params.models[name], base=told.base, key=f"models.{name}")
        return on_device(opened.encoder)
    first = told.params.all_runs[name].seeds[0]
    return on_device(models.load(told.folders.run(name, first)))
