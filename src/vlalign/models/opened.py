"""Models that were not trained here, opened with what identifies them.

The activation and the pooling that weights were trained with change every number, and a file of weights says neither.
They are never guessed: a config, a tag or a name says them, or whoever asks for the model.
"""

import hashlib
import json
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, NamedTuple

import open_clip
import torch
from open_clip.hf_model import HFTextEncoder
from open_clip.tokenizer import HFTokenizer

from vlalign.errors import VlalignError
from vlalign.files import read_object
from vlalign.hub import Repository
from vlalign.models.fetched import fetch
from vlalign.models.folders import CONFIG, known_pooling, load, read_config
from vlalign.models.towers import DualEncoder, create, tower_config, without_weights
from vlalign.models.weights import load_weights, weights_file
from vlalign.params.cards import EvaluatedModel
from vlalign.records import stamp

NAMED_PLACES = ("hf_model_name", "hf_tokenizer_name", "_name_or_path")
ACTIVATIONS = {False: "gelu", True: "quick-gelu"}


@dataclass(frozen=True)
class OpenedModel:
    """An encoder in evaluation mode, and what identifies it.

    weights: SHA-256 of the file of weights; None for random ones, of which `drawn` is the SHA-256 of towers and seed.
    pooling: `average` or `default`. activation: `gelu` or `quick-gelu`; None where the towers have others of their own.
    source: where it comes from, to be read. commit: of its repository on the hub.
    """

    encoder: DualEncoder
    weights: str | None
    drawn: str | None
    pooling: str
    activation: str | None
    source: str
    commit: str | None

    def identity(self) -> dict[str, Any]:
        """All that its embeddings depend on, as plain values: equal identities give equal embeddings."""
        return {
            "weights": self.weights or self.drawn,
            "towers": _digest(described(self.encoder)),
            "pooling": self.pooling,
            "preprocess": self.encoder.preprocess,
        }


class Trained(NamedTuple):
    """What weights were trained with, as far as it is known, and who says so."""

    activation: str | None
    pooling: str | None
    by: str


class Towers(NamedTuple):
    """Towers without weights: open_clip's name where they have one, their config, and how pictures are made ready."""

    name: str | None
    config: dict[str, Any]
    preprocess: Mapping[str, Any]
    known: Trained


def open_model(spec: EvaluatedModel, *, base: Path = Path(), key: str = "model") -> OpenedModel:
    """Open a folder, a repository of the hub, or towers with a tag, a file or a seed of weights.

    base: folder from which paths count. key: where params have the model, for messages.
    Raises VlalignError when it cannot be had or read; when nobody says the activation or the pooling of its weights, or
    what is stated is known to be otherwise; when its positional embeddings are of another size; and when it asks for
    code of its own to be run.
    """
    if spec.hub is not None:
        folder = fetch(Repository(spec.hub, spec.revision, "model", f"{key}.hub"))
        source = f"{spec.hub} of the Hugging Face hub at {folder.name}"
        return _of_folder(folder, spec, key=key, source=source, commit=folder.name)
    if spec.folder is not None:
        return _of_folder(base / spec.folder.removeprefix("local-dir:"), spec, key=key, source=spec.folder)
    assert spec.tower is not None
    towers = _read_towers(spec.tower, base, key)
    if spec.pretrained is None:
        return _drawn(towers, spec, key)
    tag = open_clip.get_pretrained_cfg(towers.name, spec.pretrained) if towers.name else {}
    return _of_tag(towers, spec, tag, key) if tag else _of_file(towers, spec, base, key)


def to_device(model: OpenedModel) -> OpenedModel:
    """The model on the GPU, where there is one."""
    on_device(model.encoder)
    return model


def on_device(encoder: DualEncoder) -> DualEncoder:
    """The encoder on the GPU, where there is one."""
    return encoder.to("cuda" if torch.cuda.is_available() else "cpu")


def _of_folder(
    directory: Path, spec: EvaluatedModel, *, key: str, source: str, commit: str | None = None
) -> OpenedModel:
    config = read_config(directory)
    trained = _settled(spec, _known(config, by=str(directory / CONFIG)), config["model_cfg"], key)
    encoder = load(directory, pooling=trained.pooling, activation=trained.activation)
    return _opened(encoder, source=source, weights=weights_file(directory), commit=commit)


def _drawn(towers: Towers, spec: EvaluatedModel, key: str) -> OpenedModel:
    """Random weights."""
    trained = _settled(spec, towers.known, towers.config, key)
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(spec.seed)
        encoder = _created(towers, trained, key)
    shown = f"{towers.name or 'towers of a config'}, random weights of seed {spec.seed}"
    return _opened(encoder, source=shown, drawn=_digest({"towers": encoder.config, "seed": spec.seed}))


def _of_tag(towers: Towers, spec: EvaluatedModel, tag: Mapping[str, Any], key: str) -> OpenedModel:
    by, quick = f"open_clip's tag {spec.pretrained}", bool(tag.get("quick_gelu"))
    known = Trained(ACTIVATIONS[quick] if _has_activation(towers.config) else None, "default", by)
    if towers.known.activation not in (None, known.activation):
        raise VlalignError(
            f"{key}.tower: {by} is of {towers.name} with {known.activation}, this one has {towers.known.activation}; "
            f"give {str(towers.name).removesuffix('-quickgelu')} with or without -quickgelu"
        )
    trained = _settled(spec, known, towers.config, key)
    if trained.activation == "quick-gelu" and spec.activation is None and towers.known.activation is None:
        raise VlalignError(
            f"{key}.tower: {by} is of towers with quick-gelu, which {towers.name} has not: give "
            f"{towers.name}-quickgelu, where open_clip knows one, or {key}.activation: quick-gelu"
        )
    try:
        path = Path(open_clip.download_pretrained(dict(tag)))
    except Exception as error:  # of the hub, of its HTTP client, or of the network
        raise VlalignError(
            f"{key}.pretrained: the weights of {by} cannot be downloaded ({error}); fetch them where there is a "
            f"network, and give the file, with {key}.activation: {known.activation} and {key}.pooling: default"
        ) from error
    encoder = _created(towers._replace(preprocess=tag), trained, key)
    load_weights(encoder.clip, path)
    return _opened(encoder, source=f"{towers.name}, {spec.pretrained}", weights=path, commit=_commit(path))


def _of_file(towers: Towers, spec: EvaluatedModel, base: Path, key: str) -> OpenedModel:
    path = base / str(spec.pretrained)
    if not path.is_file():
        tags = open_clip.list_pretrained_tags_by_model(towers.name) if towers.name else []
        raise VlalignError(
            f"{key}.pretrained: '{spec.pretrained}' is neither a file of weights ({path} is none) nor one of the tags "
            f"of this tower: {', '.join(tags) or 'none'}"
        )
    trained = _settled(spec, towers.known, towers.config, key)
    unsaid = {"activation": trained.activation is None and _has_activation(towers.config)}
    unsaid["pooling"] = trained.pooling is None
    if missing := [what for what, lacks in unsaid.items() if lacks]:
        choices = {"activation": "gelu or quick-gelu", "pooling": "average or default"}
        wanted = " and ".join(f"{key}.{what} ({choices[what]})" for what in missing)
        options = " and ".join(f"--{what}" for what in missing)
        raise VlalignError(
            f"{key}.pretrained: {path} does not say with which {' and '.join(missing)} its towers were trained, on "
            f"which every number depends; set {wanted}, by hand {options}"
        )
    encoder = _created(towers, trained, key)
    load_weights(encoder.clip, path)
    return _opened(encoder, source=f"{towers.name or 'towers of a config'}, {spec.pretrained}", weights=path)


def _read_towers(tower: str | dict[str, Any], base: Path, key: str) -> Towers:
    """A name, or the file or content of a config, alone or as folders of models have it."""
    name = None
    if isinstance(tower, str) and tower.startswith(("hf-hub:", "local-dir:")):
        raise VlalignError(f"{key}.tower: {tower} has weights of its own; give it as {key}.hub or {key}.folder")
    if isinstance(tower, str) and tower.endswith(".json"):
        tower = read_object(base / tower, remedy="correct it, or give an open_clip model name")
    elif isinstance(tower, str):
        name = tower = tower.replace("/", "-")
    content: dict[str, Any] = {"model_cfg": tower}
    if isinstance(tower, dict) and "model_cfg" in tower:
        content = tower
    try:
        config = tower_config(content["model_cfg"])
        known = _known({**content, "model_cfg": config}, by=f"{key}.tower")
    except VlalignError as error:
        raise _of_key(error, key) from None
    return Towers(name, config, content.get("preprocess_cfg") or {}, known)


def _known(config: Mapping[str, Any], *, by: str) -> Trained:
    """What a config says. Where it is silent on the activation, open_clip takes GELU, but its trainer can be told
    otherwise without a trace; what vlalign writes is complete.
    """
    quick = config["model_cfg"].get("quick_gelu", False if "vlalign" in config else None)
    has = _has_activation(config["model_cfg"])
    return Trained(ACTIVATIONS[bool(quick)] if has and quick is not None else None, known_pooling(config), by)


def _settled(spec: EvaluatedModel, known: Trained, config: Mapping[str, Any], key: str) -> Trained:
    """What is stated or known; raises VlalignError where the two differ."""
    if spec.activation is not None and not _has_activation(config):
        raise VlalignError(f"{key}.activation: the towers of timm and transformers have their own; leave it out")
    for what in ("activation", "pooling"):
        stated, other = getattr(spec, what), getattr(known, what)
        if None not in (stated, other) and stated != other:
            raise VlalignError(f"{key}.{what} is {stated}, but {known.by} says {other}; correct it, or leave it out")
    return Trained(spec.activation or known.activation, spec.pooling or known.pooling, known.by)


def _has_activation(config: Mapping[str, Any]) -> bool:
    """Whether `quick_gelu` changes anything: in towers of open_clip's own, but not in its image ResNets."""
    vision, text = config["vision_cfg"], config["text_cfg"]
    resnet = isinstance(vision.get("layers"), list | tuple)
    return not text.get("hf_model_name") or not (resnet or vision.get("timm_model_name"))


def _created(towers: Towers, trained: Trained, key: str) -> DualEncoder:
    config = without_weights(towers.config)
    if trained.activation is not None:
        config["quick_gelu"] = trained.activation == "quick-gelu"
    try:
        encoder = create(config, pooling=trained.pooling or "default")
        encoder.set_preprocessing(towers.preprocess)
    except VlalignError as error:
        raise _of_key(error, key) from error
    return encoder.eval()


def _of_key(error: VlalignError, key: str) -> VlalignError:
    """Params of runs have their tower as `model.tower`."""
    return VlalignError(str(error).replace("model.tower", f"{key}.tower"))


def _opened(
    encoder: DualEncoder,
    *,
    source: str,
    weights: Path | None = None,
    drawn: str | None = None,
    commit: str | None = None,
) -> OpenedModel:
    quick = bool(encoder.config.get("quick_gelu"))
    return OpenedModel(
        encoder,
        weights=None if weights is None else stamp(weights)["sha256"],
        drawn=drawn,
        pooling=encoder.pooling,
        activation=ACTIVATIONS[quick] if _has_activation(encoder.config) else None,
        source=source,
        commit=commit,
    )


def described(encoder: DualEncoder) -> dict[str, Any]:
    """The towers and the tokenizer, without the places that they were read from."""
    text = encoder.config["text_cfg"]
    told = {**encoder.config, "text_cfg": {key: text[key] for key in text if key not in NAMED_PLACES}}
    told["quick_gelu"] = bool(encoder.config.get("quick_gelu"))
    if isinstance(encoder.clip.text, HFTextEncoder):
        config = encoder.clip.text.config.to_dict()
        told["transformer"] = {key: config[key] for key in config if key not in NAMED_PLACES}
    if isinstance(encoder.tokenizer, HFTokenizer):
        parts = json.loads(encoder.tokenizer.tokenizer.backend_tokenizer.to_str())
        # These are set by every call.
        told["tokenizer"] = {key: part for key, part in parts.items() if key not in ("truncation", "padding")}
    return told


def _commit(path: Path) -> str | None:
    """Of a file in the cache of huggingface_hub."""
    parts = path.parts
    return parts[parts.index("snapshots") + 1] if "snapshots" in parts else None


def _digest(value: Any) -> str:
    return hashlib.sha256(json.dumps(value, sort_keys=True).encode()).hexdigest()
