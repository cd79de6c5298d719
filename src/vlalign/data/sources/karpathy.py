"""COCO, Flickr30k and Flickr8k with Karpathy's splits."""

import os
from collections import Counter
from typing import Annotated, Any, Literal

from pydantic import Field

from vlalign.data.packing.annotation_files import AnnotatedSource, read_annotations
from vlalign.data.packing.image_lists import Listed, Listing, captions_of, existing_folder, normal_path
from vlalign.data.skipped import Skips
from vlalign.errors import VlalignError
from vlalign.params.base import PathText

# Images of Karpathy's splits; recall depends strongly on how many there are.
PUBLISHED = {
    "coco": {"train": 82_783, "restval": 30_504, "val": 5_000, "test": 5_000},
    "flickr30k": {"train": 29_000, "val": 1_014, "test": 1_000},
    "flickr8k": {"train": 6_000, "val": 1_000, "test": 1_000},
}


class KarpathySource(AnnotatedSource):
    """COCO, Flickr30k or Flickr8k with Karpathy's splits: dataset_coco.json and its kin."""

    source: Literal["karpathy"]
    images: PathText = Field(description="Folder of the pictures, or the one that holds val2014 and train2014")
    splits: Annotated[tuple[Literal["train", "restval", "val", "test"], ...], Field(min_length=1)]

    def listing(self, skips: Skips) -> Listing:
        """The images of the chosen splits in the file's order, with all their captions.

        Raises VlalignError when the file is not as it should be, when it has none of a split, and, as long as no `part`
        is set, when the splits of a published dataset have not their published sizes.
        """
        folder = existing_folder(self.images, key="images")
        content = read_annotations(self.annotations, "images")
        captions: dict[tuple[str, str], list[str]] = {}
        try:
            _check_splits(self, content)
            for image in content["images"]:
                if image["split"] in self.splits:
                    found = captions.setdefault((image.get("filepath", ""), image["filename"]), [])
                    found += (sentence["raw"] for sentence in image["sentences"])
            # A flat folder holds all pictures of COCO too.
            places = {inside: folder / inside if (folder / inside).is_dir() else folder for inside, _ in captions}
            images = []
            for (inside, name), found in captions.items():
                path = normal_path(os.path.join(inside, name))
                images.append(Listed(path, places[inside] / name, captions_of(found), folder=folder))
        except (KeyError, TypeError, AttributeError) as error:
            raise self.unlike("Karpathy's", error) from None
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
