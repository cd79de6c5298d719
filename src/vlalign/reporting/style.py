"""How every figure looks, and how it is written: the same bytes for the same numbers.

Modules of figures import this one wherever params are read, so Matplotlib is imported in the functions that use it.
"""

import itertools
import math
import textwrap
import warnings
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

from vlalign.files import atomic_write

if TYPE_CHECKING:
    import numpy as np
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

INK = "#20252d"
MUTED = "#6b7280"
RULE = "#d9dde3"
BASELINE = "#6b7280"
# Of what is right and what is wrong.
HIT, MISS = "#0072b2", "#d55e00"
# Okabe & Ito's colours, darkened where they are too light for lines and text on white.
PALETTE = (
    *("#0072b2", "#d55e00", "#009e73", "#b45c95", "#a6761d", "#3a9bd9", "#7a4fb5", "#8c2d04", "#4d6b00"),
    *("#1b2f6b", "#e58fb0", "#8fb80a", "#00a5a8", "#d1a400", "#c2185b", "#6b4a35"),
)
# Inches of a key's line with the space around it, and of a letter, both generously.
KEY_LINE, KEY_LETTER = 0.6, 0.075

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
    "axes.linewidth": 0.8,
    **dict.fromkeys(("axes.spines.top", "axes.spines.right"), False),
    "axes.axisbelow": True,
    "axes.unicode_minus": True,
    "grid.color": RULE,
    "grid.linewidth": 0.6,
    "text.color": INK,
    **dict.fromkeys(("axes.edgecolor", "xtick.color", "ytick.color"), "#9aa1ab"),
    **dict.fromkeys(("axes.labelcolor", "xtick.labelcolor", "ytick.labelcolor"), MUTED),
    **dict.fromkeys(("xtick.labelsize", "ytick.labelsize"), 8.0),
    "legend.fontsize": 8.5,
    "legend.handlelength": 1.4,
    "xtick.major.size": 3.0,
    "ytick.major.size": 0.0,
    "lines.solid_capstyle": "round",
    **dict.fromkeys(("figure.facecolor", "savefig.facecolor"), "white"),
}


@contextmanager
def canvas(
    output: str | Path, width: float, height: float, *, layout: Literal["constrained"] | None = None
) -> "Iterator[Figure]":
    """A figure of a size in inches, in the style of all, written to `output` at the end: an SVG without date, version
    or random identifiers. Drawing and saving both happen inside, since SVG options are read when the file is written.
    """
    import matplotlib
    from matplotlib.figure import Figure

    with matplotlib.rc_context(RC), warnings.catch_warnings(), atomic_write(output) as temporary:
        # Text stays text in the SVG: whoever shows it has the glyphs that the font for measuring lacks.
        warnings.filterwarnings("ignore", message=r"Glyph .* missing from font", category=UserWarning)
        figure = Figure(figsize=(width, height), layout=layout)
        yield figure
        metadata = {"Date": None, "Creator": None, "Format": None, "Type": None}
        figure.savefig(temporary, format="svg", dpi=144, bbox_inches="tight", pad_inches=0.08, metadata=metadata)


@contextmanager
def panels(
    output: str | Path, count: int, *, columns: int, width: float, height: float, sharey: bool = False
) -> "Iterator[list[Axes]]":
    """A figure of `count` panels of `width` x `height` inches, row by row, without empty axes; written at the end."""
    columns = min(columns, count)
    rows = -(-count // columns)
    with canvas(output, width * columns, height * rows, layout="constrained") as figure:
        figure.get_layout_engine().set(w_pad=0.09, h_pad=0.09)  # type: ignore[union-attr, call-arg]
        axes = list(figure.subplots(rows, columns, squeeze=False, sharey=sharey).flat)
        for spare in axes[count:]:
            spare.remove()
        yield axes[:count]


class Page:
    """A figure that texts and pictures are put on, at inches from its left and from its top; it grows with them."""

    # Inches of a line of text, and of one letter in the middle; of a bold one.
    LINE, LETTER, BOLD = 0.145, 0.058, 0.067

    def __init__(self, figure: "Figure") -> None:
        self.figure = figure

    def picture(self, image: "np.ndarray", left: float, top: float, side: float, *, colour: str = RULE) -> None:
        """A square picture, H W 3, with a frame, which is thick where it has a colour of its own."""
        axes = self.figure.add_axes((left, 1 - top - side, side, side), xticks=[], yticks=[])
        axes.imshow(image, interpolation="none")
        axes.spines[:].set(visible=True, color=colour, linewidth=0.8 if colour == RULE else 2.2)

    def text(self, left: float, top: float, text: str, *, width: float, lines: int = 4, **look: Any) -> float:
        """A text within `width` inches and at most so many lines; returns its height in inches."""
        letters = max(1, int(width / (self.BOLD if look.get("fontweight") == "bold" else self.LETTER)))
        wrapped = textwrap.wrap(text, letters, max_lines=lines, placeholder=" …") or [""]
        self.figure.text(left, 1 - top, "\n".join(wrapped), **{"va": "top", "fontsize": 8, **look})
        return self.LINE * len(wrapped)


@contextmanager
def page(output: str | Path) -> Iterator[Page]:
    """An empty page, written to `output` at the end."""
    # Of one inch, so that inches are shares of it; what is saved is all that was put on it.
    with canvas(output, 1, 1) as figure:
        yield Page(figure)


def placeholder(output: str | Path, text: str) -> None:
    """Write a figure that says why there is none, for a workflow that has declared the file."""
    with canvas(output, 7, 0.9) as figure:
        figure.text(0.5, 0.5, text, ha="center", va="center", color=MUTED)


def palette(names: Iterable[str]) -> dict[str, str]:
    """A colour for every name, in order."""
    return dict(zip(names, itertools.cycle(PALETTE)))


def arm_colours(arms: Sequence[str], *, baseline: str) -> dict[str, str]:
    """Give grey to the baseline and the palette's colours to the others, in order; the same in every figure."""
    return {baseline: BASELINE, **palette(arm for arm in arms if arm != baseline)}


def label_ends(axes: "Axes", ends: Sequence[End]) -> None:
    """Write (y, text, colour) labels right of the panel, far enough apart to be read."""
    if not ends:
        return
    import numpy as np

    ends = sorted(ends)
    to_panel = axes.transScale + axes.transLimits
    wanted = np.array([to_panel.transform((axes.get_xlim()[1], y))[1] for y, _, _ in ends])
    placed = spaced(wanted, gap=0.095)  # of the panel's height
    placed = placed - min(0.0, placed[0]) - max(0.0, placed[-1] - 1.0)
    for (_, text, colour), y in zip(ends, placed, strict=True):
        axes.text(1.03, y, text, transform=axes.transAxes, color=colour, va="center", fontsize=7.5)


def outline(
    axes: "Axes", mask: "np.ndarray", *, named: bool, meant: bool, known: bool = True, width: float = 1.8
) -> None:
    """Outline a mask as what a phrase names, rightly or not, what it means alone, or neither.

    known: whether it is known what it means. width: of the first three, in points.
    """
    from matplotlib.colors import to_rgb

    colour, look = MUTED, dict[str, Any](linewidths=0.7)
    if named:
        colour, look = (HIT if meant else MISS) if known else INK, {"linewidths": width}
    elif meant:
        colour, look = INK, {"linewidths": width, "linestyles": "dashed"}
    axes.contour(mask.astype(float), levels=[0.5], colors=[to_rgb(colour)], **look)


def note(axes: "Axes", text: str, place: tuple[float, float], *, offset: tuple[float, float], **look: Any) -> None:
    """Write a small text, `offset` points from a place."""
    axes.annotate(text, place, xytext=offset, textcoords="offset points", **look)


def name_rows(axes: "Axes", arms: Sequence[str], *, colours: Mapping[str, str], shown: bool) -> None:
    """Name the arms of a panel's rows in their colours; shown: whether it is the panel that has the names."""
    axes.set_yticks(range(len(arms)), arms if shown else [""] * len(arms))
    for label, arm in zip(axes.get_yticklabels(), arms, strict=True):
        label.set_color(colours[arm])
    axes.spines["left"].set_visible(False)


def key(axes: "Axes", colours: Mapping[str, str]) -> None:
    """Name the colours once above all panels of a figure, where labels at the curves' ends would hide each other."""
    from matplotlib.lines import Line2D

    lines = [Line2D([], [], color=colour, linewidth=2.4, label=name) for name, colour in colours.items()]
    # Several rows where one would be wider than the figure: Matplotlib wraps none.
    figure = axes.get_figure(root=True)
    assert figure is not None
    sizes, width = [KEY_LINE + KEY_LETTER * len(name) for name in colours], figure.get_figwidth()
    columns = len(lines) if sum(sizes) <= width else max(1, int(width / max(sizes)))
    figure.legend(handles=lines, loc="outside upper left", ncols=columns, frameon=False, labelcolor="linecolor")


def spaced(sorted_positions: "np.ndarray", *, gap: float) -> "np.ndarray":
    """Move sorted positions as little as is simple so that neighbours are `gap` apart, and keep their mean."""
    import numpy as np
    from scipy.optimize import isotonic_regression

    steps = gap * np.arange(len(sorted_positions))
    return isotonic_regression(sorted_positions - steps).x + steps


def logarithmic(axes: "Axes", name: Literal["x", "y"]) -> None:
    """Make one axis logarithmic, with powers of ten as plain text: Matplotlib's own labels are formulas."""
    from matplotlib.ticker import FuncFormatter, NullLocator

    axes.set(**{f"{name}scale": "log"})
    axis = axes.xaxis if name == "x" else axes.yaxis
    axis.set_major_formatter(FuncFormatter(lambda value, _: power_of_ten(value)))
    axis.set_minor_locator(NullLocator())


def power_of_ten(value: float) -> str:
    """`10⁻³` for 0.001; what is no power of ten as it is."""
    exponent = round(math.log10(value)) if value > 0 else 0
    is_power = math.isclose(value, 10.0**exponent, rel_tol=1e-5)
    return f"10{str(exponent).translate(SUPERSCRIPTS)}" if is_power else f"{value:g}"


def spans_decades(values: Sequence[float]) -> bool:
    """True when a logarithmic axis shows `values` better: all positive, and over a factor of 30 apart."""
    values = [value for value in values if math.isfinite(value)]
    return bool(values) and min(values) > 0 and max(values) / min(values) > 30
