"""unCLIP decoders, which make pictures of image embeddings: pipelines of diffusers, driven by embeddings alone.

Suffixes: N pictures, D channels of the embeddings.
"""

import contextlib
import hashlib
import re
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any, ClassVar
from unittest import mock

import numpy as np
import torch
from PIL.Image import Image
from torch import Tensor

from vlalign.errors import VlalignError
from vlalign.foreign import no_foreign_code
from vlalign.hub import Repository
from vlalign.models.fetched import fetch_pipeline
from vlalign.params import DecoderParams
from vlalign.params.base import REPOSITORY
from vlalign.records import stamps

# Where params have it.
KEY = "generation.decoder.model"


class Decoder:
    """A pipeline, on the GPU where there is one.

    class_name: that of diffusers. words: how it calls the params.
    """

    class_name: ClassVar[str]
    words: ClassVar[dict[str, tuple[str, ...]]] = {
        "steps": ("num_inference_steps",),
        "guidance": ("guidance_scale",),
        "size": ("height", "width"),
    }

    def __init__(self, pipeline: Any, params: DecoderParams) -> None:
        self.pipeline, self.params = pipeline, params
        pipeline.set_progress_bar_config(disable=True)
        pipeline.to("cuda" if torch.cuda.is_available() else "cpu")
        given = {name: value for name in self.words if (value := getattr(params, name)) is not None}
        self.how = {word: value for name, value in given.items() for word in self.words[name]}

    @property
    def width(self) -> int:
        """Channels of the embeddings that it reads."""
        return int(self.pipeline.image_encoder.config.projection_dim)

    def decode(self, embeddings_ND: Tensor, *, blank_D: Tensor, seeds: Sequence[int]) -> list[Image]:
        """A picture for each embedding, which has the scale of the image encoder's own.

        blank_D: the embedding of a picture that is zero after normalisation. seeds: of each picture's noise.
        Raises VlalignError where numbers are not finite, of which diffusers would make black pictures.
        """
        if not embeddings_ND.isfinite().all():
            raise VlalignError("generation: embeddings of captions or pictures are not finite; check the run's weights")
        # On the CPU, whose noise is the same for every device and batch.
        generators = [torch.Generator().manual_seed(seed) for seed in seeds]
        device = self.pipeline.device
        how = {"generator": generators, "output_type": "np", **self.how}
        pixels_NHW3 = self.call(embeddings_ND.to(device), blank_D.to(device), **how)
        if not np.isfinite(pixels_NHW3).all():
            raise VlalignError(
                f"{KEY}: {self.params.model} gives pictures that are not finite; check its weights, or lower `guidance`"
            )
        images: list[Image] = self.pipeline.numpy_to_pil(pixels_NHW3)
        return images

    def call(self, embeddings_ND: Tensor, blank_D: Tensor, **how: Any) -> Any:
        """The pipeline's own pictures, N H W 3 from 0 to 1."""
        raise NotImplementedError

    @torch.inference_mode()
    def embed(self, pictures: Sequence[Image]) -> Tensor | None:
        """What its own image encoder gives for pictures, N D on the CPU; None where the pipeline has none."""
        encoder = getattr(self.pipeline, "image_encoder", None)
        if encoder is None:
            return None
        pixels = self.pipeline.feature_extractor(images=list(pictures), return_tensors="pt").pixel_values
        found: Tensor = encoder(pixels.to(encoder.device)).image_embeds.float().cpu()
        return found


class StableUnclip(Decoder):
    """Stable Diffusion 2.1 unCLIP, with an empty prompt; its guidance is away from a zero embedding."""

    class_name = "StableUnCLIPImg2ImgPipeline"

    def call(self, embeddings_ND: Tensor, blank_D: Tensor, **how: Any) -> Any:
        """See Decoder."""
        return self.pipeline(prompt=[""] * len(embeddings_ND), image_embeds=embeddings_ND, **how).images


class Kandinsky(Decoder):
    """The decoder of Kandinsky 2.2, whose guidance is away from the embedding of a blank picture, as its prior has it.
    The image encoder is a part of the prior.
    """

    class_name = "KandinskyV22Pipeline"

    @property
    def width(self) -> int:
        """See Decoder."""
        return int(self.pipeline.unet.config.encoder_hid_dim)

    def call(self, embeddings_ND: Tensor, blank_D: Tensor, **how: Any) -> Any:
        """See Decoder."""
        blank_ND = blank_D.expand_as(embeddings_ND)
        return self.pipeline(image_embeds=embeddings_ND, negative_image_embeds=blank_ND, **how).images


class Karlo(Decoder):
    """Karlo, with an empty prompt; its guidance is away from a learnt embedding. Two networks enlarge the picture."""

    class_name = "UnCLIPImageVariationPipeline"
    words: ClassVar = {"steps": ("decoder_num_inference_steps",), "guidance": ("decoder_guidance_scale",)}

    def call(self, embeddings_ND: Tensor, blank_D: Tensor, **how: Any) -> Any:
        """See Decoder."""
        return self.pipeline(image_embeddings=embeddings_ND, **how).images


KINDS: dict[str, type[Decoder]] = {"stable-unclip": StableUnclip, "kandinsky": Kandinsky, "karlo": Karlo}


def find_decoder(params: DecoderParams, *, base: Path = Path()) -> tuple[Path, str]:
    """The folder of a decoder, fetched from the hub if it is none on this disk, and what identifies its content: the
    commit, or the SHA-256 of all files.

    base: folder from which the path counts. Raises VlalignError when it cannot be had.
    """
    if not (base / params.model).is_dir():
        if not re.fullmatch(REPOSITORY, params.model):
            raise VlalignError(f"{KEY}: {base / params.model} is no folder; give one, or a repository as owner/name")
        folder = fetch_pipeline(Repository(params.model, params.revision, "model", KEY))
        return folder, folder.name
    found = stamps(base / params.model, params.files(base))
    text = "".join(f"{name}\0{one['sha256']}\n" for name, one in found.items())
    return base / params.model, hashlib.sha256(text.encode()).hexdigest()


def load_decoder(folder: Path, params: DecoderParams) -> Decoder:
    """The decoder of a folder, in fp32; nothing but safetensors is read of its weights, and no code of it is run.

    Raises VlalignError when diffusers is missing, or the folder holds no pipeline of this kind.
    """
    try:
        import diffusers
    except ImportError as error:
        raise VlalignError(
            f"generation: diffusers cannot be imported ({error}); install the extra `generation`: "
            "pip install 'vlalign[generation]'"
        ) from None
    kind = KINDS[params.kind]
    given = {"use_safetensors": True, "dtype": torch.float32, "trust_remote_code": False, "local_files_only": True}
    try:
        with no_foreign_code(), _modules_as_published():
            pipeline = getattr(diffusers, kind.class_name).from_pretrained(str(folder), **given)
            _check_complete(pipeline, folder)
        return kind(pipeline, params)
    except VlalignError:
        raise
    except Exception as error:  # the libraries raise whatever their files and formats do
        raise VlalignError(
            f"{KEY}: {folder} cannot be loaded as {params.kind}, diffusers' {kind.class_name} ({error}); check `kind`, "
            "and give its weights as safetensors"
        ) from error


def _check_complete(pipeline: Any, folder: Path) -> None:
    """Raises VlalignError where weights of a part of transformers are missing, which it would draw at random."""
    from transformers import PreTrainedModel

    for name, part in pipeline.components.items():
        if isinstance(part, PreTrainedModel):
            how = {"use_safetensors": True, "local_files_only": True, "output_loading_info": True}
            _, found = type(part).from_pretrained(folder / name, **how)
            if missing := sorted(found["missing_keys"]):
                raise VlalignError(
                    f"{KEY}: the weights in {folder / name} lack {len(missing)} parameters, such as {missing[0]}; "
                    "fetch them again"
                )


@contextlib.contextmanager
def _modules_as_published() -> Iterator[None]:
    """Within the block diffusers finds the module `unclip` that the index of Karlo names, and that it has moved."""
    from diffusers import pipelines
    from diffusers.pipelines.deprecated import unclip

    with mock.patch.object(pipelines, "unclip", unclip, create=True):
        yield
