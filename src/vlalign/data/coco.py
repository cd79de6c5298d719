"""Captions of COCO and its kin: COCO's own files, and Karpathy's with his splits of COCO, Flickr30k and Flickr8k."""

import os
from collections import Counter
from typing import Any

from vlalign.data.listing import Listed, Listing, captions_of, existing_folder, normal_path, read_annotations
from vlalign.data.skips import Skips
from vlalign.errors import VlalignError
from vlalign.params.sources import CocoSource, KarpathySource

# Images of Karpathy's splits; recall depends strongly on how many there are.
PUBLISHED = {
    "coco": {"train": 82_783, "restval": 30_504, "val": 5_000, "test": 5_000},
    "flickr30k": {"train": 29_000, "val": 1_014, "test": 1_000},
    "flickr8k": {"train": 6_000, "val": 1_000, "test": 1_000},
}


def list_karpathy(source: KarpathySource, skips: Skips) -> Listing:
    """The images of the chosen splits in the file's order, with all their captions.

    Raises VlalignError when the file is not as it should be, when it has none of a split, and, as long as no `part` is
    set, when the splits of a published dataset have not their published sizes.
    """
    folder = existing_folder(source.images, key="images")
    content = read_annotations(source.annotations, "images")
    captions: dict[tuple[str, str], list[str]] = {}
    try:
        _check_splits(source, content)
        for image in content["images"]:
            if image["split"] in source.splits:
                found = captions.setdefault((image.get("filepath", ""), image["filename"]), [])
                found += (sentence["raw"] for sentence in image["sentences"])
        # A flat folder holds all pictures of COCO too.
        places = {inside: folder / inside if (folder / inside).is_dir() else folder for inside, _ in captions}
        images = [
            Listed(normal_path(os.path.join(inside, name)), places[inside] / name, captions_of(found), folder=folder)
            for (inside, name), found in captions.items()
        ]
    except (KeyError, TypeError, AttributeError) as error:
        raise _unlike(source.annotations, "Karpathy's", error) from None
    return Listing(len(images), images)


def _check_splits(source: KarpathySource, content: dict[str, Any]) -> None:
    counts = Counter(image["split"] for image in content["images"])
    found = ", ".join(f"{count:,} {split}" for split, count in counts.items()) or "none"
    published = PUBLISHED.get(content.get("dataset", ""), {}) if source.part == (0.0, 1.0) else {}
    for split in source.splits:
        if not counts[split]:
            raise VlalignError(
                f"{source.annotations} has no images of split {split!r}; correct `splits` (found: {found})"
            )
        if counts[split] != published.get(split, counts[split]):
            raise VlalignError(
                f"{source.annotations} has {counts[split]:,} images of split {split!r}, but Karpathy's "
                f"{content['dataset']} has {published[split]:,} (found: {found}); take the original file, or remove "
                "`dataset` from it if it shall be another"
            )


def list_coco(source: CocoSource, skips: Skips) -> Listing:
    """The images in the file's order, with all their captions in the file's order.

    Captions of images that the file does not list are counted as skipped. Raises VlalignError when the file is not as
    it should be.
    """
    folder = existing_folder(source.images, key="images")
    content = read_annotations(source.annotations, "images", "annotations")
    try:
        names = {image["id"]: normal_path(image["file_name"]) for image in content["images"]}
        if len(names) < len(content["images"]):
            raise VlalignError(f"{source.annotations} lists an image's id twice; take the original file, or correct it")
        captions: dict[str, list[str]] = {name: [] for name in names.values()}
        for annotation in content["annotations"]:
            if annotation["image_id"] in names:
                captions[names[annotation["image_id"]]].append(annotation["caption"])
            else:
                skips.add("caption of an image that is not listed", str(annotation["image_id"]))
        images = [Listed(name, folder / name, captions_of(found), folder=folder) for name, found in captions.items()]
    except (KeyError, TypeError, AttributeError) as error:
        raise _unlike(source.annotations, "COCO's captions_*.json", error) from None
    return Listing(len(images), images)


def _unlike(path: str, kind: str, error: Exception) -> VlalignError:
    return VlalignError(
        f"{path} is not like {kind} ({type(error).__name__}: {error}); take the original file, or write it as that is"
    )
