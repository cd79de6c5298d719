"""Draw the figures of the tour from a finished demo.

make demo
python docs/demo.py
"""

import shutil
from pathlib import Path
from xml.etree import ElementTree

from PIL import Image

FIGURES = Path(__file__).parent / "figures"
SVG = "http://www.w3.org/2000/svg"
# Points that a panel of a picture is wide.
PANEL = 140


def main(root: Path = Path("demo")) -> None:
    """Scenes, the second picture of the similarities, and how often phrases find their objects."""
    Image.open(root / "data/scenes/contact_sheet.png").quantize(64).save(FIGURES / "demo-scenes.png", optimize=True)
    excerpt(root / "results/figures/similarity.svg", FIGURES / "demo-similarity.svg", rows=(2, 4), columns=4)
    shutil.copy(root / "results/figures/grounding.svg", FIGURES / "demo-grounding.svg")


def excerpt(figure: Path, output: Path, *, rows: tuple[int, int], columns: int) -> None:
    """Keep some rows of a grid of panels that Matplotlib has drawn, each with a title."""
    ElementTree.register_namespace("", SVG)
    ElementTree.register_namespace("xlink", "http://www.w3.org/1999/xlink")
    tree = ElementTree.parse(figure)
    root = tree.getroot()
    whole = root.find(f"{{{SVG}}}g")
    panels = [group for group in whole if group.get("id").startswith("axes_")]
    first, last = (row * columns for row in rows)
    # A title stands above its panel, on two lines at most.
    top, bottom = min(places(panels[first], "y")) - 12, min(places(panels[last], "y")) - 24
    for panel in (*panels[:first], *panels[last:]):
        whole.remove(panel)
    width = max(x for panel in panels[first:last] for x in places(panel, "x")) + PANEL
    for name, value in {"viewBox": f"0 {top} {width} {bottom - top}", "width": width, "height": bottom - top}.items():
        root.set(name, str(value))
    tree.write(output, encoding="utf-8", xml_declaration=True)


def places(panel: ElementTree.Element, axis: str) -> list[float]:
    """Where the texts of a panel stand."""
    return [float(text.get(axis)) for text in panel.iter(f"{{{SVG}}}text") if text.get(axis)]


if __name__ == "__main__":
    main()
