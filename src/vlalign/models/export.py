"""Encoders as folders that open_clip reads too."""

import copy
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import open_clip
import torch
import torch.nn.functional as F
from huggingface_hub import CommitOperationAdd, HfApi
from open_clip.constants import HF_SAFE_WEIGHTS_NAME
from open_clip.hf_model import HFTextEncoder
from open_clip.tokenizer import HFTokenizer
from safetensors.torch import save_file

from vlalign.data.packing.image_lists import leaves
from vlalign.errors import VlalignError
from vlalign.files import atomic_write, read_json, write_json
from vlalign.foreign import refuse_code
from vlalign.models.text import read_text
from vlalign.models.towers import DualEncoder, create
from vlalign.models.vision import read_image
from vlalign.previous import RUN
from vlalign.records import check_file, read_record

WEIGHTS, CONFIG, CARD, TOKENIZER = "model.safetensors", "open_clip_config.json", "README.md", "tokenizer_config.json"
TEXT = "config.json"
# Probes for which open_clip and vlalign must agree.
PROBES = ["a photo of a dog", "two red cats above a green house"]
TOLERANCE = 1e-6


def save(encoder: DualEncoder, directory: str | Path) -> list[str]:
    """Write `model.safetensors` and `open_clip_config.json`: the folder is what open_clip's `local-dir:` schema
    reads. The config also says which of the embeddings are the same there.

    Returns the names of all files that were written.
    """
    directory, names = Path(directory), [WEIGHTS, CONFIG]
    weights = {name: value.detach().cpu().contiguous() for name, value in encoder.clip.state_dict().items()}
    with atomic_write(directory / WEIGHTS) as temporary:
        mode = temporary.stat().st_mode
        save_file(weights, temporary, metadata={"format": "pt"})
        temporary.chmod(mode)  # safetensors puts a file of its own in the place of ours, for its owner alone
    if isinstance(encoder.tokenizer, HFTokenizer):
        # open_clip looks for it nowhere else.
        names += [Path(path).name for path in encoder.tokenizer.tokenizer.save_pretrained(str(directory))]
    if isinstance(encoder.clip.text, HFTextEncoder):
        # The architecture, for `load` on machines that do not have the folder or hub it came from.
        encoder.clip.text.config.save_pretrained(directory)
        names.append(TEXT)
    ours = {"pooling": encoder.pooling, "same_in_open_clip": same_in_open_clip(encoder)}
    config = {"model_cfg": _offline(encoder), "preprocess_cfg": encoder.preprocess, "vlalign": ours}
    write_json(directory / CONFIG, config)
    return names


def _offline(encoder: DualEncoder) -> dict:
    """Its config without other people's weights, which ours replace."""
    config = copy.deepcopy(encoder.config)
    for part, key in (("vision_cfg", "timm_model_pretrained"), ("text_cfg", "hf_model_pretrained")):
        if key in config[part] or (key.startswith("hf") and config[part].get("hf_model_name")):
            config[part][key] = False
    return config


@torch.no_grad()
def same_in_open_clip(encoder: DualEncoder) -> dict[str, bool]:
    """Whether open_clip's own pooling gives the embeddings of this encoder, on a random picture and two captions."""
    training, device = encoder.training, encoder.logit_scale.device
    encoder.eval()
    size = encoder.image_size
    pictures = torch.randn(2, 3, size, size, generator=torch.Generator().manual_seed(0)).to(device)
    tokens = encoder.tokenizer(PROBES).to(device)
    ours = {"image": encoder.encode_image(pictures)[0], "text": encoder.encode_text(tokens)[0]}
    theirs = {"image": read_image(encoder.clip.visual, pictures)[0], "text": read_text(encoder.clip.text, tokens)[0]}
    encoder.train(training)
    return {name: torch.allclose(ours[name], F.normalize(theirs[name], dim=-1), atol=TOLERANCE) for name in ours}


def load(directory: str | Path, *, pooling: str | None = None) -> DualEncoder:
    """The encoder of a folder in evaluation mode: of a run, or another with safetensors that open_clip's `local-dir:`
    schema reads.

    Args:
        directory: holds `open_clip_config.json` and weights.
        pooling: see DualEncoder; left out, a run's own, and the towers' own for folders that say nothing of it.

    Raises:
        VlalignError: when the folder holds no config, no weights, or towers that cannot be read; when its files are not
            those that its run.json describes, if it has one; and when it asks for code of its own to be run.
    """
    directory = Path(str(directory).removeprefix("local-dir:"))
    config = _read_config(directory)
    weights = weights_file(directory)
    _check_files(directory, weights)
    text = config["model_cfg"]["text_cfg"]
    for name, file in (("hf_tokenizer_name", TOKENIZER), ("hf_model_name", TEXT)):
        if text.get(name) and (directory / file).is_file():
            text[name] = str(directory)
    try:
        encoder = create(config["model_cfg"], pooling=pooling or _pooling(config.get("vlalign", {})))
        encoder.set_preprocessing(config.get("preprocess_cfg") or {})
    except (VlalignError, AttributeError, TypeError, ValueError) as error:
        raise VlalignError(f"{directory / CONFIG} does not describe towers that can be read here: {error}") from error
    try:
        open_clip.load_checkpoint(encoder.clip, str(weights), weights_only=True)
    except Exception as error:  # files that are damaged or of another kind fail in many ways
        raise VlalignError(f"{weights} cannot be loaded into the towers of {CONFIG} ({error!r})") from error
    return encoder.eval()


def _pooling(ours: Mapping[str, Any]) -> Any:
    """What a config says of the pooling; raises ValueError for what is none."""
    pooling = ours.get("pooling", "default")
    if pooling not in ("average", "default"):
        raise ValueError(f"vlalign.pooling is {pooling!r}; it must be average or default")
    return pooling


def weights_file(directory: Path) -> Path:
    """The weights in a folder of a model; raises VlalignError when there are none in safetensors."""
    for name in (HF_SAFE_WEIGHTS_NAME, WEIGHTS):
        if (directory / name).is_file():
            return directory / name
    raise VlalignError(f"{directory / WEIGHTS} does not exist; train the run first, or convert to safetensors")


def _read_config(directory: Path) -> dict[str, Any]:
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


def _check_files(directory: Path, weights: Path) -> None:
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


def push(directory: str | Path, repository: str, *, private: bool = False) -> str:
    """Upload the folder of a run to a repository of the Hugging Face hub; returns its address.

    Both `open_clip.create_model_and_transforms("hf-hub:<repository>")` and, of a snapshot, `load` read it. open_clip's
    own push would lose the pooling, and fails with current versions of huggingface_hub.

    What its run.json names is uploaded, and its model card; nothing else that lies in the folder.
    Raises VlalignError when the folder is no measured run, or its files are not those that its run.json describes.
    """
    directory, api = Path(directory), HfApi()
    if missing := [name for name in (RUN, WEIGHTS, CONFIG, CARD) if not (directory / name).is_file()]:
        raise VlalignError(f"{directory} lacks {', '.join(missing)}; train and evaluate the run first")
    _check_files(directory, directory / WEIGHTS)
    added = []
    for name in sorted({*read_record(directory / RUN).get("files", {}), RUN, CARD}):
        path = directory / name
        if leaves(path, directory):
            raise VlalignError(f"{path} is a link that leads out of the run's folder; put the file itself there")
        added.append(CommitOperationAdd(HF_SAFE_WEIGHTS_NAME if name == WEIGHTS else name, str(path)))
    address = api.create_repo(repository, private=private, exist_ok=True)
    api.create_commit(repository, added, commit_message="Add model")
    return str(address)
