"""Every figure, in one place to import from."""

from vlalign.reporting.aggregators import draw_precision
from vlalign.reporting.comparisons import draw_differences, draw_grounding
from vlalign.reporting.curves import draw_ablation, draw_training
from vlalign.reporting.embeddings import draw_embeddings
from vlalign.reporting.similarity import SceneDrawing, draw_similarity

__all__ = [
    "SceneDrawing",
    "draw_ablation",
    "draw_differences",
    "draw_embeddings",
    "draw_grounding",
    "draw_precision",
    "draw_similarity",
    "draw_training",
]
