"""How pictures are generated from the captions of a split."""

from pathlib import Path
from typing import Annotated, Any, Literal

from pydantic import Field, model_validator

from vlalign.params.base import Count, Few, Many, Name, NonNegative, PathText, Seed, Strict


class DecoderParams(Strict):
    """A pretrained unCLIP decoder, which makes a picture of an image embedding. What is left out is as the pipeline of
    diffusers has it.
    """

    kind: Literal["stable-unclip", "kandinsky", "karlo"]
    model: PathText = Field(
        description="A pipeline of diffusers: a repository of the Hugging Face hub, or the path of its folder"
    )
    revision: str = Field(default="main", description="Branch, tag or commit; a commit pins the weights")
    steps: Few | None = Field(default=None, description="Of denoising")
    guidance: NonNegative | None = Field(default=None, description="Scale of classifier-free guidance; 1: none")
    size: Annotated[int, Field(ge=8, le=4096, multiple_of=8)] | None = Field(
        default=None, description="Pixels of a picture's side"
    )

    def files(self, base: Path) -> dict[str, Path]:
        """Files on this disk whose content the pictures depend on, by their path in the folder of the model.

        base: folder from which its path counts. A model of the hub has none: it is named by its revision.
        """
        folder = base / self.model
        found = sorted(path for path in folder.rglob("*") if path.is_file()) if folder.is_dir() else []
        return {path.relative_to(folder).as_posix(): path for path in found}

    @model_validator(mode="after")
    def _karlo_has_one_size(self) -> "DecoderParams":
        if self.kind == "karlo" and self.size is not None:
            raise ValueError("size: that of karlo's pictures is fixed by its networks; leave it out")
        return self


class GenerationParams(Strict):
    """Pictures from captions: the text embeddings of adapted runs drive a decoder of image embeddings (CS-Aligner)."""

    runs: Annotated[tuple[Name, ...], Field(min_length=1)] = Field(
        description="Runs whose `model.adapters.sides` is text, on the decoder's own image encoder"
    )
    decoder: DecoderParams
    split: Literal["validation", "test"] = "test"
    captions: Annotated[Many, Field(ge=4)] = Field(
        default=30_000, description="The first so many pictures of the split, each with its first caption"
    )
    seed: Seed = Field(default=0, description="Of the noise, which depends on the picture's key beside it")
    batch_size: Count = Field(default=8, description="Pictures that are generated at once")
    fid: PathText = Field(
        default="package:efficientnet-lite0",
        description="Features of the Fréchet distance: this package, or the file of torch-fidelity's Inception weights",
    )
    judge: Name | None = Field(
        default=None,
        description="One of `models`, or a run, that gives the CLIP score, a cosine; there is none if left out",
    )

    def files(self, base: Path) -> list[Path]:
        """Files on this disk that pictures and scores depend on, the judge's apart; base: see DecoderParams."""
        weights = base / self.fid
        return [*self.decoder.files(base).values(), *([weights] if weights.is_file() else [])]

    def relevant(self) -> dict[str, Any]:
        """What pictures and scores of one run depend on, as plain values."""
        return self.model_dump(mode="json", exclude={"runs", "batch_size"})
