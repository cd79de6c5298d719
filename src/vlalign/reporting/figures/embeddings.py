"""Both modalities' embeddings in two dimensions."""

from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

from pydantic import Field

from vlalign.params.base import Count
from vlalign.reporting import style
from vlalign.reporting.figure import Caption, Illustration

if TYPE_CHECKING:
    import numpy as np

    from vlalign.analysis.illustrations import ShownRun
    from vlalign.reporting.results import Results

IMAGES, CAPTIONS = style.PALETTE[:2]


class Embeddings(Illustration):
    """One panel per run: image and caption embeddings, with lines between some pairs."""

    section = "Shared space"
    figure: Literal["embeddings"] = "embeddings"
    points: Count = Field(default=300, description="Pairs that are drawn; the plane is fitted to all")
    lines: Count = Field(default=40, description="Pairs that a line joins, spread evenly over the rows")

    def see(self, run: "ShownRun") -> "tuple[np.ndarray, np.ndarray]":
        """Image embeddings N D and caption embeddings N D; row i of both is a pair."""
        images, captions = run.features.pairs()
        return images.numpy(), captions.numpy()

    def draw(self, name: str, source: "Mapping[str, tuple[np.ndarray, np.ndarray]]", output: Path) -> None:
        """Panels share one scale, so that distances can be compared between runs."""
        import numpy as np

        if not source:
            return style.placeholder(output, "no embeddings were drawn")
        flat = {run: principal_plane(np.concatenate(pair)) for run, pair in source.items()}
        reach = 1.06 * max(np.abs(plane).max() for plane, _ in flat.values())
        with style.panels(output, len(source), columns=4, width=2.6, height=2.85) as axes:
            for panel, (run, (plane, share)) in zip(axes, flat.items(), strict=True):
                _draw_plane(panel, plane, lines=self.lines, points=self.points)
                panel.set_title(run)
                panel.set_xlabel(f"{100 * share:.0f} % of the variance")
                panel.set(xlim=(-reach, reach), ylim=(-reach, reach), aspect="equal", xticks=[], yticks=[])
            look: dict[str, Any] = {"transform": axes[0].transAxes, "va": "top", "fontsize": 8}
            axes[0].text(0.03, 0.98, "● images", color=IMAGES, **look)
            axes[0].text(0.03, 0.91, "▲ captions", color=CAPTIONS, **look)

    def caption(self, name: str, results: "Results") -> Caption:
        """See Figure."""
        return Caption(
            "Images and captions in two dimensions",
            "A line joins an image to its caption. A gap shows where the dots and the triangles keep to different "
            "places; clouds that hold both are kinds of content.",
            "Plane of the largest variance of both modalities' embeddings together, fitted for each run; the share of "
            "the variance that it holds is given. All panels have one scale.",
        )


def principal_plane(x_ND: "np.ndarray") -> "tuple[np.ndarray, float]":
    """Return coordinates N 2 in the plane of the largest variance, and the share of variance that it holds (0-1).

    The sign of each axis is fixed: its largest loading is positive.
    """
    import numpy as np

    centred_ND = x_ND.astype(np.float64) - x_ND.mean(axis=0, dtype=np.float64)
    _, singular, axes = np.linalg.svd(centred_ND, full_matrices=False)
    plane = axes[:2]
    plane = plane * np.sign(plane[np.arange(len(plane)), np.abs(plane).argmax(axis=1)])[:, None]
    return centred_ND @ plane.T, float((singular[:2] ** 2).sum() / max((singular**2).sum(), 1e-30))


def _draw_plane(axes: "style.Axes", plane: "np.ndarray", *, lines: int, points: int) -> None:
    import numpy as np
    from matplotlib.collections import LineCollection

    images, captions = np.split(plane, 2)
    shown = np.unique(np.linspace(0, len(images) - 1, points).astype(int))
    joined = np.unique(np.linspace(0, len(images) - 1, lines).astype(int))
    segments = list(np.stack([images[joined], captions[joined]], axis=1))
    axes.add_collection(LineCollection(segments, colors=style.MUTED, linewidths=0.5, alpha=0.55))
    axes.plot(*images[shown].T, "o", color=IMAGES, markersize=2.6, alpha=0.55, mew=0)
    axes.plot(*captions[shown].T, "^", color=CAPTIONS, markersize=2.8, alpha=0.55, mew=0)
    axes.spines[["left", "bottom"]].set_color("#d9dde3")
