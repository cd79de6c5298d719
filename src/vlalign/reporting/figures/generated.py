"""Pictures that runs generate from captions, beside the real ones."""

from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Literal

from pydantic import Field

from vlalign.params.base import Name
from vlalign.params.folders import Folders
from vlalign.reporting import style
from vlalign.reporting.figure import Caption, Figure, Measured

if TYPE_CHECKING:
    import numpy as np

    from vlalign.params import Params
    from vlalign.reporting.results import Results, Run

# Inches of a picture, of a caption, and between them; pixels of a picture's side, whatever the decoder makes.
SIDE, WIDTH, GAP = 1.1, 1.9, 0.1
PIXELS = 192


class GeneratedPictures(Figure):
    """Captions, their real pictures, what the decoder makes of these pictures, and what it makes of the captions."""

    section = "Text to image"
    figure: Literal["generated"] = "generated"
    captions: Annotated[int, Field(ge=1, le=8)] = Field(default=6, description="How many are shown, the first ones")
    runs: tuple[Name, ...] = Field(default=(), description="Whose pictures are shown; `generation.runs` if left out")

    @classmethod
    def has_data(cls, params: "Params") -> bool:
        """See Figure."""
        return params.generation is not None

    def completed(self, params: "Params") -> "Figure":
        """See Figure."""
        generating = params.generation.runs if params.generation else ()
        return self.model_copy(update={"runs": self.runs or generating})

    def draw(self, name: str, source: Measured, output: Path) -> None:
        """A row for each caption; a column for each run, of its first seed."""
        from vlalign.generation.pictures import examples

        first = {run.name: run for run in reversed(source.results.runs)}
        shown = {name: examples(_folder(first[name])) for name in self.runs if name in first}
        if not shown:
            return style.placeholder(output, "no run has generated pictures")
        rows = next(iter(shown.values()))[: self.captions]
        columns = {"real": [row["real"] for row in rows], "from the picture": [row["of_image"] for row in rows]}
        columns |= {name: [row["image"] for row in found] for name, found in shown.items()}
        lefts = [WIDTH + GAP + number * (SIDE + GAP) for number in range(len(columns))]
        with style.page(output) as page:
            for left, title in zip(lefts, columns, strict=True):
                page.text(left, 0, title, width=SIDE, lines=2, fontweight="bold")
            for number, row in enumerate(rows):
                top = 2.5 * page.LINE + number * (SIDE + GAP)
                page.text(0, top, row["caption"], width=WIDTH, lines=6)
                for left, pictures in zip(lefts, columns.values(), strict=True):
                    page.picture(_thumbnail(pictures[number]), left, top, SIDE)

    def caption(self, name: str, results: "Results") -> Caption:
        """See Figure."""
        return Caption(
            "Pictures from captions",
            "Left: the caption and its picture. From the picture: what the decoder makes of that picture's own "
            "embedding, the most that an embedding of the caption can be expected to give. Then what it makes of the "
            "text embedding of each run, with the same noise.",
            "The first captions of the split, one seed of each run.",
        )


def _folder(run: "Run") -> Path:
    """Where its pictures lie, from the folder of its results."""
    root = Path(run.directory).parents[3]
    return Folders(root, root, root).generated(run.name, run.seed)


def _thumbnail(content: bytes) -> "np.ndarray":
    import numpy as np

    from vlalign.data.samples import decode_image
    from vlalign.models.pictures import fit

    picture = decode_image(content)
    return np.asarray(fit(picture, min(PIXELS, *picture.size)).permute(1, 2, 0))
