"""Folders that hold a model: a run's, or another that open_clip's `local-dir:` schema reads."""

import os
from collections.abc import Mapping
from pathlib import Path
from typing import Any, TypeVar

from pydantic import ValidationError
from safetensors import SafetensorError
from safetensors.torch import load_file

from vlalign.errors import VlalignError
from vlalign.files import read_json
from vlalign.foreign import refuse_code
from vlalign.models.packaged import PREFIX
from vlalign.models.towers import DualEncoder, Frozen, create, without_weights
from vlalign.models.weights import WEIGHTS, load_image_weights, load_text_weights, load_weights, weights_file
from vlalign.params import AdapterParams, LoraParams, describe
from vlalign.params.run import PARTS
from vlalign.previous import RUN
from vlalign.records import check_file, read_record

CONFIG, TOKENIZER, TEXT = "open_clip_config.json", "tokenizer_config.json", "config.json"
# How the weights of adapters are called, beside those of open_clip's towers.
ADAPTERS = "adapters."
Known = TypeVar("Known", AdapterParams, LoraParams)


def load(directory: str | Path, *, pooling: str | None = None, activation: str | None = None) -> DualEncoder:
    """The encoder of a folder in evaluation mode: of a run, or another that open_clip's `local-dir:` schema reads.

    Args:
        directory: holds `open_clip_config.json` and weights: safetensors, or a pickle of nothing but tensors.
        pooling: see DualEncoder; left out, a run's own, and the towers' own for folders that say nothing of it.
        activation: `gelu` or `quick-gelu`, in place of what the config says.

    Raises:
        VlalignError: when the folder holds no config, no weights, or towers that cannot be read; when its files are not
            those that its run.json describes, if it has one; and when it asks for code of its own to be run.
    """
    directory = Path(str(directory).removeprefix("local-dir:"))
    config = read_config(directory)
    weights = weights_file(directory)
    check_files(directory, weights)
    text, files = config["model_cfg"]["text_cfg"], {"hf_tokenizer_name": TOKENIZER, "hf_model_name": TEXT}
    own = {name: str(directory) for name, file in files.items() if text.get(name) and (directory / file).is_file()}
    if activation is not None:
        config["model_cfg"]["quick_gelu"] = activation == "quick-gelu"
    try:
        towers = without_weights(config["model_cfg"])
        encoder = create(towers, pooling=pooling or known_pooling(config) or "default", places=own)
        encoder.set_preprocessing(config.get("preprocess_cfg") or {})
    except (VlalignError, AttributeError, TypeError, ValueError) as error:
        raise VlalignError(f"{directory / CONFIG} does not describe towers that can be read here: {error}") from error
    ours = config.get("vlalign")
    if isinstance(ours, Mapping) and "adapters" in ours:
        _load_adapted(encoder, weights, ours)
    else:
        load_weights(encoder.clip, weights)
    return encoder.eval()


def _load_adapted(encoder: DualEncoder, file: Path, ours: Mapping[str, Any]) -> None:
    """Adapters, and towers from the same file or from the one that the config names."""
    frozen = ours.get("frozen")
    adapters, lora = _read(AdapterParams, ours, "adapters"), _read(LoraParams, ours, "lora") if "lora" in ours else None
    if frozen is not None:
        encoder.frozen = _load_frozen(encoder, frozen, file.parent / CONFIG)
    encoder.adapt(adapters, lora)
    try:
        state = {name if name.startswith(ADAPTERS) else f"clip.{name}": x for name, x in load_file(file).items()}
        encoder.load_trained_state(state) if frozen is not None else encoder.load_state_dict(state)
    except (OSError, SafetensorError, RuntimeError) as error:
        raise VlalignError(f"{file} cannot be loaded as adapters on these towers ({error})") from error


def _load_frozen(encoder: DualEncoder, told: Any, config: Path) -> Frozen:
    """Fill towers with the weights of which the config says where they are."""
    folder = config.parent
    if isinstance(told, Mapping) and all(str(told.get(name)).startswith(PREFIX) for name in PARTS):
        load_image_weights(encoder.clip.visual, told["image_weights"])
        load_text_weights(encoder.clip.text, told["text_weights"])
        return Frozen(packages=dict(told))
    if not isinstance(told, Mapping) or not isinstance(told.get("weights"), str):
        raise VlalignError(f"{config} does not say where the weights of its frozen towers are; train it again")
    found = Frozen(Path(os.path.normpath(folder / told["weights"])), told.get("stamp", {}))
    remedy = f"bring that file back, or delete {folder} and run the workflow again, which trains it anew"
    assert found.weights is not None
    check_file(found.weights, found.stamp or {}, record=config, remedy=remedy)
    load_weights(encoder.clip, found.weights)
    return found


def _read(kind: type[Known], ours: Mapping[str, Any], key: str) -> Known:
    """What a config says of its adapters; raises VlalignError for what is none."""
    try:
        return kind.model_validate(ours[key])
    except ValidationError as error:
        raise VlalignError(f"vlalign.{key}: {describe(error, of=kind)}") from None


def known_pooling(config: Mapping[str, Any]) -> str | None:
    """What a config says of the pooling, None where it says nothing; raises VlalignError for what is none."""
    if "vlalign" not in config:
        return None
    ours = config["vlalign"]
    pooling: Any = ours.get("pooling", "default") if isinstance(ours, Mapping) else ours
    if pooling not in ("average", "default"):
        raise VlalignError(f"vlalign.pooling is {pooling!r}; it must be average or default")
    return pooling


def read_config(directory: Path) -> dict[str, Any]:
    """The `open_clip_config.json` of a folder; raises VlalignError when it is none, or asks for code to be run."""
    path = directory / CONFIG
    if not path.is_file():
        raise VlalignError(
            f"{directory} is no folder of a model: it has no {CONFIG}; a run's is results/runs/.../seed-0"
        )
    remedy = "bring back the file that came with the model"
    config = read_json(path, remedy=remedy)
    parts = config.get("model_cfg") if isinstance(config, dict) else None
    if not isinstance(parts, dict) or not all(isinstance(parts.get(key), dict) for key in ("vision_cfg", "text_cfg")):
        raise VlalignError(
            f"{path} has no `model_cfg` with `vision_cfg` and `text_cfg`, so it is no config of open_clip"
        )
    for file in (path, directory / TOKENIZER, directory / TEXT):
        if file.is_file():
            refuse_code(read_json(file, remedy=remedy), source=str(file))
    return config


def check_files(directory: Path, weights: Path) -> None:
    """Compare the files of a run with its run.json; other folders have none."""
    path = directory / RUN
    if not path.is_file():
        return
    remedy = f"delete {path} and run the workflow again, which trains this run anew, or bring back its files"
    for name, expected in read_record(path, remedy=remedy).get("files", {}).items():
        # On the hub the weights have another name.
        file = weights if name == WEIGHTS else directory / name
        if name in (WEIGHTS, CONFIG) or file.is_file():
            check_file(file, expected, record=path, remedy=remedy)
