"""Time to find the segments of photographs, and bytes to keep ten masks of each.

`time` divides the photographs that scikit-image and scikit-learn carry, reduced or enlarged to some lengths of the
longest side. `bytes` encodes the ten largest segments of each on grids of 128 cells, as they are found, and wholes and
parts as a network draws them: the segments of the picture divided into 4, 8 and 16, their outlines rounded by a
Gaussian of two cells, without those that overlap by more than 0.7. Each encoding is measured by itself and as a column
of a Parquet file with zstd, beside the same masks cut to their boxes as packed bits, as PNG of one bit, and, where
pycocotools is installed, as COCO's compressed run lengths.

    python benchmarks/regions.py                  # a quarter of a minute
    python benchmarks/regions.py bytes
"""

import argparse
import importlib.util
import io
import statistics
import time
import zlib
from collections.abc import Callable

import numpy as np
import skimage.data
from PIL import Image
from rich.console import Console
from rich.table import Table
from scipy.ndimage import gaussian_filter
from sklearn.datasets import load_sample_image

from vlalign.annotate.regions.colour_patches import Superpixels
from vlalign.annotate.regions.masks import encode_mask
from vlalign.annotate.regions.segmenters.superpixels import SuperpixelSegments
from vlalign.annotate.regions.segments import select

PARAMS = SuperpixelSegments(segmenter="superpixels")
SIDE = 128
COUNT = 10
LENGTHS = (224, 384, 512, 640, 1024)


def photographs() -> dict[str, Image.Image]:
    """Those that the installed packages carry."""
    left, right, _ = skimage.data.stereo_motorcycle()
    names = ("astronaut", "chelsea", "coffee", "rocket", "hubble_deep_field")
    pictures = {name: getattr(skimage.data, name)() for name in names}
    pictures |= {"motorcycle left": left, "motorcycle right": right}
    pictures |= {name: load_sample_image(f"{name}.jpg") for name in ("china", "flower")}
    return {name: Image.fromarray(picture) for name, picture in pictures.items()}


def milliseconds(pictures: list[Image.Image], length: int, repeats: int) -> list[float]:
    """Of each picture whose longest side has this length: the least of some repeats."""
    find = Superpixels(PARAMS, side=SIDE)
    found = []
    for picture in pictures:
        scale = length / max(picture.size)
        resized = picture.resize((round(picture.width * scale), round(picture.height * scale)))
        seconds = []
        for _ in range(repeats):
            start = time.perf_counter()
            find([resized])
            seconds.append(time.perf_counter() - start)
        found.append(1000 * min(seconds))
    return found


def show_time(pictures: dict[str, Image.Image], repeats: int) -> Table:
    table = Table("longest side", "median ms", "slowest ms", title="Superpixels, one picture on one core")
    milliseconds(list(pictures.values())[:1], 64, 1)  # imports
    for length in LENGTHS:
        found = milliseconds(list(pictures.values()), length, repeats)
        table.add_row(str(length), f"{statistics.median(found):.0f}", f"{max(found):.0f}")
    return table


def show_segments(pictures: dict[str, Image.Image], segments: list[np.ndarray]) -> Table:
    table = Table("photograph", "segments", "shares of the picture, percent", title="Superpixels")
    for name, masks in zip(pictures, segments, strict=True):
        shares = " ".join(f"{100 * mask.mean():.1f}" for mask in masks)
        table.add_row(name, str(len(masks)), shares)
    return table


def nested(pictures: list[Image.Image]) -> list[np.ndarray]:
    """Wholes and parts with round outlines, as a network draws them: the pictures divided thrice, and a Gaussian."""
    divisions = [Superpixels(PARAMS.model_copy(update={"regions": n}), side=SIDE)(pictures) for n in (4, 8, 16)]
    found = []
    for several in zip(*divisions, strict=True):
        masks_RHW = np.concatenate(several).astype(float)
        rounded_RHW = gaussian_filter(masks_RHW, (0, 2, 2)) > 0.5
        found.append(select(rounded_RHW, rounded_RHW.mean((1, 2)), PARAMS))
    return found


def cut(mask_HW: np.ndarray) -> np.ndarray:
    """To the bounding box."""
    rows, columns = (np.flatnonzero(mask_HW.any(axis)) for axis in (1, 0))
    return mask_HW[rows[0] : rows[-1] + 1, columns[0] : columns[-1] + 1]


def png(mask_HW: np.ndarray) -> bytes:
    stream = io.BytesIO()
    Image.fromarray(mask_HW).save(stream, "PNG", optimize=True)
    return stream.getvalue()


def coco(mask_HW: np.ndarray) -> bytes:
    from pycocotools import mask

    return mask.encode(np.asfortranarray(mask_HW.astype(np.uint8)))["counts"]


ENCODINGS: dict[str, Callable[[np.ndarray], bytes]] = {
    "vlalign": encode_mask,
    "packed bits": lambda mask_HW: np.packbits(mask_HW).tobytes(),
    "PNG, 1 bit": png,
    "COCO RLE": coco,
}


def together(encoded: list[list[bytes]]) -> int:
    """Bytes of all masks of an image compressed at once, as they are stored."""
    return sum(len(zlib.compress(b"".join(masks), 9)) for masks in encoded)


def show_bytes(kinds: dict[str, list[np.ndarray]]) -> Table:
    columns = "masks", "encoding", "bytes", "ratio", "deflated", "ratio", "of 1 KiB"
    table = Table(*columns, title=f"Bytes per image of {COUNT} masks on a grid of {SIDE} cells; ratios to vlalign")
    encodings = {name: encode for name, encode in ENCODINGS.items() if name != "COCO RLE" or has_coco()}
    for kind, images in kinds.items():
        masks = [[cut(mask) for mask in masks_RHW[:COUNT]] for masks_RHW in images]
        images_of_ten = sum(map(len, masks)) / COUNT
        first: tuple[float, float] | None = None
        for name, encode in encodings.items():
            encoded = [[encode(mask) for mask in row] for row in masks]
            plain = sum(len(data) for row in encoded for data in row) / images_of_ten
            stored = together(encoded) / images_of_ten
            first = first or (plain, stored)
            sizes = f"{plain:.0f}", f"{plain / first[0]:.2f}", f"{stored:.0f}", f"{stored / first[1]:.2f}"
            table.add_row(kind if name == "vlalign" else "", name, *sizes, f"{stored / 1024:.0%}")
    return table


def has_coco() -> bool:
    return importlib.util.find_spec("pycocotools") is not None


def main() -> None:
    """Print the tables."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("cases", nargs="*", choices=["time", "bytes", []], help="time or bytes; both if left out")
    parser.add_argument("--repeats", type=int, default=3)
    options = parser.parse_args()
    pictures, console = photographs(), Console()
    if "time" in options.cases or not options.cases:
        console.print(show_time(pictures, options.repeats))
    if "bytes" in options.cases or not options.cases:
        images = list(pictures.values())
        segments = Superpixels(PARAMS, side=SIDE)(images)
        console.print(show_segments(pictures, segments))
        console.print(show_bytes({"superpixels": segments, "wholes and parts": nested(images)}))


if __name__ == "__main__":
    main()
