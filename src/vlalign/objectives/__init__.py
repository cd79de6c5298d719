"""Losses and scores on tensors, importing torch alone: the part to lift into another training loop.

Shape letters, used as suffixes: I images, C captions, R regions per image, P phrases per caption, L tokens, W words,
V patches, D embedding, S sampled subsets, N and M points. Masks are bool, True = real.
"""

import importlib
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from vlalign.objectives.aggregator import Aggregator, PowersetScores, known_aggregators
    from vlalign.objectives.alignment import centre, pool_phrases, pool_regions
    from vlalign.objectives.divergence import cs_divergence, token_cs_divergence
    from vlalign.objectives.mining import powerset_loss, triplet_margin
    from vlalign.objectives.nonlinear import r2t_bounds, t1_bound
    from vlalign.objectives.powerset import batch_cost, powerset_scores

# Where each name lies. They are imported when they are asked for: params are made from the aggregators' settings, and
# the workflow, which needs nothing else of this package, does not wait for torch.
_WHERE = {
    "Aggregator": "aggregator",
    "PowersetScores": "aggregator",
    "known_aggregators": "aggregator",
    "batch_cost": "powerset",
    "centre": "alignment",
    "cs_divergence": "divergence",
    "pool_phrases": "alignment",
    "pool_regions": "alignment",
    "powerset_loss": "mining",
    "powerset_scores": "powerset",
    "r2t_bounds": "nonlinear",
    "t1_bound": "nonlinear",
    "token_cs_divergence": "divergence",
    "triplet_margin": "mining",
}

__all__ = [
    "Aggregator",
    "PowersetScores",
    "batch_cost",
    "centre",
    "cs_divergence",
    "known_aggregators",
    "pool_phrases",
    "pool_regions",
    "powerset_loss",
    "powerset_scores",
    "r2t_bounds",
    "t1_bound",
    "token_cs_divergence",
    "triplet_margin",
]


def __getattr__(name: str) -> Any:
    if name not in _WHERE:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    return getattr(importlib.import_module(f"{__name__}.{_WHERE[name]}"), name)
