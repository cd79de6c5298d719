"""How good generated pictures are: how far they are from real ones as a whole, and whether they show their captions."""

from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path
from typing import Any

import torch
import torch.nn.functional as F
from open_clip.timm_model import TimmModel
from PIL import Image
from torch import Tensor, nn

from vlalign.data.samples import Sample, decode_image
from vlalign.data.shards.tar import batched
from vlalign.errors import VlalignError
from vlalign.evaluation.benchmark import ALL, MetricRow
from vlalign.evaluation.features import encode_images, encode_texts
from vlalign.generation.metrics import CLIP, INCEPTION, NAME, PACKAGE, PACKAGED, REAL
from vlalign.generation.pictures import Captions, read_generated
from vlalign.models import DualEncoder
from vlalign.models.packaged import packaged
from vlalign.models.pictures import fit
from vlalign.models.weights import load_image_weights

BATCH = 64


class PooledFeatures(nn.Module):
    """What EfficientNet-Lite0 pools of uint8 pictures N 3 H W: N 1280."""

    side, num_features = 224, 1280

    def __init__(self) -> None:
        super().__init__()
        self.tower = TimmModel("tf_efficientnet_lite0", self.num_features, pool="avg", proj="none").eval()
        load_image_weights(self.tower, PACKAGE)
        self.pixels = packaged(PACKAGE, key="generation.fid").pixels

    def forward(self, pictures_N3HW: Tensor) -> Tensor:
        """See the class."""
        assert self.pixels is not None
        mean, std = self.pixels
        features: Tensor = self.tower((pictures_N3HW / 255 - mean) / std)
        return features


def frechet_distance(real: Any, generated: Any, features: nn.Module | Path, *, side: int) -> float:
    """The Fréchet distance of two sets of pictures, of the Gaussians that fit their features (FID).

    real, generated: pictures of PIL, two or more of each. features: a module from uint8 pictures N 3 H W to N D, with D
    as `num_features`; or the file of torch-fidelity's weights of Inception. side: pixels to which pictures are resized.
    """
    metric = _metric(features)
    for pictures, is_real in ((real, True), (generated, False)):
        for batch in batched(pictures, BATCH):
            pixels = torch.stack([fit(picture, side) for picture in batch])
            with torch.inference_mode():
                metric.update(pixels.to(metric.device), real=is_real)
    return float(metric.compute())


def _metric(features: nn.Module | Path) -> Any:
    device = "cuda" if torch.cuda.is_available() else "cpu"
    try:
        from torchmetrics.image.fid import FrechetInceptionDistance

        if isinstance(features, nn.Module):
            return FrechetInceptionDistance(features).to(device)
        return FrechetInceptionDistance(2048, feature_extractor_weights_path=str(features)).to(device)
    except ImportError as error:
        raise VlalignError(
            f"generation.fid: a package is missing ({error}); install torchmetrics with the extra `generation`, and "
            "torch-fidelity for Inception"
        ) from None
    except Exception as error:  # files that are damaged or of another kind fail in many ways
        raise VlalignError(f"generation.fid: {features} cannot be loaded as Inception's weights ({error})") from error


def check_fid(fid: str, *, base: Path = Path()) -> None:
    """Raises VlalignError where the features of the Fréchet distance are not there; see `score`."""
    if fid != PACKAGE and not (base / fid).is_file():
        raise VlalignError(
            f"generation.fid: {base / fid} is no file; give torch-fidelity's weights of Inception, or {PACKAGE}"
        )


def score(
    pictures: Path, captions: Captions, *, fid: str, base: Path = Path(), judge: DualEncoder | None = None
) -> list[MetricRow]:
    """Rows of the metrics: of the generated pictures, and of the real ones as a reference.

    pictures: folder of what `generate` has written for `captions`. fid: as in params. base: folder from which its path
    counts. judge: the encoder of the CLIP score, in evaluation mode; none is computed without it.

    The real pictures' Fréchet distance is that of every other one to the rest: what half as many perfect pictures get.
    The CLIP score is the mean cosine of caption and picture, its chance level that of a caption and the next picture.
    """
    check_fid(fid, base=base)
    features: nn.Module | Path = PooledFeatures() if fid == PACKAGE else base / fid
    how: dict[str, Any] = {"features": features, "side": PooledFeatures.side if fid == PACKAGE else 299}
    metric, n = PACKAGED if fid == PACKAGE else INCEPTION, captions.count
    distance = frechet_distance(_real(captions), _generated(pictures), **how)
    halves = frechet_distance(_real(captions, 0), _real(captions, 1), **how)
    rows = [
        MetricRow(metric=metric.name, value=distance, n=n, direction=metric.direction),
        MetricRow(metric=metric.name, group=REAL, value=halves, n=n // 2, direction=metric.direction),
    ]
    if judge is not None:
        rows += _clip_scores(judge, pictures, captions)
    return [row.model_copy(update={"benchmark": NAME}) for row in rows]


def _real(captions: Captions, half: int | None = None) -> Iterator[Image.Image]:
    samples = enumerate(captions.samples())
    return (decode_image(sample.image) for number, sample in samples if half is None or number % 2 == half)


def _generated(pictures: Path) -> Iterator[Image.Image]:
    return (decode_image(row["image"]) for row in read_generated(pictures))


def _clip_scores(judge: DualEncoder, pictures: Path, captions: Captions) -> Iterator[MetricRow]:
    texts: Sequence[str] = [sample.captions[0] for sample in captions.samples()]
    texts_ND = encode_texts(judge, texts)
    made = (Sample(row["key"], row["image"]) for row in read_generated(pictures))
    sets: dict[str, Iterable[Sample]] = {ALL: made, REAL: captions.samples()}
    for group, samples in sets.items():
        images_ND = encode_images(judge, samples)[1]
        cosine, chance = (F.cosine_similarity(one, texts_ND).mean().item() for one in (images_ND, images_ND.roll(1, 0)))
        told: dict[str, Any] = {"group": group, "n": len(texts), "direction": CLIP.direction}
        yield MetricRow(metric=CLIP.name, value=cosine, chance=chance, **told)
