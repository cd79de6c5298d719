"""One image with what belongs to it, and pictures as bytes."""

import io
import json
import warnings
from dataclasses import dataclass, field
from typing import Any

import numpy as np
from PIL import Image
from PIL.Image import Transpose

from vlalign.errors import VlalignError

ORIENTATION, SIDEWAYS = 0x0112, range(5, 9)
TURNS = {
    2: Transpose.FLIP_LEFT_RIGHT,
    3: Transpose.ROTATE_180,
    4: Transpose.FLIP_TOP_BOTTOM,
    5: Transpose.TRANSPOSE,
    6: Transpose.ROTATE_270,
    7: Transpose.TRANSVERSE,
    8: Transpose.ROTATE_90,
}
# Those of the suffixes below. Pillow knows others, of which PostScript starts another program.
FORMATS = ("PNG", "JPEG", "WEBP", "BMP", "GIF", "TIFF")
IMAGE_SUFFIXES = ("png", "jpg", "jpeg", "webp", "bmp", "gif", "tif", "tiff")


@dataclass(frozen=True)
class Sample:
    """One image with its captions, or with its class label, as the members of one key in a shard.

    `suffix` is that of the image's file. `instances` is an 8-bit PNG label map of the image's size (0 background, k =
    object k); `meta` holds the stratum and the phrases whose referents are known.
    """

    key: str
    image: bytes = b""
    captions: tuple[str, ...] = ()
    label: int | None = None
    meta: dict[str, Any] = field(default_factory=dict)
    instances: bytes | None = None
    suffix: str = "png"

    @property
    def stratum(self) -> str | None:
        """The group of samples that this one is reported with, if the dataset names one."""
        return self.meta.get("stratum")

    def members(self) -> dict[str, bytes]:
        """File suffix -> content, in the order in which they are written."""
        files = {self.suffix: self.image} if self.image else {}
        if self.captions:
            files["txt"] = "\n".join(self.captions).encode()
        if self.label is not None:
            files["cls"] = str(self.label).encode()
        if self.meta:
            files["json"] = json.dumps(self.meta, sort_keys=True).encode()
        if self.instances is not None:
            files["instances.png"] = self.instances
        return files


def read_meta(content: bytes) -> dict[str, Any] | None:
    """What a sample's JSON file says; None where it is damaged or no object."""
    try:
        meta = json.loads(content)
    except (ValueError, RecursionError):
        return None
    return meta if isinstance(meta, dict) else None


def encode_png(array: np.ndarray) -> bytes:
    """PNG bytes of a uint8 array, H W 3 (colour) or H W (grey or label map)."""
    stream = io.BytesIO()
    Image.fromarray(array).save(stream, "PNG")
    return stream.getvalue()


def open_image(data: bytes) -> Image.Image:
    """The picture with its size and mode, not yet decoded; Pillow's own limit on pixels is the caller's affair."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", Image.DecompressionBombWarning)
        return Image.open(io.BytesIO(data), formats=FORMATS)


def orientation(image: Image.Image) -> int:
    """How the camera was held, as EXIF says it: 1 upright, 5 to 8 on its side; 1 where the block is damaged."""
    try:
        return int(image.getexif().get(ORIENTATION, 1))
    except Exception:  # Pillow's reader raises whatever damaged bytes make it stumble over
        return 1


def decode_image(data: bytes) -> Image.Image:
    """The picture in RGB, turned as its EXIF orientation says; raises VlalignError when the bytes are no image."""
    try:
        image = open_image(data)
        turned = TURNS.get(orientation(image))
        # Converting copies; loading decodes, so that damage is found here.
        image.load()
        if image.mode.startswith("I;16"):
            image = Image.fromarray((np.asarray(image) >> 8).astype(np.uint8))
        picture = image if image.mode == "RGB" else image.convert("RGB")
        return picture if turned is None else picture.transpose(turned)
    except Exception as error:  # as above
        raise VlalignError(f"an image cannot be decoded ({error})") from None


def decode_instances(data: bytes) -> np.ndarray:
    """Label map H W of dtype uint8: 0 is background, k is object k."""
    try:
        return np.asarray(Image.open(io.BytesIO(data), formats=["PNG"]))
    except Exception as error:  # as above
        raise VlalignError(f"a map of objects (.instances.png) cannot be decoded ({error})") from None
