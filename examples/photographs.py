"""Write a small set of real photographs with captions: a folder of images and captions.csv, one row per caption.

python examples/photographs.py photographs

The photographs ship with scikit-image and scikit-learn; the captions are in photographs.yaml beside this script. As the
two packages say, most of scikit-image's are in the public domain, under CC0, or without known copyright restrictions
(stereo_motorcycle is from the Middlebury 2014 stereo benchmark; brick, grass and gravel are CC0), and china and flower
are under CC BY 2.0, by the Flickr users danielbuechele and vultilion.
"""

import argparse
import csv
from pathlib import Path

import numpy as np
import skimage.data
import yaml
from PIL import Image
from sklearn.datasets import load_sample_image


def photograph(name: str) -> Image.Image:
    """A photograph as its package has it; of the stereo pair, the left one."""
    pixels = load_sample_image(f"{name}.jpg") if name in ("china", "flower") else getattr(skimage.data, name)()
    return Image.fromarray(np.asarray(pixels[0] if isinstance(pixels, tuple) else pixels))


def pictures(name: str, described: dict) -> list[tuple[str, Image.Image, list[str]]]:
    """(file name, picture, captions) of a photograph and of its crops."""
    whole = photograph(name)
    crops = described.get("crops", {}).items()
    parts = [(f"{name}-{part}.jpg", whole.crop(crop["box"]), crop["captions"]) for part, crop in crops]
    return [(f"{name}.jpg", whole, described["captions"]), *parts]


def main() -> None:
    """Write the folder."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("folder", type=Path, nargs="?", default=Path("photographs"))
    folder = parser.parse_args().folder
    folder.mkdir(parents=True, exist_ok=True)
    described = yaml.safe_load(Path(__file__).with_suffix(".yaml").read_text(encoding="utf-8"))
    found = [picture for name, entry in described.items() for picture in pictures(name, entry)]
    for name, image, _ in found:
        image.save(folder / name, quality=95)
    with open(folder / "captions.csv", "w", encoding="utf-8", newline="") as stream:
        rows = csv.writer(stream)
        rows.writerow(("image", "caption"))
        rows.writerows((name, caption) for name, _, captions in found for caption in captions)
    count = sum(len(captions) for *_, captions in found)
    print(f"{folder}: {len(found)} photographs, {count} captions in {folder / 'captions.csv'}")


if __name__ == "__main__":
    main()
