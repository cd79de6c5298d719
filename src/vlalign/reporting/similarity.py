"""What a model sees in a picture: similarity of each phrase with patches and with object masks."""

import textwrap
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
from matplotlib import colormaps, patheffects
from matplotlib.axes import Axes
from matplotlib.colors import to_rgb
from matplotlib.figure import Figure

from vlalign.reporting.cells import number
from vlalign.reporting.style import INK, MUTED, placeholder, save, styled

HIT, MISS = "#0072b2", "#d55e00"
HEAT = colormaps["YlOrRd"]


@dataclass(frozen=True)
class SceneDrawing:
    """One picture and what a model makes of its phrases.

    image: H x W x 3 uint8. masks: R H W bool. patch_similarity: P V, the patches row by row over `grid` (rows,
    columns). region_similarity: P R, -inf for masks outside of what the model sees. referents: for each phrase the
    indices of the masks that it means; None where nobody knows them. label: who scored it, such as the run's name;
    shown beside the picture.
    """

    image: np.ndarray
    masks: np.ndarray
    phrases: list[str]
    patch_similarity: np.ndarray
    grid: tuple[int, int]
    region_similarity: np.ndarray
    referents: list[set[int]] | None
    label: str = field(default="")

    def chosen(self, phrase: int) -> set[int]:
        """The k masks that are most similar to the phrase, k being the number of its referents, or 1."""
        order = np.argsort(-self.region_similarity[phrase], kind="stable")
        return set(order[: 1 if self.referents is None else len(self.referents[phrase])].tolist())

    def outlined(self, phrase: int) -> set[int]:
        """The masks with a thick outline: those that are meant, or else those that are chosen."""
        return self.chosen(phrase) if self.referents is None else self.referents[phrase]


def draw_similarity(scenes: Sequence[SceneDrawing], output: str | Path, *, phrases: int = 4) -> None:
    """Draw one row per scene: the picture, then up to `phrases` heat maps with outlined masks and their scores.

    Heat runs from a scene's lowest to its highest patch similarity, the same for all its phrases. Referents have a
    thick outline; a phrase is marked ✓ when the model's k best masks are its k referents. Where these are not known,
    the best mask has the outline.
    """
    if not scenes:
        return placeholder(output, "no scene was drawn")
    columns = 1 + min(phrases, max(len(scene.phrases) for scene in scenes))
    with styled():
        figure = Figure(figsize=(1.95 * columns, 2.2 * len(scenes)), layout="constrained")
        for row, axes in zip(figure.subplots(len(scenes), columns, squeeze=False), scenes, strict=True):
            _draw_scene(row, axes)
        save(figure, output)


def _draw_scene(row: np.ndarray, scene: SceneDrawing) -> None:
    for axes in row:
        axes.set_axis_off()
    row[0].imshow(scene.image, interpolation="none")
    row[0].set_title(scene.label, fontsize=8.5)
    for index, axes in enumerate(row[1 : 1 + len(scene.phrases)]):
        _draw_heat(axes, scene, index)
        _draw_masks(axes, scene, index)
        if scene.referents is None:
            axes.set_title(textwrap.fill(scene.phrases[index], 26), color=INK, fontsize=8)
            continue
        right = scene.chosen(index) == scene.referents[index]
        title = textwrap.fill(f"{'✓' if right else '✗'} {scene.phrases[index]}", 26)
        axes.set_title(title, color=HIT if right else MISS, fontsize=8)


def _draw_heat(axes: Axes, scene: SceneDrawing, index: int) -> None:
    low, high = scene.patch_similarity.min(), scene.patch_similarity.max()
    heat = (scene.patch_similarity[index].reshape(scene.grid) - low) / max(high - low, 1e-9)
    rows, columns = scene.image.shape[:2]
    heat = heat[np.arange(rows) * scene.grid[0] // rows][:, np.arange(columns) * scene.grid[1] // columns]
    grey = scene.image.mean(axis=2, keepdims=True) / 255
    backdrop = 0.35 * grey + 0.65
    alpha = 0.15 + 0.6 * heat[..., None]
    axes.imshow((1 - alpha) * backdrop + alpha * HEAT(heat)[..., :3] * (0.6 + 0.4 * grey), interpolation="none")


def _draw_masks(axes: Axes, scene: SceneDrawing, index: int) -> None:
    halo = [patheffects.withStroke(linewidth=2.2, foreground="white")]
    for region, mask in enumerate(scene.masks):
        if not mask.any() or np.isneginf(scene.region_similarity[index, region]):
            continue
        colour, width = (INK, 1.8) if region in scene.outlined(index) else (MUTED, 0.7)
        axes.contour(mask.astype(float), levels=[0.5], colors=[to_rgb(colour)], linewidths=width)
        y, x = (float(places.mean()) for places in np.nonzero(mask))
        best = region in scene.chosen(index)
        axes.text(
            x,
            y,
            number(float(scene.region_similarity[index, region]), digits=2),
            ha="center",
            va="center",
            fontsize=8 if best else 7,
            fontweight="bold" if best else "normal",
            color=INK if best else MUTED,
            path_effects=halo,
        )
