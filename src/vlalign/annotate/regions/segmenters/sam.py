"""Segments by a model."""

from pathlib import Path
from typing import TYPE_CHECKING, Literal

from pydantic import Field

from vlalign.params.annotate import SegmentFilters
from vlalign.params.base import Few, Share

if TYPE_CHECKING:
    from vlalign.annotate.regions.sam_masks import SamSegmenter


class SamSegments(SegmentFilters):
    """Masks of SAM, SAM 2 or SAM-HQ at a grid of points (PowerCLIP-S: SAM 2)."""

    segmenter: Literal["sam"]
    model: str = Field(
        default="facebook/sam2.1-hiera-tiny", description="A model of the Hugging Face hub, or the path of its folder"
    )
    revision: str = Field(default="main", description="Branch, tag or commit; a commit pins the weights")
    points: Few = Field(default=16, description="Points along each side of the picture; SAM's own demos take 32")
    min_iou: Share = Field(default=0.88, description="Least quality that the model expects of a mask; 0: any")
    min_stability: Share = Field(
        default=0.95, description="Least share of a mask that remains where the threshold is moved by 1; 0: any"
    )
    autocast: Literal["none", "bf16", "fp16"] = Field(default="none", description="Arithmetic of the model")

    def load(self, *, side: int, device: str = "auto") -> "SamSegmenter":
        """See Segmenter."""
        from vlalign.annotate.regions.sam_masks import SamSegmenter

        return SamSegmenter(self, side=side, device=device)

    def files(self) -> dict[str, Path]:
        """See Segmenter; those of a model that is a folder. One of the hub is named by its revision."""
        folder = Path(self.model)
        found = sorted(path for path in folder.rglob("*") if path.is_file()) if folder.is_dir() else []
        return {path.relative_to(folder).as_posix(): path for path in found}
