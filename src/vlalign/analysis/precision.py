"""How far each aggregator is from the exact powerset, on random, clustered and trained features."""

import csv
import io
import itertools
from collections.abc import Iterable, Iterator, Mapping
from pathlib import Path

import torch
import torch.nn.functional as F
from rich.table import Table
from torch import Tensor

from vlalign.files import write_text
from vlalign.models import DualEncoder
from vlalign.models.pictures import normalise
from vlalign.objectives.aggregator import Aggregator, known_aggregators, settings
from vlalign.objectives.aggregators.exact import Exact
from vlalign.objectives.powerset import batch_cost
from vlalign.params import PrecisionParams, RegionChoice
from vlalign.records import record_of, stamps, write_record
from vlalign.training.data.batches import PairedSet
from vlalign.training.data.order import generator
from vlalign.training.terms.powerset import Powerset, PowersetParams

ERRORS = ("error_relative", "bias_relative", "bound_relative")
# Of the CSV file.
COLUMNS = ("features", "aggregator", "direction", "tau", "zeta", "regions", "samples", *ERRORS)
PHRASES, WIDTH = 12, 64
# Of the CSV file, by column.
Row = dict[str, object]
# x of N pairs, N P R, and which regions N R and phrases N P are real.
Similarities = tuple[Tensor, Tensor, Tensor]


def precision_rows(
    encoder: DualEncoder, powerset: PowersetParams, split: Path, annotations: Path, params: PrecisionParams
) -> Iterator[Row]:
    """One row of `COLUMNS` per kind of features and setting.

    As shares of the mean exact score: mean |approximation − exact|, mean (approximation − exact), mean bound.

    encoder, powerset: the model of a run, and its params of the term, which it may not be trained with. split: folder
    of pairs, whose first ones are measured. annotations: folder with `phrases/<split>`, and `regions/<split>` if there
    are any. Adapters of pooled features alone give no trained ones.
    """
    sources = {
        "random": synthetic(params, clusters=None),
        "clustered": synthetic(params, clusters=4),
    }
    if encoder.has_joint_tokens:
        sources["trained"] = trained(encoder, powerset, split, annotations, params)
    for name, (similarity_NPR, region_mask, phrase_mask) in sources.items():
        for count in params.regions:
            for row in measure(similarity_NPR[..., :count], region_mask[:, :count], phrase_mask, params):
                yield {"features": name, "regions": count, **row}


def write_precision(rows: Iterable[Row], output: Path, *, weights: Mapping[str, str | None]) -> None:
    """Write the rows as the CSV file that the report draws, and its record, which says of which weights they are."""
    stream = io.StringIO()
    writer = csv.DictWriter(stream, COLUMNS, lineterminator="\n")
    writer.writeheader()
    writer.writerows({name: f"{v:.6g}" if isinstance(v, float) else v for name, v in row.items()} for row in rows)
    write_text(output, stream.getvalue())
    write_record(record_of(output), {"weights": dict(weights), "files": stamps(output.parent, [output.name])})


def precision_table(rows: Iterable[Row]) -> Table:
    """The rows for a terminal, in percent."""
    table = Table(*(name.replace("_", " ") for name in COLUMNS))
    for row in rows:
        cells = {name: f"{v:.3%}" if name in ERRORS and v != "" else f"{v}" for name, v in row.items()}
        table.add_row(*(cells[name] for name in COLUMNS))
    return table


def synthetic(params: PrecisionParams, *, clusters: int | None) -> Similarities:
    """Of unit regions and phrases, independent or drawn around a few shared centres."""
    random = generator(params.seed, "precision", clusters)
    shapes = (params.pairs, max(params.regions), WIDTH), (params.pairs, PHRASES, WIDTH)
    points = [torch.randn(shape, generator=random) for shape in shapes]
    if clusters:
        centres = 2 * torch.randn(clusters, WIDTH, generator=random)
        points = [x + centres[torch.randint(clusters, x.shape[:2], generator=random)] for x in points]
    regions, phrases = (F.normalize(x, dim=-1) for x in points)
    region_mask, phrase_mask = (torch.ones(x.shape[:2], dtype=torch.bool) for x in (regions, phrases))
    return phrases @ regions.mT, region_mask, phrase_mask


@torch.inference_mode()
def trained(
    encoder: DualEncoder, powerset: PowersetParams, split: Path, annotations: Path, params: PrecisionParams
) -> Similarities:
    """x = s − b of masks, then boxes, with the run's phrases of the first images of a split, as its own loss has them:
    centred or not, with its cost (that of the batch in place of a learnt one). Of a run without the term, unit phrases
    as they are.
    """
    powerset = powerset if powerset.weight else PowersetParams(weight=1.0)
    phrases, regions = (annotations / kind / split.name for kind in ("phrases", "regions"))
    # Boxes stand in for masks that no run asked for.
    masks = (regions / "manifest.json").is_file()
    data = PairedSet(
        split,
        encoder,
        phrases=phrases,
        regions=regions if masks else None,
        phrase_choice=powerset.phrases,
        region_choice=RegionChoice(kinds=("mask", "box") if masks else ("box",), count=max(params.regions)),
    )
    batch = data.select(torch.arange(min(params.pairs, len(data))))
    assert batch.region_mask is not None
    assert batch.phrase_mask is not None
    term = Powerset(powerset)
    image, text = encoder(normalise(batch.images, encoder), batch.tokens)
    phi, p = term.aligned(term.features(image, text, batch))
    cost = powerset.cost
    if isinstance(cost, str):
        cost = batch_cost(phi, p, region_mask=batch.region_mask, phrase_mask=batch.phrase_mask).item()
    return p @ phi.mT - cost, batch.region_mask, batch.phrase_mask


def measure(similarity_NPR: Tensor, region_mask: Tensor, phrase_mask: Tensor, params: PrecisionParams) -> Iterator[Row]:
    """Rows for x = s − b of matched pairs, in fp64; masks N R and N P."""
    s, masks = similarity_NPR.double(), (region_mask, phrase_mask)
    exact = Exact().draw(s.shape[-1], like=s, generator=None)(s, *masks)
    for kind in known_aggregators().values():
        for direction in kind.approximates:
            for rule, setting in _rules(kind, direction, params):
                random = generator(params.seed, "subsets", getattr(rule, "samples", None))
                scores = rule.draw(s.shape[-1], like=s, generator=random).fit(s, *masks)(s, *masks).of(direction)
                errors = _errors(scores, exact.of(direction), rule.bound(direction, scores, s, *masks))
                yield {"aggregator": kind.name, "direction": direction, **setting, **errors}


def _rules(kind: type[Aggregator], direction: str, params: PrecisionParams) -> Iterator[tuple[Aggregator, Row]]:
    """An aggregator with every combination of the values that are asked for of what its direction depends on."""
    grids = {"tau": params.taus, "zeta": params.zetas, "samples": params.samples}
    own, varied = {field.name for field in settings(kind)}, kind.approximates[direction]
    fixed = {"samples": (params.calibration_samples,)} if "samples" in own and "samples" not in varied else {}
    swept = {name: grid for name, grid in grids.items() if name in varied} | fixed
    for values in itertools.product(*swept.values()):
        chosen = dict(zip(swept, values, strict=True))
        yield kind(**chosen), {name: chosen.get(name, "") for name in grids}


def _errors(scores: Tensor, exact: Tensor, bound: Tensor | None) -> Row:
    """As shares of the mean exact score; empty where that is 0: then nothing is above the cost."""
    scale = exact.abs().mean()
    if scale == 0:
        return dict.fromkeys(ERRORS, "")
    error = (scores - exact) / scale
    limit = "" if bound is None else (bound.mean() / scale).item()
    return dict(zip(ERRORS, (error.abs().mean().item(), error.mean().item(), limit), strict=True))
