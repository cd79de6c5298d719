"""Segments by SAM, SAM 2 or SAM-HQ: the masks of a grid of points over each picture (PowerCLIP-S).

The library's mask-generation pipeline takes one picture at a time, enlarges every candidate to the size of the picture,
and lays SAM 2's points as if it padded pictures as SAM does, so that those of a wide picture miss its lower part. Here
pictures are embedded in batches, points are shares of the picture, and candidates are as large as the model makes them.

Suffixes: P points, H W cells, R candidate masks of one picture.
"""

from collections.abc import Iterator, Sequence
from typing import TYPE_CHECKING, Any

import numpy as np
import torch
import torch.nn.functional as F
from PIL import Image
from torch import Tensor

from vlalign.annotate.regions.masks import grid_shape
from vlalign.annotate.regions.segments import select
from vlalign.errors import VlalignError
from vlalign.foreign import no_foreign_code

if TYPE_CHECKING:
    from vlalign.annotate.regions.segmenters.sam import SamSegments

AUTOCAST = {"bf16": torch.bfloat16, "fp16": torch.float16}
# How far the threshold of a mask moves when its stability is measured, as in SAM's own mask generator.
OFFSET = 1.0
# Points decoded at once: 50 MB of candidates, three of 256 x 256 for each.
POINTS = 64


class SamSegmenter:
    """Masks that the model is sure of, filtered as `params` say."""

    def __init__(self, params: "SamSegments", *, side: int, device: str = "auto") -> None:
        """Raises VlalignError when the model cannot be loaded or is no SAM."""
        self.params = params
        self.side = side
        self.device = torch.device(("cuda" if torch.cuda.is_available() else "cpu") if device == "auto" else device)
        model, self.prepare = load(params.model, params.revision)
        self.model = model.to(self.device).eval()

    def __call__(self, images: Sequence[Image.Image]) -> list[np.ndarray]:
        """Bool masks R H W of each picture, the largest first."""
        return list(self._masks(images))

    @torch.inference_mode()
    def _masks(self, images: Sequence[Image.Image]) -> Iterator[np.ndarray]:
        inputs = self.prepare(images=[image.convert("RGB") for image in images], return_tensors="pt")
        pixels = inputs["pixel_values"].to(self.device)
        with self._autocast():
            embeddings = self.model.get_image_embeddings(pixels)
        for row, image in enumerate(images):
            padded = torch.tensor(pixels.shape[-2:])
            # SAM keeps the picture's proportions and pads it; SAM 2 distorts it.
            size = inputs["reshaped_input_sizes"][row] if "reshaped_input_sizes" in inputs else padded
            candidates = self._candidates(_row(embeddings, row), size, size / padded, image)
            masks, scores = (torch.cat(parts).cpu().numpy() for parts in zip(*candidates, strict=True))
            yield select(masks, scores, self.params)

    def _candidates(
        self, embedding: Any, size: Tensor, share: Tensor, image: Image.Image
    ) -> Iterator[tuple[Tensor, Tensor]]:
        """Masks R H W that pass the model's own measures, and their scores, of some points at a time.

        size: height and width of the picture within the model's input; share: which part of the input that is.
        """
        grid = grid_shape(image.height, image.width, side=self.side)
        named = {"image_embeddings": embedding}
        if isinstance(embedding, tuple):  # SAM-HQ
            named = dict(zip(("image_embeddings", "intermediate_embeddings"), embedding, strict=True))
        for points_P2 in (point_grid(self.params.points) * size.flip(0)).split(POINTS):
            with self._autocast():
                output = self.model(input_points=points_P2[None, :, None].to(self.device), **named)
            logits_RHW, scores_R = output.pred_masks[0].flatten(0, 1).float(), output.iou_scores[0].flatten().float()
            # No coarser than the model's own masks, so that the stability of small ones can be told.
            fine = grid_shape(image.height, image.width, side=max(self.side, *logits_RHW.shape[1:]))
            logits_RHW = resample(logits_RHW, share, fine)
            sure = self._sure(logits_RHW, scores_R)
            yield F.adaptive_avg_pool2d((logits_RHW[sure] > 0).float(), grid) >= 0.5, scores_R[sure]

    def _sure(self, logits_RHW: Tensor, scores_R: Tensor) -> Tensor:
        """Which candidates the model expects to be good, and which do not hang on the threshold."""
        inner, outer = ((logits_RHW > offset).sum((1, 2)) for offset in (OFFSET, -OFFSET))
        stability_R = inner / outer.clamp(min=1)
        limits = (scores_R, self.params.min_iou), (stability_R, self.params.min_stability)
        return torch.stack([(values_R > least) | (least == 0) for values_R, least in limits]).all(0)

    def _autocast(self) -> torch.autocast:
        kind = self.params.autocast
        return torch.autocast(self.device.type, dtype=AUTOCAST.get(kind), enabled=kind in AUTOCAST)


def _row(embeddings: Any, row: int) -> Any:
    """Those of one picture: a tensor (SAM), a list of them (SAM 2), or a tuple of a tensor and a list (SAM-HQ)."""
    if isinstance(embeddings, Tensor):
        return embeddings[row : row + 1]
    return type(embeddings)(_row(part, row) for part in embeddings)


def point_grid(points: int) -> Tensor:
    """Centres of points x points equal parts of the unit square, P 2: x, then y."""
    centres = (torch.arange(points) + 0.5) / points
    return torch.cartesian_prod(centres, centres).flip(1)


def resample(logits_RHW: Tensor, share: Tensor, grid: tuple[int, int]) -> Tensor:
    """Logits at the centres of the cells of a grid; the picture is the upper left `share` (height, width) of them."""
    scale = torch.diag(share.flip(0))
    theta = torch.cat([scale, (share.flip(0) - 1)[:, None]], 1).to(logits_RHW)
    places = F.affine_grid(theta[None], [1, 1, *grid], align_corners=False)
    return F.grid_sample(logits_RHW[None], places, padding_mode="border", align_corners=False)[0]


def load(model: str, revision: str) -> tuple[Any, Any]:
    """The model, in float32, and what prepares its pictures, by name or path.

    Raises VlalignError when transformers is missing, or the model is missing, out of reach or no SAM.
    """
    try:
        from transformers import AutoImageProcessor, AutoModelForMaskGeneration
    except ImportError:
        raise VlalignError(
            "annotate.regions.segments.segmenter is sam, which needs transformers: install the extra `segment`, "
            "pip install 'vlalign[segment]', or set it to superpixels"
        ) from None
    try:
        given: dict[str, Any] = {"revision": revision, "trust_remote_code": False}
        weights = {"dtype": torch.float32, "use_safetensors": True}
        with no_foreign_code():
            network = AutoModelForMaskGeneration.from_pretrained(model, **weights, **given)
            return network, AutoImageProcessor.from_pretrained(model, **given)
    except Exception as error:  # the library raises whatever its files, formats and connections do
        raise VlalignError(
            f"annotate.regions.segments.model {model} (revision {revision}) cannot be loaded as a SAM "
            f"({error}); check the keys and the network, or give the path of a folder that was copied from elsewhere"
        ) from None
