"""Random unit vectors and hand-made grounding cases."""

import torch
import torch.nn.functional as F
from torch import Tensor

from vlalign.evaluation.benchmark import MetricRow
from vlalign.evaluation.referents import PhraseScores


def unit(*shape: int, seed: int = 0) -> Tensor:
    return F.normalize(torch.randn(*shape, generator=torch.Generator().manual_seed(seed)), dim=-1)


def by_place(rows: list[MetricRow]) -> dict[tuple[str, str, str], float]:
    """Values by metric, group and stratum."""
    return {(row.metric, row.group, row.stratum): row.value for row in rows}


def overall(rows: list[MetricRow]) -> dict[str, float]:
    """Values by metric, of everything."""
    return {row.metric: row.value for row in rows if (row.group, row.stratum) == ("all", "all")}


def constant(rows: int, dim: int = 4) -> Tensor:
    return F.normalize(torch.ones(rows, dim), dim=-1)


def phrase_case(
    regions: list[list[float]],
    referents: list[list[int]],
    *,
    objects: list[int] | None = None,
    patches: list[list[float]] | None = None,
    coverage: list[list[float]] | None = None,
    boxes: list[list[float]] | None = None,
) -> PhraseScores:
    """Row by row: scores of the regions, 1 where a region is a referent, number of objects (all if left out)."""
    regions_NR = torch.tensor(regions)
    counts = torch.tensor(objects if objects is not None else [regions_NR.shape[1]] * len(regions))
    patches_NV = torch.tensor(patches) if patches else torch.zeros(len(regions), 1)
    boxes_NB = torch.tensor(boxes) if boxes else torch.zeros(len(regions), 0)
    return PhraseScores(
        regions_NR=regions_NR,
        objects_NR=torch.arange(regions_NR.shape[1]) < counts[:, None],
        referents_NR=torch.tensor(referents).bool(),
        patches_NV=patches_NV,
        coverage_NV=torch.tensor(coverage) if coverage else torch.zeros_like(patches_NV),
        boxes_NB=boxes_NB,
        box_mask_NB=torch.ones_like(boxes_NB).bool(),
    )


def random_case(phrases: int, regions: int, *, seed: int = 0, boxes: int = 3, patches: int = 9) -> PhraseScores:
    """Scores on a coarse grid, so that ties abound."""
    g = torch.Generator().manual_seed(seed)

    def coarse(*shape: int) -> Tensor:
        return torch.randint(-4, 5, shape, generator=g) / 4

    objects = torch.arange(regions) < torch.randint(2, regions + 1, (phrases, 1), generator=g)
    referents = objects & (torch.rand(phrases, regions, generator=g) < 0.4)
    referents[:, 0] |= ~referents.any(1)
    return PhraseScores(
        regions_NR=coarse(phrases, regions),
        objects_NR=objects,
        referents_NR=referents,
        patches_NV=coarse(phrases, patches),
        coverage_NV=torch.rand(phrases, patches, generator=g) * (torch.rand(phrases, 1, generator=g) < 0.8),
        boxes_NB=coarse(phrases, boxes),
        box_mask_NB=torch.rand(phrases, boxes, generator=g) < 0.7,
    )
