"""COCO's own captions."""

from typing import Literal

from pydantic import Field

from vlalign.data.packing.annotation_files import AnnotatedSource, read_annotations
from vlalign.data.packing.image_lists import Listed, Listing, captions_of, existing_folder, normal_path
from vlalign.data.skipped import Skips
from vlalign.errors import VlalignError
from vlalign.params.base import PathText


class CocoSource(AnnotatedSource):
    """COCO's own captions_*.json with its folder of pictures."""

    source: Literal["coco"]
    annotations: PathText = Field(description="Path of captions_train2017.json or its kin")

    def listing(self, skips: Skips) -> Listing:
        """The images in the file's order, with all their captions in the file's order.

        Captions of images that the file does not list are counted as skipped. Raises VlalignError when the file is not
        as it should be.
        """
        folder = existing_folder(self.images, key="images")
        content = read_annotations(self.annotations, "images", "annotations")
        try:
            names = {image["id"]: normal_path(image["file_name"]) for image in content["images"]}
            if len(names) < len(content["images"]):
                raise VlalignError(
                    f"{self.annotations} lists an image's id twice; take the original file, or correct it"
                )
            captions: dict[str, list[str]] = {name: [] for name in names.values()}
            for annotation in content["annotations"]:
                if annotation["image_id"] in names:
                    captions[names[annotation["image_id"]]].append(annotation["caption"])
                else:
                    skips.add("caption of an image that is not listed", str(annotation["image_id"]))
            images = [Listed(name, folder / name, captions_of(told), folder=folder) for name, told in captions.items()]
        except (KeyError, TypeError, AttributeError) as error:
            raise self.unlike("COCO's captions_*.json", error) from None
        return Listing(len(images), images)
