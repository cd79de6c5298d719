"""How far each aggregator is from the exact powerset, on random, clustered and trained features."""

import csv
import io
import math
from collections.abc import Iterator
from pathlib import Path

import torch
import torch.nn.functional as F
from torch import Tensor

from vlalign.files import write_text
from vlalign.models import load
from vlalign.objectives import pool_phrases, pool_regions
from vlalign.objectives.powerset import Aggregation, all_subsets, sample_subsets
from vlalign.params import PhraseChoice, PrecisionParams, RegionChoice
from vlalign.reporting.aggregators import COLUMNS
from vlalign.training.batches import PairedSet, generator

PHRASES, WIDTH = 12, 64


def precision_table(
    run: Path, split: Path, phrases: Path, regions: Path, output: Path, params: PrecisionParams
) -> None:
    """Write one row per setting to the CSV file `output`; errors and bounds are shares of the mean exact score."""
    sources = {
        "random": synthetic(params, clusters=None),
        "clustered": synthetic(params, clusters=4),
        "trained": trained(run, split, phrases, regions, params),
    }
    stream = io.StringIO()
    writer = csv.DictWriter(stream, COLUMNS, lineterminator="\n")
    writer.writeheader()
    for name, (regions_NRD, phrases_NPD, phrase_mask) in sources.items():
        for count in params.regions:
            similarity = phrases_NPD @ regions_NRD[:, :count].mT
            for row in measure(similarity, phrase_mask, params):
                writer.writerow({"features": name, "regions": count, **row})
    write_text(output, stream.getvalue())


def synthetic(params: PrecisionParams, *, clusters: int | None) -> tuple[Tensor, Tensor, Tensor]:
    """Unit regions and phrases, independent or drawn around a few shared centres, with the mask of real phrases."""
    random = generator(params.seed, "precision", clusters)
    shapes = (params.pairs, max(params.regions), WIDTH), (params.pairs, PHRASES, WIDTH)
    points = [torch.randn(shape, generator=random) for shape in shapes]
    if clusters:
        centres = 2 * torch.randn(clusters, WIDTH, generator=random)
        points = [x + centres[torch.randint(clusters, x.shape[:2], generator=random)] for x in points]
    regions, phrases = (F.normalize(x, dim=-1) for x in points)
    return regions, phrases, torch.ones(phrases.shape[:2], dtype=torch.bool)


@torch.inference_mode()
def trained(
    run: Path, split: Path, phrases: Path, regions: Path, params: PrecisionParams
) -> tuple[Tensor, Tensor, Tensor]:
    """Masks, then boxes, and phrases of the first images of a split, as a trained run sees them."""
    encoder = load(run)
    data = PairedSet(
        split,
        encoder,
        phrases=phrases,
        regions=regions,
        phrase_choice=PhraseChoice(count=PHRASES),
        region_choice=RegionChoice(kinds=("mask", "box"), count=max(params.regions)),
    )
    images = torch.arange(min(params.pairs, len(data)))
    batch = data.select(images, data.first_caption[images])
    assert batch.coverage is not None
    assert batch.words is not None
    assert batch.members is not None
    assert batch.phrase_mask is not None
    image, text = encoder(batch.images, batch.tokens)
    phi = pool_regions(image.patches_IVD, batch.coverage)
    return phi, pool_phrases(text.tokens_CLD, batch.words, batch.members, normalise=True), batch.phrase_mask


def measure(similarity: Tensor, phrase_mask: Tensor, params: PrecisionParams) -> Iterator[dict[str, object]]:
    """Rows for similarities N P R of matched pairs, in fp64."""
    s = similarity.double()
    count = s.shape[-1]
    region_mask = torch.ones(len(s), count, dtype=torch.bool)
    exact = Aggregation("exact", subsets_SR=all_subsets(count).double())(s, region_mask, phrase_mask)

    def row(aggregator: str, direction: str, value: Tensor, bound: Tensor | None = None, **setting: object) -> dict:
        reference = getattr(exact, direction)
        scale = reference.abs().mean()
        error = ((value - reference).abs().mean() / scale).item()
        limit = f"{(bound.mean() / scale).item():.6g}" if bound is not None else ""
        base = {"aggregator": aggregator, "direction": direction, "tau": "", "zeta": "", "samples": ""}
        return {**base, "error_relative": f"{error:.6g}", "bound_relative": limit, **setting}

    for tau in params.taus:
        t1 = Aggregation("nla", tau=tau)(s, region_mask, phrase_mask).t2r
        yield row("nla", "t2r", t1, torch.full((1,), tau * count * math.log(2)).double(), tau=tau)
        low, high = certified_r2t(s, region_mask, phrase_mask, tau=tau)
        for zeta in params.zetas:
            t2 = Aggregation("nla", tau=tau, zeta=zeta)(s, region_mask, phrase_mask).r2t
            yield row("nla", "r2t", t2, torch.maximum(t2 - low, high - t2), tau=tau, zeta=zeta)
    for samples in params.samples:
        subsets = sample_subsets(count, samples, generator=generator(params.seed, "subsets", samples)).double()
        yield row(
            "sampled",
            "r2t",
            Aggregation("sampled", subsets_SR=subsets)(s, region_mask, phrase_mask).r2t,
            samples=samples,
        )
    linear = Aggregation("mean")(s, region_mask, phrase_mask)
    yield row("mean", "r2t", linear.r2t)
    yield row("mean", "t2r", linear.t2r)


def certified_r2t(s: Tensor, region_mask: Tensor, phrase_mask: Tensor, *, tau: float) -> tuple[Tensor, Tensor]:
    """Bounds of the exact R2T that cost O(R): T2(τ, 0) − τ·log P ≤ R2T ≤ T2(τ, 1), the upper one by Jensen's
    inequality.
    """
    low = Aggregation("nla", tau=tau, zeta=0.0)(s, region_mask, phrase_mask).r2t
    high = Aggregation("nla", tau=tau, zeta=1.0)(s, region_mask, phrase_mask).r2t
    return low - tau * phrase_mask.sum(-1).clamp_min(1).log(), high
