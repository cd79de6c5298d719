"""Losses and scores on tensors, importing torch alone: the part to lift into another training loop.

Shape letters, used as suffixes: I images, C captions, R regions per image, P phrases per caption, L tokens, W words,
V patches, D embedding, S sampled subsets, N and M points. Masks are bool, True = real.
"""

import importlib
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from vlalign.objectives.aggregator import Aggregator, PowersetScores, known_aggregators
    from vlalign.objectives.alignment import centre, pool_phrases, pool_regions
    from vlalign.objectives.divergence import cs_divergence, mmd, token_cs_divergence
    from vlalign.objectives.gaussian import gaussian_kl
    from vlalign.objectives.hard_negatives import hard_negative_loss
    from vlalign.objectives.mining import powerset_loss, triplet_margin
    from vlalign.objectives.nonlinear import r2t_bounds, t1_bound
    from vlalign.objectives.powerset import batch_cost, powerset_scores
    from vlalign.objectives.wasserstein import sliced_wasserstein

# What each module has. It is imported when it is asked for: params are made from the aggregators' settings, and the
# workflow, which needs nothing else of this package, does not wait for torch.
_NAMES = {
    "aggregator": ("Aggregator", "PowersetScores", "known_aggregators"),
    "alignment": ("centre", "pool_phrases", "pool_regions"),
    "divergence": ("cs_divergence", "mmd", "token_cs_divergence"),
    "gaussian": ("gaussian_kl",),
    "hard_negatives": ("hard_negative_loss",),
    "mining": ("powerset_loss", "triplet_margin"),
    "nonlinear": ("r2t_bounds", "t1_bound"),
    "powerset": ("batch_cost", "powerset_scores"),
    "wasserstein": ("sliced_wasserstein",),
}

__all__ = [
    "Aggregator",
    "PowersetScores",
    "batch_cost",
    "centre",
    "cs_divergence",
    "gaussian_kl",
    "hard_negative_loss",
    "known_aggregators",
    "mmd",
    "pool_phrases",
    "pool_regions",
    "powerset_loss",
    "powerset_scores",
    "r2t_bounds",
    "sliced_wasserstein",
    "t1_bound",
    "token_cs_divergence",
    "triplet_margin",
]


def __getattr__(name: str) -> Any:
    for module, names in _NAMES.items():
        if name in names:
            return getattr(importlib.import_module(f"{__name__}.{module}"), name)
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
