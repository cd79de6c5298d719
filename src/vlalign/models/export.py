"""Encoders as folders that open_clip reads too."""

import os
from pathlib import Path
from typing import Any

import torch
import torch.nn.functional as F
from huggingface_hub import CommitOperationAdd, HfApi
from open_clip.constants import HF_SAFE_WEIGHTS_NAME
from open_clip.hf_model import HFTextEncoder
from open_clip.tokenizer import HFTokenizer
from safetensors.torch import save_file

from vlalign.data.packing.image_lists import leaves
from vlalign.errors import VlalignError
from vlalign.files import atomic_tensors, check_writable, read_json, write_json
from vlalign.models.averaging import averaging
from vlalign.models.folders import CONFIG, TEXT, check_files, load, read_config
from vlalign.models.lora import merge_lora
from vlalign.models.text import read_text
from vlalign.models.towers import DualEncoder, without_packages, without_weights
from vlalign.models.vision import read_image
from vlalign.models.weights import WEIGHTS
from vlalign.previous import RUN
from vlalign.records import read_record, stamps, write_record

CARD = "README.md"
# Probes for which open_clip and vlalign must agree.
PROBES = ["a photo of a dog", "two red cats above a green house"]
TOLERANCE, MOST_DIFFERENT = 1e-6, 1e-5


def save(encoder: DualEncoder, directory: str | Path) -> list[str]:
    """Write `model.safetensors` and `open_clip_config.json`: the folder is what open_clip's `local-dir:` schema
    reads. The config also says which of the embeddings are the same there.

    With adapters, which open_clip has not, it reads `load` alone; of towers whose weights lie elsewhere, it says where.

    Returns the names of all files that were written.
    """
    directory, names = Path(directory), [WEIGHTS, CONFIG]
    ours: dict[str, Any] = {"pooling": encoder.pooling}
    if encoder.adapters is None:
        ours["same_in_open_clip"] = same_in_open_clip(encoder)
    else:
        ours["adapters"] = encoder.adapters.params.relevant()
    if encoder.lora is not None:
        ours["lora"] = encoder.lora.model_dump(mode="json")
    if encoder.frozen is not None:
        file, expected, packages = encoder.frozen
        ours["frozen"] = packages if file is None else {"weights": os.path.relpath(file, directory), "stamp": expected}
    state = encoder.state_dict() if encoder.frozen is None else encoder.trained_state()
    weights = {name.removeprefix("clip."): value.detach().cpu().contiguous() for name, value in state.items()}
    with atomic_tensors(directory / WEIGHTS) as temporary:
        save_file(weights, temporary, metadata={"format": "pt"})
    if isinstance(encoder.tokenizer, HFTokenizer):
        # open_clip looks for it nowhere else.
        names += [Path(path).name for path in encoder.tokenizer.tokenizer.save_pretrained(str(directory))]
    if isinstance(encoder.clip.text, HFTextEncoder):
        # The architecture, for `load` on machines that do not have the folder or hub it came from.
        encoder.clip.text.config.save_pretrained(directory)
        names.append(TEXT)
    towers = without_packages(without_weights(encoder.config))
    config = {"model_cfg": towers, "preprocess_cfg": encoder.preprocess, "vlalign": ours}
    write_json(directory / CONFIG, config)
    return names


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


def export_model(directory: str | Path, output: str | Path) -> float:
    """Write a run, or another folder of a model, so that open_clip's own pooling gives its embeddings: with average
    pooling, its text tower gets a layer that averages (see `vlalign.models.averaging`). Adapters, which open_clip has
    not, get their frozen towers beside them, for `load`.

    The new folder is a run's as well, which can be evaluated and pushed, if the old one is.
    Returns the largest difference of an embedding on some captions.
    Raises VlalignError where open_clip has no such pooling, when embeddings are not finite or differ, and when `output`
    is not empty or cannot be written to.
    """
    directory, output = Path(str(directory).removeprefix("local-dir:")), Path(output)
    check_writable(output)
    if output.exists() and any(output.iterdir()):
        raise VlalignError(f"{output} is not empty; give a new folder")
    encoder = load(directory)
    plain, difference = encoder, 0.0
    if encoder.adapters is None:
        plain, difference = _in_open_clip(encoder, directory)
    # Frozen towers come along, as they were changed.
    encoder.frozen = None
    if encoder.lora is not None:
        merge_lora(encoder.clip.text)
        encoder.lora = None
    names = save(plain, output)
    config = read_json(output / CONFIG)
    if encoder.adapters is None:
        config["vlalign"]["averages"] = encoder.pooling == "average"
    write_json(output / CONFIG, config)
    if (directory / RUN).is_file():
        write_record(output / RUN, {**read_record(directory / RUN), "files": stamps(output, names)})
    return difference


def _in_open_clip(encoder: DualEncoder, directory: Path) -> tuple[DualEncoder, float]:
    """An encoder of equal embeddings whose towers pool by themselves, and how far it is from equal."""
    same = same_in_open_clip(encoder)
    if not same["image"]:
        raise VlalignError(f"{directory}: open_clip has no average pooling for this image tower")
    plain = encoder if same["text"] else averaging(encoder)
    ids = encoder.tokenizer([*PROBES, "", " ".join(PROBES * encoder.context_length)])
    with torch.no_grad():
        found_CD, expected_CD = (one.encode_text(ids).embedding_CD for one in (plain, encoder))
    if not expected_CD.isfinite().all():
        raise VlalignError(f"{directory}: its embeddings are not finite, so it is of no use; its training diverged")
    difference = (found_CD - expected_CD).abs().max().item()
    # What is not finite is no larger than anything.
    if not difference <= MOST_DIFFERENT:
        raise VlalignError(
            f"{directory}: with a layer that averages, its embeddings in open_clip differ by {difference:.1g}; its "
            "weights are too large for single precision"
        )
    return plain, difference


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
    check_files(directory, directory / WEIGHTS)
    if "frozen" in read_config(directory).get("vlalign", {}):
        raise VlalignError(
            f"{directory} holds adapters alone, and nobody else has their towers: run `vlalign export-model` on it, "
            "evaluate the new folder, and push that"
        )
    added = []
    for name in sorted({*read_record(directory / RUN).get("files", {}), RUN, CARD}):
        path = directory / name
        if leaves(path, directory):
            raise VlalignError(f"{path} is a link that leads out of the run's folder; put the file itself there")
        added.append(CommitOperationAdd(HF_SAFE_WEIGHTS_NAME if name == WEIGHTS else name, str(path)))
    address = api.create_repo(repository, private=private, exist_ok=True)
    api.create_commit(repository, added, commit_message="Add model")
    return str(address)
