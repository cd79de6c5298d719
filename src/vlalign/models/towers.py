"""Image and text towers that give embeddings and tokens in one joint space.

open_clip returns pooled embeddings, or tokens before their projection, and its text tower cannot pool by averaging;
PowerCLIP needs projected patch and word tokens and averages both.
"""

import contextlib
import copy
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any, NamedTuple

import open_clip
import torch
import torch.nn.functional as F
from huggingface_hub.errors import RepositoryNotFoundError
from open_clip.constants import OPENAI_DATASET_MEAN, OPENAI_DATASET_STD
from open_clip.timm_model import TimmModel
from timm.layers import freeze_batch_norm_2d
from torch import Tensor, nn

from vlalign.errors import VlalignError
from vlalign.foreign import no_foreign_code, refuse_code
from vlalign.hub import Repository
from vlalign.models.adapters import Adapters, TowerFeatures
from vlalign.models.decoders import known_decoders, settle_padding
from vlalign.models.lora import TRAINED, add_lora
from vlalign.models.packaged import PREFIX, packaged, packaged_folder
from vlalign.models.text import Tokenizer, check_text_tower, make_tokenizer, read_text, real_tokens
from vlalign.models.vision import check_image_tower, patch_grid, read_image
from vlalign.models.weights import load_image_weights, load_text_weights, load_weights, weights_file
from vlalign.params import AdapterParams, LoraParams, ModelParams
from vlalign.params.run import PARTS
from vlalign.records import stamp

# Of open_clip's own text towers; of these, none averages.
TEXT_POOLS = ("argmax", "eos", "first", "last")
# Of a pixel's value from 0 to 1: one step of 255, by which timm and the original differ too.
PIXEL_STEP = 1 / 255
# Where a text tower of transformers is: its architecture, and its tokenizer.
TEXT_PLACES = ("hf_model_name", "hf_tokenizer_name")


class ImageFeatures(NamedTuple):
    """Unit embeddings I D, and projected patch tokens I V D that are not normalised."""

    embedding_ID: Tensor
    patches_IVD: Tensor


class TextFeatures(NamedTuple):
    """Unit embeddings C D, projected tokens C L D, and which of these are real, C L: all but the padding."""

    embedding_CD: Tensor
    tokens_CLD: Tensor
    mask_CL: Tensor


class Frozen(NamedTuple):
    """Where the weights of towers lie that nothing changes: a file with its stamp (see `vlalign.records`), or packages,
    by `image_weights` and `text_weights`.
    """

    weights: Path | None = None
    stamp: dict[str, Any] | None = None
    packages: dict[str, str] | None = None


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
        self._own: dict[str, list[Tensor]] | None = None
        check_image_tower(clip.visual)
        check_text_tower(clip.text)
        size = clip.visual.image_size
        self.image_size: int = size[0] if isinstance(size, tuple) else size
        self.grid = patch_grid(clip.visual, (self.image_size, self.image_size))
        self.context_length: int = tokenizer.context_length
        self.set_preprocessing(getattr(clip.visual, "preprocess_cfg", {}))
        self.adapters: Adapters | None = None
        # Where the frozen towers' weights lie, unless they are saved with the adapters.
        self.frozen: Frozen | None = None
        self.lora: LoraParams | None = None

    def adapt(self, params: AdapterParams, lora: LoraParams | None = None) -> None:
        """Freeze the towers as they are, put adapters on them, and change the text tower by `lora`."""
        for tower in (self.clip.visual, self.clip.text):
            tower.requires_grad_(False).eval()
        if lora is not None:
            add_lora(self.clip.text, lora)
            self.lora = lora
        self.adapters = Adapters(*self.widths(), params)

    def widths(self) -> tuple[int, int]:
        """Channels of what the towers give, of images and of texts."""
        with torch.no_grad():
            image = self.tower_image(torch.zeros(1, 3, self.image_size, self.image_size))
            text = self.tower_text(self.tokenizer([""]))
        return image.pooled_NW.shape[1], text.pooled_NW.shape[1]

    def train(self, mode: bool = True) -> "DualEncoder":
        """Frozen towers stay in evaluation mode: their dropout and statistics would change what they give."""
        super().train(mode)
        if self.adapters is not None:
            self.clip.eval()
        return self

    def set_preprocessing(self, config: Mapping[str, Any]) -> None:
        """How pictures are made ready, in open_clip's words; what `config` leaves out is as CLIP's.

        Raises VlalignError for a way of resizing that has no equal here.
        """
        self.preprocess: dict[str, Any] = {
            "mean": list(config.get("mean") or OPENAI_DATASET_MEAN),
            "std": list(config.get("std") or OPENAI_DATASET_STD),
            "interpolation": config.get("interpolation") or "bicubic",
            "resize_mode": config.get("resize_mode") or "shortest",
            "size": self.image_size,
        }
        for key in ("mean", "std"):
            values = self.preprocess[key]
            if len(values) != 3 or not all(isinstance(value, int | float) for value in values):
                raise VlalignError(f"preprocess_cfg.{key} is {values}; it must be three numbers, one for each colour")
        known = {"interpolation": ("bicubic", "bilinear"), "resize_mode": ("shortest", "squash")}
        for key, values in known.items():
            if self.preprocess[key] not in values:
                raise VlalignError(f"preprocess_cfg.{key} is '{self.preprocess[key]}'; known are {', '.join(values)}")
        # Where open_clip's own functions look for it.
        open_clip.model.set_model_preprocess_cfg(self.clip, self.preprocess)

    @property
    def has_joint_tokens(self) -> bool:
        """Whether tokens of patches and words lie in the joint space: not where adapters saw pooled features alone."""
        return self.adapters is None or self.adapters.params.kind == "transformer"

    def trained_state(self) -> dict[str, Tensor]:
        """All weights, without those of towers that adapters have frozen."""
        return {name: value for name, value in self.state_dict().items() if not self._is_frozen(name)}

    def load_trained_state(self, state: Mapping[str, Tensor]) -> None:
        """Raises RuntimeError where `state` is not what `trained_state` gives for such an encoder."""
        found = self.load_state_dict(state, strict=False)
        missing = [name for name in found.missing_keys if not self._is_frozen(name)]
        if missing or found.unexpected_keys:
            raise RuntimeError(f"missing are {missing}, unexpected {found.unexpected_keys}")

    def _is_frozen(self, name: str) -> bool:
        return self.adapters is not None and name.startswith(("clip.visual.", "clip.text.")) and TRAINED not in name

    @property
    def logit_scale(self) -> Tensor:
        """Logarithm of the inverse temperature of InfoNCE."""
        return self.clip.logit_scale.view(())

    def encode_image(self, images_I3HW: Tensor) -> ImageFeatures:
        """Features of normalised pictures."""
        return self.joint_image(self.tower_image(images_I3HW))

    def encode_text(self, tokens_CL: Tensor) -> TextFeatures:
        """Features of token ids of `context_length` columns."""
        return self.joint_text(self.tower_text(tokens_CL))

    def tower_image(self, images_I3HW: Tensor) -> TowerFeatures:
        """What the image tower gives for normalised pictures; without adapters, in the joint space already."""
        pooled_IW, patches_IVW = read_image(self.clip.visual, images_I3HW)
        if self.pooling == "average":
            self._keep("images", pooled_IW)
            pooled_IW = patches_IVW.mean(1)
        return TowerFeatures(pooled_IW, patches_IVW, patches_IVW.new_ones(patches_IVW.shape[:2], dtype=torch.bool))

    def tower_text(self, tokens_CL: Tensor) -> TowerFeatures:
        """What the text tower gives for token ids; without adapters, in the joint space already."""
        pooled_CW, tokens_CLW = read_text(self.clip.text, tokens_CL)
        mask_CL = real_tokens(self.tokenizer, tokens_CL)
        if self.pooling == "average":
            self._keep("texts", pooled_CW)
            weight = mask_CL[..., None].to(tokens_CLW.dtype)
            pooled_CW = (tokens_CLW * weight).sum(1) / weight.sum(1)
        return TowerFeatures(pooled_CW, tokens_CLW, mask_CL)

    def joint_image(self, found: TowerFeatures) -> ImageFeatures:
        """In the joint space."""
        pooled_ID, patches_IVD = found[:2] if self.adapters is None else self.adapters.image(found)
        return ImageFeatures(F.normalize(pooled_ID, dim=-1), patches_IVD)

    def joint_text(self, found: TowerFeatures) -> TextFeatures:
        """In the joint space."""
        pooled_CD, tokens_CLD = found[:2] if self.adapters is None else self.adapters.text(found)
        return TextFeatures(F.normalize(pooled_CD, dim=-1), tokens_CLD, found.mask_NL)

    @contextlib.contextmanager
    def keeping_own(self) -> Iterator[dict[str, list[Tensor]]]:
        """Within the block, what the towers themselves would pool is kept as well, where it is not the embedding: unit
        vectors of `images` and of `texts`, batch by batch, on the CPU. These are open_clip's.
        """
        self._own = {"images": [], "texts": []}
        try:
            yield self._own
        finally:
            self._own = None

    def _keep(self, kind: str, pooled_ND: Tensor) -> None:
        if self._own is not None and self.adapters is None:
            self._own[kind].append(F.normalize(pooled_ND.detach().float(), dim=-1).cpu())

    def forward(self, images_I3HW: Tensor, tokens_CL: Tensor) -> tuple[ImageFeatures, TextFeatures]:
        """Both at once, as data parallelism needs it."""
        return self.encode_image(images_I3HW), self.encode_text(tokens_CL)


def tower_config(tower: str | dict[str, Any]) -> dict[str, Any]:
    """The open_clip config of a model name, or the config itself, alone or as `model_cfg` beside `preprocess_cfg`.

    Raises VlalignError naming `model.tower`.
    """
    config = open_clip.get_model_config(tower) if isinstance(tower, str) else tower
    if isinstance(config, dict):
        config = config.get("model_cfg", config)
    if not isinstance(config, dict):
        raise VlalignError(f"model.tower: '{tower}' is not an open_clip model; open_clip.list_models() names them all")
    if missing := {"embed_dim", "vision_cfg", "text_cfg"} - set(config):
        raise VlalignError(f"model.tower lacks {', '.join(sorted(missing))}, so it is no open_clip config")
    _check_parts(config)
    if "multimodal_cfg" in config:
        raise VlalignError("model.tower: CoCa has a decoder, which is not trained here; choose a model with two towers")
    return config


def tower_preprocessing(tower: str | dict[str, Any]) -> Mapping[str, Any]:
    """The `preprocess_cfg` beside the `model_cfg` of a config, where there is one."""
    return (tower.get("preprocess_cfg") or {}) if isinstance(tower, dict) and "model_cfg" in tower else {}


def _check_parts(config: Mapping[str, Any]) -> None:
    for key in ("vision_cfg", "text_cfg"):
        if not isinstance(config.get(key), Mapping):
            raise VlalignError(f"model.tower: the config has no `{key}`, so it is none of open_clip's; correct it")


def create(config: dict[str, Any], *, pooling: str, places: Mapping[str, str] | None = None) -> DualEncoder:
    """The towers of an open_clip config; the text tower is a module of its own, whatever the config says.

    Random, but for the parts that the config itself names as pretrained (timm's and Hugging Face's).

    places: folders by the keys of `text_cfg` that name them, to be read in place of what these say.
    """
    refuse_code(config, source="model.tower")
    _check_parts(config)
    config = _explicit(config, pooling)
    if (kind := config["text_cfg"].get("pool_type", TEXT_POOLS[0])) not in TEXT_POOLS:
        raise VlalignError(
            f"model.tower: text_cfg.pool_type is '{kind}', and open_clip knows {', '.join(TEXT_POOLS)}; where it means "
            "the average of all tokens but the padding, set pooling: average"
        )
    # Where this machine has them stays out of the config, which is saved.
    text = {**config["text_cfg"], **_packaged_places(config["text_cfg"]), **(places or {})}
    arguments = {key: value for key, value in {**config, "text_cfg": text}.items() if key != "custom_text"}
    try:
        with no_foreign_code(), known_decoders():
            clip = open_clip.CustomTextCLIP(**arguments)
    except Exception as error:  # three libraries raise whatever a wrong config makes them stumble over
        # transformers raises its own error from that of huggingface_hub.
        if text.get("hf_model_name") and isinstance(error.__cause__, RepositoryNotFoundError):
            repository = Repository(str(text["hf_model_name"]), "main", "model", "model.tower: text_cfg.hf_model_name")
            raise VlalignError(repository.forbidden(str(error).partition("\n")[0])) from error
        raise VlalignError(f"model.tower: open_clip cannot make these towers ({error!r})") from error
    length = text.get("context_length", 77) if text.get("hf_model_name") else clip.context_length
    tokenizer = make_tokenizer(text, length)
    settle_padding(clip.text, tokenizer)
    config = {**config, "custom_text": True}
    return DualEncoder(clip, tokenizer, config=config, pooling=pooling)


def without_weights(config: Mapping[str, Any]) -> dict[str, Any]:
    """A config whose towers are made without the weights of others that it names, since their own replace them."""
    plain = copy.deepcopy(dict(config))
    for part, key in (("vision_cfg", "timm_model_pretrained"), ("text_cfg", "hf_model_pretrained")):
        if key in plain[part] or (key.startswith("hf") and plain[part].get("hf_model_name")):
            plain[part][key] = False
    return plain


def without_packages(config: Mapping[str, Any]) -> dict[str, Any]:
    """A config that names repositories of the hub in place of packages of the same text tower, as open_clip can."""
    plain = copy.deepcopy(dict(config))
    text = plain["text_cfg"]
    plain["text_cfg"] = text | {key: packaged(text[key], key=f"text_cfg.{key}").hub for key in _in_packages(text)}
    return plain


def _in_packages(text: Mapping[str, Any]) -> list[str]:
    return [key for key in TEXT_PLACES if str(text.get(key)).startswith(PREFIX)]


def _packaged_places(text: Mapping[str, Any]) -> dict[str, str]:
    return {key: str(packaged_folder(text[key], key=f"model.tower: text_cfg.{key}")) for key in _in_packages(text)}


def _explicit(config: dict[str, Any], pooling: str) -> dict[str, Any]:
    """The config that names average pooling where open_clip has it, so that its own loader gives our embeddings."""
    config = copy.deepcopy(config)
    vision, text = config["vision_cfg"], config["text_cfg"]
    if text.get("hf_model_name"):
        text.setdefault("hf_tokenizer_name", text["hf_model_name"])
    if pooling == "average":
        transformer = not vision.get("timm_model_name") and not isinstance(vision.get("layers"), list | tuple)
        if transformer and not vision.get("attentional_pool"):
            vision["pool_type"] = "avg"
        if text.get("hf_model_name"):
            text["hf_pooler_type"] = "mean_pooler"
        if text.get("pool_type") not in TEXT_POOLS:
            # Of forks that average.
            text.pop("pool_type", None)
    return config


def build(params: ModelParams, *, start: Path | None = None) -> DualEncoder:
    """The encoder that a run starts from, pretrained and locked; raises VlalignError naming the key of `model`.

    start: folder of the run that `params.start` names.
    """
    encoder = create(tower_config(params.tower), pooling=params.pooling)
    encoder.set_preprocessing(tower_preprocessing(params.tower))
    if params.start:
        if start is None:
            raise VlalignError(f"model.start: give the folder of the run {params.start}")
        load_weights(encoder.clip, weights_file(start))
    elif params.pretrained:
        _load_pretrained(encoder, params.tower, params.pretrained)
    if params.image_weights:
        load_image_weights(encoder.clip.visual, params.image_weights)
        _check_pixels(encoder, params.image_weights)
    if params.text_weights:
        load_text_weights(encoder.clip.text, params.text_weights)
    if params.adapters is not None:
        encoder.adapt(params.adapters, params.lora)
        encoder.frozen = _frozen(params, start)
    if encoder.clip.logit_bias is not None:
        # Of the sigmoid loss alone: a constant changes no softmax.
        encoder.clip.logit_bias.requires_grad_(False)
    try:
        if params.lock_image:
            _lock_image(encoder.clip, unlocked_groups=params.unlocked_image_groups)
        if params.lock_text:
            encoder.clip.lock_text_tower(unlocked_layers=params.unlocked_text_layers)
    except (AssertionError, AttributeError, RuntimeError) as error:
        raise VlalignError(f"model.lock_*: open_clip cannot lock a part of this tower ({error}); lock all") from error
    return encoder


def _lock_image(clip: open_clip.CustomTextCLIP, *, unlocked_groups: int) -> None:
    """As open_clip does, but for timm's towers: there it drops the activations within layers of batch normalisation."""
    if not isinstance(clip.visual, TimmModel):
        clip.lock_image_tower(unlocked_groups=unlocked_groups, freeze_bn_stats=True)
        return
    clip.lock_image_tower(unlocked_groups=unlocked_groups)
    trunk = clip.visual.trunk
    for name, part in list(trunk.named_modules()):
        locked = not any(value.requires_grad for value in part.parameters())
        if locked and isinstance(part, nn.BatchNorm2d | nn.SyncBatchNorm):
            trunk.set_submodule(name, freeze_batch_norm_2d(part))


def _check_pixels(encoder: DualEncoder, weights: str) -> None:
    """Raises VlalignError where pictures would not be normalised as packaged weights are used to."""
    pixels = packaged(weights, key="model.image_weights").pixels if weights.startswith(PREFIX) else None
    if pixels is None:
        return
    found, known = encoder.preprocess, dict(zip(("mean", "std"), ([value] * 3 for value in pixels), strict=True))
    if any(abs(a - b) > PIXEL_STEP for key in known for a, b in zip(found[key], known[key], strict=True)):
        raise VlalignError(
            f"model.image_weights: {weights} was trained on pictures of mean {known['mean']} and std {known['std']}, "
            f"but the tower has {found['mean']} and {found['std']}; give a config with model_cfg and preprocess_cfg"
        )


def _frozen(params: ModelParams, start: Path | None) -> Frozen | None:
    """Where frozen weights can be found again; None where they are saved with what is trained."""
    packages = {name: str(getattr(params, name)) for name in PARTS}
    if start is not None:
        weights = weights_file(start)
        return Frozen(weights, stamp(weights))
    if params.pretrained or not all(name.startswith(PREFIX) for name in packages.values()):
        return None
    return Frozen(packages=packages)


def _load_pretrained(encoder: DualEncoder, tower: str | dict[str, Any], pretrained: str) -> None:
    path: str | Path = pretrained
    known = open_clip.get_pretrained_cfg(tower, pretrained) if isinstance(tower, str) else {}
    if known:
        quick = known.get("quick_gelu", False)
        if quick != encoder.config.get("quick_gelu", False):
            other = f"{tower}-quickgelu" if quick else str(tower).removesuffix("-quickgelu")
            raise VlalignError(
                f"model.pretrained: the weights '{pretrained}' of {tower} are for towers with quick_gelu {quick}; the "
                f"tower {other} has it, where open_clip knows one"
            )
        path = open_clip.download_pretrained(known)
        encoder.set_preprocessing(known)
    elif not Path(pretrained).is_file():
        tags = open_clip.list_pretrained_tags_by_model(tower) if isinstance(tower, str) else []
        raise VlalignError(
            f"model.pretrained: '{pretrained}' is neither a file of weights nor one of the tags of this tower: "
            f"{', '.join(tags) or 'none'}"
        )
    try:
        open_clip.load_checkpoint(encoder.clip, str(path), weights_only=True)
    except Exception as error:  # files that are damaged or of another kind fail in many ways
        raise VlalignError(f"model.pretrained: {path} does not fit the tower ({error!r})") from error
