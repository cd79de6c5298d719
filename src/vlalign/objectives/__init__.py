"""Losses and scores on tensors, importing torch alone: the part to lift into another training loop.

Shape letters, used as suffixes: I images, C captions, R regions per image, P phrases per caption, L tokens, W words,
V patches, D embedding, S sampled subsets, N and M points. Masks are bool, True = real.
"""

from vlalign.objectives.aggregators import AGGREGATORS, PowersetScores, r2t_bounds, t1_bound
from vlalign.objectives.alignment import centre, pool_phrases, pool_regions
from vlalign.objectives.divergence import cs_divergence, token_cs_divergence
from vlalign.objectives.mining import powerset_loss, triplet_margin
from vlalign.objectives.powerset import batch_cost, powerset_scores

__all__ = [
    "AGGREGATORS",
    "PowersetScores",
    "batch_cost",
    "centre",
    "cs_divergence",
    "pool_phrases",
    "pool_regions",
    "powerset_loss",
    "powerset_scores",
    "r2t_bounds",
    "t1_bound",
    "token_cs_divergence",
    "triplet_margin",
]
