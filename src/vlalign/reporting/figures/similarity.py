"""What a model sees in a picture: similarity of each phrase with patches and with object masks, and what it names."""

import textwrap
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

from pydantic import Field

from vlalign.params.base import Few
from vlalign.reporting import style
from vlalign.reporting.figure import Caption, Illustration

if TYPE_CHECKING:
    import numpy as np

    from vlalign.analysis.illustrations import SceneSimilarity, ShownRun
    from vlalign.reporting.results import Results


class Similarity(Illustration):
    """One row per picture and run: the picture, then heat maps of phrases with outlined masks and their scores."""

    section = "Grounding"
    rank = 1
    figure: Literal["similarity"] = "similarity"
    phrases: Few = Field(default=4, description="At most this many of each picture")

    def see(self, run: "ShownRun") -> "list[SceneSimilarity]":
        """Nothing of runs that are not compared."""
        from vlalign.analysis.illustrations import scene_similarities

        return scene_similarities(run) if run.is_compared else []

    def draw(self, name: str, source: "Mapping[str, Sequence[SceneSimilarity]]", output: Path) -> None:
        """Heat runs from a scene's lowest to its highest patch similarity, the same for all its phrases. What a phrase
        names has a thick outline; a phrase is marked ✓ when these are exactly its referents.
        """
        # Runs stand side by side for the same picture.
        of_runs = ([(run, scene) for scene in scenes] for run, scenes in source.items() if scenes)
        rows = [row for of_picture in zip(*of_runs, strict=False) for row in of_picture]
        if not rows:
            return style.placeholder(output, "no scene was drawn")
        columns = 1 + min(self.phrases, max(len(scene.phrases) for _, scene in rows))
        with style.canvas(output, 1.95 * columns, 2.2 * len(rows), layout="constrained") as figure:
            for axes, (run, scene) in zip(figure.subplots(len(rows), columns, squeeze=False), rows, strict=True):
                _draw_scene(axes, run, scene)

    def caption(self, name: str, results: "Results") -> Caption:
        """See Figure."""
        seen = "Left the picture, then one phrase each: the darker a patch, the more similar to the phrase."
        scale = "One colour scale per row, from its lowest to its highest patch similarity."
        subset = "the subset A of all with the largest sum of similarities over |A|^p"
        if not results.groups("grounding", "exponent"):
            return Caption(
                "What the phrases see",
                f"{seen} Numbers are similarities of whole regions. Bold, with a thick outline: what the phrase names, "
                f"{subset}. Nobody has marked what the phrases mean.",
                "The first images of the evaluated split whose first caption has two phrases, not chosen by outcome. "
                "Features are centred over what is shown. p stands above each picture; where no known referents are at "
                f"hand it is not chosen, but given. {scale}",
            )
        return Caption(
            "What the phrases see",
            f"{seen} Numbers are similarities of whole object masks. Bold, with a thick outline: what the phrase "
            f"names, {subset}; blue if it is meant, orange if it is not. Dashed: meant, but not named. ✓ it names "
            "exactly what it means, ✗ it does not.",
            "Scenes of the evaluated split in the order of the data, not chosen by outcome. p stands above each "
            "picture. As in the measure above it is chosen on the validation split, by whose means features are "
            f"centred. {scale}",
        )


def _draw_scene(row: "np.ndarray", run: str, scene: "SceneSimilarity") -> None:
    for axes in row:
        axes.set_axis_off()
    row[0].imshow(scene.image, interpolation="none")
    row[0].set_title(f"{run}, p = {scene.exponent:.2f}", fontsize=8.5)
    places = [innermost(mask) for mask in scene.masks]
    for index, axes in enumerate(row[1 : 1 + len(scene.phrases)]):
        _draw_heat(axes, scene, index)
        _draw_masks(axes, scene, index, places)
        if scene.referents is None:
            axes.set_title(textwrap.fill(scene.phrases[index], 26), color=style.INK, fontsize=8)
            continue
        right = scene.named[index] == scene.referents[index]
        title = textwrap.fill(f"{'✓' if right else '✗'} {scene.phrases[index]}", 26)
        axes.set_title(title, color=style.HIT if right else style.MISS, fontsize=8)


def _draw_heat(axes: "style.Axes", scene: "SceneSimilarity", index: int) -> None:
    import numpy as np
    from matplotlib import colormaps

    low, high = scene.patch_similarity.min(), scene.patch_similarity.max()
    heat = (scene.patch_similarity[index].reshape(scene.grid) - low) / max(high - low, 1e-9)
    rows, columns = scene.image.shape[:2]
    heat = heat[np.arange(rows) * scene.grid[0] // rows][:, np.arange(columns) * scene.grid[1] // columns]
    grey = scene.image.mean(axis=2, keepdims=True) / 255
    backdrop = 0.35 * grey + 0.65
    alpha = 0.15 + 0.6 * heat[..., None]
    colours = alpha * colormaps["YlOrRd"](heat)[..., :3] * (0.6 + 0.4 * grey)
    axes.imshow((1 - alpha) * backdrop + colours, interpolation="none")


def innermost(mask: "np.ndarray") -> tuple[int, int]:
    """The row and column of the pixel of a mask that is farthest from what is outside; there, a number is legible.

    The middle of a ring or of a bent shape is not inside, and that of a sliver at the edge hangs over it.
    """
    import numpy as np
    from scipy.ndimage import distance_transform_edt

    depth = distance_transform_edt(np.pad(mask, 1))
    row, column = np.unravel_index(depth.argmax(), depth.shape)
    return int(row) - 1, int(column) - 1


def _draw_masks(axes: "style.Axes", scene: "SceneSimilarity", index: int, places: Sequence[tuple[int, int]]) -> None:
    import numpy as np
    from matplotlib import patheffects

    from vlalign.reporting.cells import number

    halo = [patheffects.withStroke(linewidth=2.2, foreground="white")]
    for region, mask in enumerate(scene.masks):
        if not mask.any() or np.isneginf(scene.region_similarity[index, region]):
            continue
        meant = set() if scene.referents is None else scene.referents[index]
        style.outline(
            axes, mask, named=region in scene.named[index], meant=region in meant, known=scene.referents is not None
        )
        y, x = places[region]
        look: dict[str, Any] = {"fontsize": 7, "fontweight": "normal", "color": style.MUTED}
        if region in scene.named[index]:
            look = {"fontsize": 8, "fontweight": "bold", "color": style.INK}
        text = number(float(scene.region_similarity[index, region]), digits=2)
        axes.text(x, y, text, ha="center", va="center", path_effects=halo, **look)
