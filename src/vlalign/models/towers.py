"""Image and text towers that give embeddings and tokens in one joint space.

open_clip returns pooled embeddings, or tokens before their projection, and its text tower cannot pool by averaging;
PowerCLIP needs projected patch and word tokens and averages both.
"""

import copy
from collections.abc import Sequence
from pathlib import Path
from typing import Any, NamedTuple

import open_clip
import torch.nn.functional as F
from open_clip.constants import OPENAI_DATASET_MEAN, OPENAI_DATASET_STD
from torch import Tensor, nn

from vlalign.errors import VlalignError
from vlalign.models.text import Tokenizer, make_tokenizer, text_tower
from vlalign.models.vision import image_tower, patch_grid
from vlalign.params import ModelParams


class ImageFeatures(NamedTuple):
    """Unit embeddings I D, and projected patch tokens I V D that are not normalised."""

    embedding_ID: Tensor
    patches_IVD: Tensor


class TextFeatures(NamedTuple):
    """Unit embeddings C D, projected tokens C L D, and which tokens are real, C L (start and end included, padding
    not).
    """

    embedding_CD: Tensor
    tokens_CLD: Tensor
    mask_CL: Tensor


class DualEncoder(nn.Module):
    """An open_clip model with its tokenizer, read with tokens in the joint space.

    Args:
        clip: made with `force_custom_text=True`; its parameters are shared, not copied.
        config: of open_clip, needed by `save` alone.
        pooling: `average` (of both towers' tokens) or `default` (the towers' own).

    Raises:
        VlalignError: when a tower is of a kind whose tokens cannot be read.
    """

    def __init__(
        self,
        clip: open_clip.CustomTextCLIP,
        tokenizer: Tokenizer,
        *,
        config: dict[str, Any] | None = None,
        pooling: str = "average",
    ) -> None:
        super().__init__()
        if not hasattr(clip, "text"):
            raise VlalignError(
                "the text tower of this model is no module of its own: make it with force_custom_text=True"
            )
        self.clip, self.tokenizer, self.config, self.pooling = clip, tokenizer, config or {}, pooling
        self.read_image, self.read_text = image_tower(clip.visual), text_tower(clip.text, tokenizer)
        size = clip.visual.image_size
        self.image_size: int = size[0] if isinstance(size, tuple) else size
        self.grid = patch_grid(clip.visual, self.read_image, (self.image_size, self.image_size))
        self.context_length: int = tokenizer.context_length
        mean, std = (getattr(clip.visual, name, None) for name in ("image_mean", "image_std"))
        self.set_normalisation(mean or OPENAI_DATASET_MEAN, std or OPENAI_DATASET_STD)

    def set_normalisation(self, mean: Sequence[float], std: Sequence[float]) -> None:
        """Of the three channels of pictures in [0, 1]; open_clip's own functions find it where they look for it."""
        self.image_mean, self.image_std = tuple(mean), tuple(std)
        open_clip.model.set_model_preprocess_cfg(self.clip, self.preprocess())

    def preprocess(self) -> dict[str, Any]:
        """How pictures are made ready, in open_clip's words; see `data.transforms.fit`."""
        named = {"interpolation": "bicubic", "resize_mode": "shortest", "size": self.image_size}
        return {"mean": list(self.image_mean), "std": list(self.image_std), **named}

    @property
    def logit_scale(self) -> Tensor:
        """Logarithm of the inverse temperature of InfoNCE."""
        return self.clip.logit_scale.view(())

    def encode_image(self, images_I3HW: Tensor) -> ImageFeatures:
        """Features of normalised pictures."""
        pooled_ID, patches_IVD = self.read_image(images_I3HW)
        if self.pooling == "average":
            pooled_ID = patches_IVD.mean(1)
        return ImageFeatures(F.normalize(pooled_ID, dim=-1), patches_IVD)

    def encode_text(self, tokens_CL: Tensor) -> TextFeatures:
        """Features of token ids of `context_length` columns."""
        pooled_CD, tokens_CLD, mask_CL = self.read_text(tokens_CL)
        if self.pooling == "average":
            weight = mask_CL[..., None].to(tokens_CLD.dtype)
            pooled_CD = (tokens_CLD * weight).sum(1) / weight.sum(1)
        return TextFeatures(F.normalize(pooled_CD, dim=-1), tokens_CLD, mask_CL)

    def forward(self, images_I3HW: Tensor, tokens_CL: Tensor) -> tuple[ImageFeatures, TextFeatures]:
        """Both at once, as data parallelism needs it."""
        return self.encode_image(images_I3HW), self.encode_text(tokens_CL)


def tower_config(tower: str | dict[str, Any]) -> dict[str, Any]:
    """The open_clip config of a model name, or the config itself; raises VlalignError naming `model.tower`."""
    config = tower if isinstance(tower, dict) else open_clip.get_model_config(tower)
    if config is None:
        raise VlalignError(f"model.tower: '{tower}' is not an open_clip model; open_clip.list_models() names them all")
    missing = {"embed_dim", "vision_cfg", "text_cfg"} - set(config)
    if missing:
        raise VlalignError(f"model.tower lacks {', '.join(sorted(missing))}, so it is no open_clip config")
    if "multimodal_cfg" in config:
        raise VlalignError("model.tower: CoCa has a decoder, which is not trained here; choose a model with two towers")
    return config


def create(config: dict[str, Any], *, pooling: str) -> DualEncoder:
    """The towers of an open_clip config; the text tower is a module of its own, whatever the config says.

    Random, but for the parts that the config itself names as pretrained (timm's and Hugging Face's).
    """
    config = _explicit(config, pooling)
    arguments = {key: value for key, value in config.items() if key != "custom_text"}
    try:
        clip = open_clip.CustomTextCLIP(**copy.deepcopy(arguments))
    except (AssertionError, KeyError, OSError, RuntimeError, TypeError, ValueError) as error:
        raise VlalignError(f"model.tower: open_clip cannot make these towers ({error!r})") from error
    text = config["text_cfg"]
    context_length = text.get("context_length", 77) if text.get("hf_model_name") else clip.context_length
    tokenizer = make_tokenizer(text, context_length)
    return DualEncoder(clip, tokenizer, config={**config, "custom_text": True}, pooling=pooling)


def _explicit(config: dict[str, Any], pooling: str) -> dict[str, Any]:
    """The config with what is meant by it: where open_clip has average pooling it says so, and then its own loader
    gives our embeddings; captions are cleaned as CLIP's.
    """
    config = copy.deepcopy(config)
    vision, text = config["vision_cfg"], config["text_cfg"]
    if text.get("hf_model_name") or text.get("hf_tokenizer_name"):
        text.setdefault("hf_tokenizer_name", text.get("hf_model_name"))
        text["tokenizer_kwargs"] = {"clean": "lower", **(text.get("tokenizer_kwargs") or {})}
    if pooling == "average":
        transformer = not vision.get("timm_model_name") and not isinstance(vision.get("layers"), list | tuple)
        if transformer and not vision.get("attentional_pool"):
            vision["pool_type"] = "avg"
        if text.get("hf_model_name"):
            text["hf_pooler_type"] = "mean_pooler"
    return config


def build(params: ModelParams) -> DualEncoder:
    """The encoder that a run starts from: its towers, pretrained weights, and what of them is locked.

    Raises VlalignError naming the key of `model` at fault.
    """
    encoder = create(tower_config(params.tower), pooling=params.pooling)
    if params.pretrained:
        _load_pretrained(encoder, params.tower, params.pretrained)
    if encoder.clip.logit_bias is not None:
        # Of the sigmoid loss alone: a constant changes no softmax.
        encoder.clip.logit_bias.requires_grad_(False)
    if params.lock_image:
        encoder.clip.lock_image_tower(unlocked_groups=params.unlocked_image_groups, freeze_bn_stats=True)
    if params.lock_text:
        encoder.clip.lock_text_tower(unlocked_layers=params.unlocked_text_layers)
    return encoder


def _load_pretrained(encoder: DualEncoder, tower: str | dict[str, Any], pretrained: str) -> None:
    path: str | Path = pretrained
    known = open_clip.get_pretrained_cfg(tower, pretrained) if isinstance(tower, str) else {}
    if known:
        path = open_clip.download_pretrained(known)
        encoder.set_normalisation(known.get("mean", encoder.image_mean), known.get("std", encoder.image_std))
    elif not Path(pretrained).is_file():
        tags = open_clip.list_pretrained_tags_by_model(tower) if isinstance(tower, str) else []
        raise VlalignError(
            f"model.pretrained: '{pretrained}' is neither a file of weights nor one of the tags of this tower: "
            f"{', '.join(tags) or 'none'}"
        )
    try:
        open_clip.load_checkpoint(encoder.clip, str(path), weights_only=True)
    except (KeyError, RuntimeError) as error:
        raise VlalignError(f"model.pretrained: {path} does not fit the tower ({error})") from error
