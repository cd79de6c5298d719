"""Where the shards of a split come from."""

import os
from typing import Annotated, Any, Literal
from urllib.parse import urlsplit

from pydantic import AfterValidator, BeforeValidator, Field, field_validator

from vlalign.params.base import Count, Few, PathText, Share, Strict
from vlalign.redact import address

Sha256 = Annotated[str, Field(pattern=r"^[0-9a-f]{64}$")]
Patterns = Annotated[tuple[str, ...], Field(min_length=1)]


def _is_no_address(pattern: str) -> str:
    if "://" in pattern:
        raise ValueError("this is an address, and a path on this disk is needed; see `source: urls`")
    return pattern


PathPattern = Annotated[str, AfterValidator(_is_no_address)]


def _as_list(value: Any) -> Any:
    """A single name stands for a list of it."""
    return [value] if isinstance(value, str) else value


Names = Annotated[tuple[str, ...], Field(min_length=1)]
Columns = Annotated[Names, BeforeValidator(_as_list, json_schema_input_type=str | Names)]


class HubSource(Strict):
    """WebDataset shards in a dataset repository of the Hugging Face hub."""

    source: Literal["hub"]
    repository: str = Field(pattern=r"^[\w.-]+/[\w.-]+$", description="Owner and name, such as pixparse/cc12m-wds")
    shards: Patterns = Field(description="Names with braces and wildcards, such as cc12m-train-{0000..2175}.tar")
    revision: str = Field(default="main", description="Branch, tag or commit; a commit pins the data")
    connections: Few = Field(default=4, description="Files that are fetched at once")

    def shown(self) -> dict[str, Any]:
        """What of it is recorded: all but how it is fetched."""
        return self.model_dump(mode="json", exclude={"connections"})


# How variables of the environment are called that carry addresses with secrets past all records.
ADDRESS = "VLALIGN_ADDRESS_"


class UrlFile(Strict):
    """One file and what it must hold."""

    url: str = Field(pattern=r"^(https?|file)://")
    sha256: Sha256

    @field_validator("url")
    @classmethod
    def _can_be_read(cls, url: str) -> str:
        try:
            urlsplit(url)
        except ValueError:
            raise ValueError("this is no address") from None
        return url


class UrlSource(Strict):
    """WebDataset shards at plain addresses."""

    source: Literal["urls"]
    files: tuple[UrlFile, ...] = Field(min_length=1)
    connections: Few = Field(default=4, description="Files that are fetched at once")

    def shown(self) -> dict[str, Any]:
        """As `HubSource.shown`, and without the logins and signatures of addresses."""
        files = [{"url": address(file.url), "sha256": file.sha256} for file in self.files]
        return {"source": self.source, "files": files}

    def secrets(self) -> dict[str, str]:
        """Variables of the environment for the addresses that hold any."""
        return {f"{ADDRESS}{file.sha256}": file.url for file in self.files if address(file.url) != file.url}

    def with_secrets(self) -> "UrlSource":
        """The same with the addresses that the environment has."""
        files = [UrlFile(url=os.environ.get(f"{ADDRESS}{f.sha256}", f.url), sha256=f.sha256) for f in self.files]
        return self.model_copy(update={"files": tuple(files)})


class ShardsSource(Strict):
    """WebDataset shards on this disk, read where they lie."""

    source: Literal["shards"]
    shards: Annotated[tuple[PathPattern, ...], Field(min_length=1)] = Field(
        description="Paths with braces and wildcards, such as /data/cc3m/{00000..00331}.tar"
    )


class Img2datasetSource(Strict):
    """The output folder of img2dataset with output_format=webdataset, read where it lies."""

    source: Literal["img2dataset"]
    folder: PathText


class PackedSource(Strict):
    """Single files, which are packed into shards.

    `part` is the share of the images that is taken, as an interval of [0, 1): every image has its place there, which
    is a hash of its path.
    """

    part: tuple[Share, Share] = (0.0, 1.0)
    shard_size: Count = Field(default=2000, description="Images of a shard")

    @field_validator("part")
    @classmethod
    def _rises(cls, part: tuple[float, float]) -> tuple[float, float]:
        if part[0] >= part[1]:
            raise ValueError("part must rise, such as [0, 0.8]")
        return part


class TableSource(PackedSource):
    """A CSV, TSV or Parquet table with a row for every caption or for every image."""

    source: Literal["table"]
    table: PathText = Field(description="Path of the table")
    images: PathText | None = Field(
        default=None, description="Folder that paths in the table start from; the table's own"
    )
    image_column: str = "image"
    caption_columns: Columns = Field(
        default=("caption",), description="One name or several; each column holds a caption, or a list of them"
    )
    caption_cells: Literal["text", "json"] = Field(
        default="text", description="What a cell of text is: one caption, or a JSON list of captions"
    )
    where: dict[str, str] = Field(default={}, description="Column: value of the rows that are taken")


class FolderSource(PackedSource):
    """A folder of images: its subfolders are the classes, or each image's captions lie beside it in a .txt file."""

    source: Literal["folder"]
    folder: PathText
    labels: Literal["classes", "captions"] = "classes"


class KarpathySource(PackedSource):
    """COCO, Flickr30k or Flickr8k with Karpathy's splits: dataset_coco.json and its kin."""

    source: Literal["karpathy"]
    annotations: PathText = Field(description="Path of the JSON file")
    images: PathText = Field(description="Folder of the pictures, or the one that holds val2014 and train2014")
    splits: Annotated[tuple[Literal["train", "restval", "val", "test"], ...], Field(min_length=1)]


class CocoSource(PackedSource):
    """COCO's own captions_*.json with its folder of pictures."""

    source: Literal["coco"]
    annotations: PathText = Field(description="Path of captions_train2017.json or its kin")
    images: PathText = Field(description="Folder of the pictures")


Fetched = HubSource | UrlSource
Local = ShardsSource | Img2datasetSource
Packed = TableSource | FolderSource | KarpathySource | CocoSource
Source = Annotated[Fetched | Local | Packed, Field(discriminator="source")]
