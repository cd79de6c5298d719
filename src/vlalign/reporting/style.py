"""How every figure looks, and how it is written: the same bytes for the same numbers."""

import warnings
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any, Literal

import matplotlib
import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.lines import Line2D
from matplotlib.ticker import FuncFormatter, NullLocator
from scipy.optimize import isotonic_regression

from vlalign.files import atomic_write

INK = "#20252d"
MUTED = "#6b7280"
RULE = "#d9dde3"
BASELINE = "#6b7280"
# Okabe & Ito's colours, darkened where they are too light for lines and text on white.
PALETTE = ("#0072b2", "#d55e00", "#009e73", "#b45c95", "#a6761d", "#3a9bd9", "#7a4fb5", "#8c2d04", "#4d6b00")

SUPERSCRIPTS = str.maketrans("-0123456789", "⁻⁰¹²³⁴⁵⁶⁷⁸⁹")

End = tuple[float, str, str]  # height in data units, text, colour

RC: dict[Any, Any] = {
    "svg.fonttype": "none",
    "svg.hashsalt": "vlalign",
    # Captions, names and values are plain text: "$5 or $10" is no formula.
    "text.parse_math": False,
    "font.family": "DejaVu Sans",
    "font.size": 9.0,
    "axes.titlesize": 9.5,
    "axes.titleweight": "bold",
    "axes.titlelocation": "left",
    "axes.titlepad": 7.0,
    "axes.labelsize": 8.5,
    "axes.labelcolor": MUTED,
    "axes.edgecolor": "#9aa1ab",
    "axes.linewidth": 0.8,
    "axes.spines.top": False,
    "axes.spines.right": False,
    "axes.axisbelow": True,
    "axes.unicode_minus": True,
    "grid.color": RULE,
    "grid.linewidth": 0.6,
    "text.color": INK,
    "xtick.color": "#9aa1ab",
    "ytick.color": "#9aa1ab",
    "xtick.labelcolor": MUTED,
    "ytick.labelcolor": MUTED,
    "xtick.labelsize": 8.0,
    "ytick.labelsize": 8.0,
    "legend.fontsize": 8.5,
    "legend.handlelength": 1.4,
    "xtick.major.size": 3.0,
    "ytick.major.size": 0.0,
    "lines.solid_capstyle": "round",
    "figure.facecolor": "white",
    "savefig.facecolor": "white",
}


@contextmanager
def styled() -> Iterator[None]:
    """Drawing and saving must both happen inside: SVG options are read when the file is written."""
    with matplotlib.rc_context(RC), warnings.catch_warnings():
        # Text stays text in the SVG: whoever shows it has the glyphs that the font for measuring lacks.
        warnings.filterwarnings("ignore", message=r"Glyph .* missing from font", category=UserWarning)
        yield


def save(figure: Figure, output: str | Path) -> None:
    """Write an SVG without date, version or random identifiers."""
    with atomic_write(output) as temporary:
        metadata = {"Date": None, "Creator": None, "Format": None, "Type": None}
        figure.savefig(temporary, format="svg", dpi=144, bbox_inches="tight", pad_inches=0.08, metadata=metadata)


def panels(count: int, *, columns: int, width: float, height: float, sharey: bool = False) -> tuple[Figure, list[Axes]]:
    """Return a figure of `count` panels of `width` x `height` inches, row by row, without empty axes."""
    columns = min(columns, count)
    rows = -(-count // columns)
    figure = Figure(figsize=(width * columns, height * rows), layout="constrained")
    figure.get_layout_engine().set(w_pad=0.09, h_pad=0.09)  # type: ignore[union-attr, call-arg]
    axes = list(figure.subplots(rows, columns, squeeze=False, sharey=sharey).flat)
    for spare in axes[count:]:
        spare.remove()
    return figure, axes[:count]


def placeholder(output: str | Path, text: str) -> None:
    """Write a figure that says why there is none, for a workflow that has declared the file."""
    with styled():
        figure = Figure(figsize=(7, 0.9))
        figure.text(0.5, 0.5, text, ha="center", va="center", color=MUTED)
        save(figure, output)


def arm_colours(arms: Sequence[str], *, baseline: str) -> dict[str, str]:
    """Give grey to the baseline and the palette's colours to the others, in order; the same in every figure."""
    others = [arm for arm in arms if arm != baseline]
    return {baseline: BASELINE} | {arm: PALETTE[index % len(PALETTE)] for index, arm in enumerate(others)}


def label_ends(axes: Axes, ends: Sequence[End], *, gap: float = 0.095) -> None:
    """Write (y, text, colour) labels right of the panel, at least `gap` of its height apart."""
    if not ends:
        return
    ends = sorted(ends)
    to_panel = axes.transScale + axes.transLimits
    wanted = np.array([to_panel.transform((axes.get_xlim()[1], y))[1] for y, _, _ in ends])
    placed = spaced(wanted, gap=gap)
    placed = placed - min(0.0, placed[0]) - max(0.0, placed[-1] - 1.0)
    for (_, text, colour), y in zip(ends, placed, strict=True):
        axes.text(1.03, y, text, transform=axes.transAxes, color=colour, va="center", fontsize=7.5)


def key(figure: Figure, colours: Mapping[str, str]) -> None:
    """Name the colours once above all panels, where labels at the curves' ends would hide each other."""
    lines = [Line2D([], [], color=colour, linewidth=2.4, label=name) for name, colour in colours.items()]
    figure.legend(handles=lines, loc="outside upper left", ncols=len(lines), frameon=False, labelcolor="linecolor")


def spaced(sorted_positions: np.ndarray, *, gap: float) -> np.ndarray:
    """Move sorted positions as little as is simple so that neighbours are `gap` apart, and keep their mean."""
    steps = gap * np.arange(len(sorted_positions))
    return isotonic_regression(sorted_positions - steps).x + steps


def logarithmic(axes: Axes, name: Literal["x", "y"]) -> None:
    """Make one axis logarithmic, with powers of ten as plain text: Matplotlib's own labels are formulas."""
    axes.set(**{f"{name}scale": "log"})
    axis = axes.xaxis if name == "x" else axes.yaxis
    axis.set_major_formatter(FuncFormatter(lambda value, _: power_of_ten(value)))
    axis.set_minor_locator(NullLocator())


def power_of_ten(value: float) -> str:
    """`10⁻³` for 0.001; what is no power of ten as it is."""
    exponent = round(np.log10(value)) if value > 0 else 0
    is_power = np.isclose(value, 10.0**exponent, atol=0)
    return f"10{str(exponent).translate(SUPERSCRIPTS)}" if is_power else f"{value:g}"


def spans_decades(values: Sequence[float]) -> bool:
    """True when a logarithmic axis shows `values` better: all positive, and over a factor of 30 apart."""
    values = [value for value in values if np.isfinite(value)]
    return bool(values) and min(values) > 0 and max(values) / min(values) > 30
