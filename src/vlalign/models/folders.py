"""Folders that hold a model: a run's, or another that open_clip's `local-dir:` schema reads."""

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from vlalign.errors import VlalignError
from vlalign.files import read_json
from vlalign.foreign import refuse_code
from vlalign.models.towers import DualEncoder, create, without_weights
from vlalign.models.weights import WEIGHTS, load_weights, weights_file
from vlalign.previous import RUN
from vlalign.records import check_file, read_record

CONFIG, TOKENIZER, TEXT = "open_clip_config.json", "tokenizer_config.json", "config.json"


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
    text = config["model_cfg"]["text_cfg"]
    for name, file in (("hf_tokenizer_name", TOKENIZER), ("hf_model_name", TEXT)):
        if text.get(name) and (directory / file).is_file():
            text[name] = str(directory)
    if activation is not None:
        config["model_cfg"]["quick_gelu"] = activation == "quick-gelu"
    try:
        towers = without_weights(config["model_cfg"])
        encoder = create(towers, pooling=pooling or known_pooling(config) or "default")
        encoder.set_preprocessing(config.get("preprocess_cfg") or {})
    except (VlalignError, AttributeError, TypeError, ValueError) as error:
        raise VlalignError(f"{directory / CONFIG} does not describe towers that can be read here: {error}") from error
    load_weights(encoder.clip, weights)
    return encoder.eval()


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
    config = read_json(path)
    parts = config.get("model_cfg") if isinstance(config, dict) else None
    if not isinstance(parts, dict) or not all(isinstance(parts.get(key), dict) for key in ("vision_cfg", "text_cfg")):
        raise VlalignError(
            f"{path} has no `model_cfg` with `vision_cfg` and `text_cfg`, so it is no config of open_clip"
        )
    for file in (path, directory / TOKENIZER, directory / TEXT):
        if file.is_file():
            refuse_code(read_json(file), source=str(file))
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
