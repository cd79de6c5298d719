"""open_clip towers that give embeddings and tokens in one joint space.

open_clip returns pooled embeddings, or tokens before their projection, and its text tower cannot pool by averaging;
PowerCLIP needs projected patch and word tokens and averages both.
"""

import copy
from collections.abc import Callable
from pathlib import Path
from typing import Any, NamedTuple

import open_clip
import torch
import torch.nn.functional as F
from open_clip.constants import OPENAI_DATASET_MEAN, OPENAI_DATASET_STD
from safetensors.torch import load_file, save_file
from torch import Tensor, nn

from vlalign.errors import VlalignError
from vlalign.files import atomic_write, read_json, write_json

WEIGHTS, CONFIG = "model.safetensors", "open_clip_config.json"


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
    """An open_clip model with its tokenizer; `pooling` is `average` (both towers) or `default` (the towers' own)."""

    def __init__(
        self, clip: open_clip.CustomTextCLIP, tokenizer: Callable[..., Tensor], *, config: dict[str, Any], pooling: str
    ) -> None:
        super().__init__()
        self.clip, self.tokenizer, self.config, self.pooling = clip, tokenizer, config, pooling
        for tower in (clip.visual, clip.text):
            if not hasattr(tower, "output_tokens"):
                raise VlalignError(
                    f"model.tower: the tower {type(tower).__name__} does not return tokens; choose an open_clip ViT "
                    "with its own text transformer"
                )
            tower.output_tokens = True
        size = clip.visual.image_size
        self.image_size: int = size[0] if isinstance(size, tuple) else size
        self.grid: tuple[int, int] = tuple(clip.visual.grid_size)
        self.context_length: int = clip.context_length
        self.image_mean = getattr(clip.visual, "image_mean", None) or OPENAI_DATASET_MEAN
        self.image_std = getattr(clip.visual, "image_std", None) or OPENAI_DATASET_STD

    @property
    def logit_scale(self) -> Tensor:
        """Logarithm of the inverse temperature of InfoNCE."""
        return self.clip.logit_scale

    def encode_image(self, images_I3HW: Tensor) -> ImageFeatures:
        """Features of normalised pictures."""
        pooled, tokens = self.clip.visual(images_I3HW)
        patches = _project(tokens, self.clip.visual.proj)
        return ImageFeatures(F.normalize(patches.mean(1) if self.pooling == "average" else pooled, dim=-1), patches)

    def encode_text(self, tokens_CL: Tensor) -> TextFeatures:
        """Features of token ids of `context_length` columns."""
        mask = torch.arange(tokens_CL.shape[1], device=tokens_CL.device) <= tokens_CL.argmax(1, keepdim=True)
        pooled, tokens = self.clip.text(tokens_CL)
        words = _project(tokens, self.clip.text.text_projection)
        if self.pooling == "average":
            weight = mask[..., None].to(words.dtype)
            pooled = (words * weight).sum(1) / weight.sum(1)
        return TextFeatures(F.normalize(pooled, dim=-1), words, mask)

    def forward(self, images_I3HW: Tensor, tokens_CL: Tensor) -> tuple[ImageFeatures, TextFeatures]:
        """Both at once, as data parallelism needs it."""
        return self.encode_image(images_I3HW), self.encode_text(tokens_CL)


def _project(tokens: Tensor, projection: Tensor | nn.Module | None) -> Tensor:
    if projection is None:
        return tokens
    return projection(tokens) if isinstance(projection, nn.Module) else tokens @ projection


def tower_config(tower: str | dict[str, Any]) -> dict[str, Any]:
    """The open_clip config of a model name, or the config itself; raises VlalignError naming `model.tower`."""
    config = tower if isinstance(tower, dict) else open_clip.get_model_config(tower)
    if config is None:
        raise VlalignError(f"model.tower: '{tower}' is not an open_clip model; open_clip.list_models() names them all")
    missing = {"embed_dim", "vision_cfg", "text_cfg"} - set(config)
    if missing:
        raise VlalignError(f"model.tower lacks {', '.join(sorted(missing))}, so it is no open_clip config")
    if config["text_cfg"].get("hf_model_name") or config["text_cfg"].get("hf_tokenizer_name"):
        raise VlalignError("model.tower needs a Hugging Face tokenizer; choose a tower with CLIP's own")
    return config


def create(config: dict[str, Any], *, pooling: str) -> DualEncoder:
    """Random towers of an open_clip config; the text tower is a module of its own, whatever the config says."""
    arguments = {key: value for key, value in config.items() if key != "custom_text"}
    clip = open_clip.CustomTextCLIP(**copy.deepcopy(arguments))
    tokenizer = open_clip.SimpleTokenizer(context_length=clip.context_length)
    return DualEncoder(clip, tokenizer, config={**config, "custom_text": True}, pooling=pooling)


def save(encoder: DualEncoder, directory: str | Path) -> None:
    """Write `model.safetensors` and `open_clip_config.json`: the folder is what open_clip's `local-dir:` schema
    reads.
    """
    directory = Path(directory)
    weights = {name: value.detach().cpu().contiguous() for name, value in encoder.clip.state_dict().items()}
    with atomic_write(directory / WEIGHTS) as temporary:
        save_file(weights, temporary, metadata={"format": "pt"})
        temporary.chmod(0o644)  # safetensors puts a file of its own in the place of ours, for its owner alone
    preprocess = {"mean": list(encoder.image_mean), "std": list(encoder.image_std), "size": encoder.image_size}
    write_json(
        directory / CONFIG,
        {"model_cfg": encoder.config, "preprocess_cfg": preprocess, "vlalign": {"pooling": encoder.pooling}},
    )


def load(directory: str | Path) -> DualEncoder:
    """The encoder of a run in evaluation mode; raises VlalignError when the folder holds none."""
    directory = Path(directory)
    config = read_json(directory / CONFIG)
    if not (directory / WEIGHTS).is_file():
        raise VlalignError(f"{directory / WEIGHTS} does not exist; train the run first")
    encoder = create(config["model_cfg"], pooling=config["vlalign"]["pooling"])
    encoder.clip.load_state_dict(load_file(directory / WEIGHTS))
    return encoder.eval()
