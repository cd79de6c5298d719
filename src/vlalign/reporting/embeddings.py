"""Both modalities' embeddings in two dimensions."""

from collections.abc import Mapping
from pathlib import Path

import numpy as np
from matplotlib.axes import Axes
from matplotlib.collections import LineCollection

from vlalign.reporting.style import MUTED, PALETTE, panels, placeholder, save, styled

IMAGES, CAPTIONS = PALETTE[0], PALETTE[1]


def principal_plane(x_ND: np.ndarray) -> tuple[np.ndarray, float]:
    """Return coordinates N 2 in the plane of the largest variance, and the share of variance that it holds (0-1).

    The sign of each axis is fixed: its largest loading is positive.
    """
    centred_ND = x_ND.astype(np.float64) - x_ND.mean(axis=0, dtype=np.float64)
    _, singular, axes = np.linalg.svd(centred_ND, full_matrices=False)
    plane = axes[:2]
    plane = plane * np.sign(plane[np.arange(len(plane)), np.abs(plane).argmax(axis=1)])[:, None]
    return centred_ND @ plane.T, float((singular[:2] ** 2).sum() / max((singular**2).sum(), 1e-30))


def draw_embeddings(
    runs: Mapping[str, tuple[np.ndarray, np.ndarray]], output: str | Path, *, lines: int = 40, points: int = 300
) -> None:
    """Draw one panel per run: image and caption embeddings, with lines between some pairs.

    Args:
        runs: for each run its image embeddings N D and caption embeddings N D; row i of both is a pair.
        lines: pairs that a line joins, spread evenly over the rows.
        points: pairs that are drawn; the plane is fitted to all.
    Panels share one scale, so that distances can be compared between runs.
    """
    if not runs:
        return placeholder(output, "no embeddings were drawn")
    flat = {name: principal_plane(np.concatenate(pair)) for name, pair in runs.items()}
    reach = 1.06 * max(np.abs(plane).max() for plane, _ in flat.values())
    with styled():
        figure, axes = panels(len(runs), columns=4, width=2.6, height=2.85)
        for panel, (name, (plane, share)) in zip(axes, flat.items(), strict=True):
            _draw_plane(panel, plane, lines=lines, points=points)
            panel.set_title(name)
            panel.set_xlabel(f"{100 * share:.0f} % of the variance")
            panel.set(xlim=(-reach, reach), ylim=(-reach, reach), aspect="equal", xticks=[], yticks=[])
        _name_clouds(axes[0])
        save(figure, output)


def _draw_plane(axes: Axes, plane: np.ndarray, *, lines: int, points: int) -> None:
    images, captions = np.split(plane, 2)
    shown = np.unique(np.linspace(0, len(images) - 1, points).astype(int))
    joined = np.unique(np.linspace(0, len(images) - 1, lines).astype(int))
    segments = list(np.stack([images[joined], captions[joined]], axis=1))
    axes.add_collection(LineCollection(segments, colors=MUTED, linewidths=0.5, alpha=0.55))
    axes.plot(*images[shown].T, "o", color=IMAGES, markersize=2.6, alpha=0.55, mew=0)
    axes.plot(*captions[shown].T, "^", color=CAPTIONS, markersize=2.8, alpha=0.55, mew=0)
    axes.spines[["left", "bottom"]].set_color("#d9dde3")


def _name_clouds(axes: Axes) -> None:
    axes.text(0.03, 0.98, "● images", color=IMAGES, transform=axes.transAxes, va="top", fontsize=8)
    axes.text(0.03, 0.91, "▲ captions", color=CAPTIONS, transform=axes.transAxes, va="top", fontsize=8)
