"""Encoders as folders that open_clip reads too."""

from pathlib import Path

import torch
import torch.nn.functional as F
from open_clip.tokenizer import HFTokenizer
from safetensors.torch import load_file, save_file

from vlalign.errors import VlalignError
from vlalign.files import atomic_write, read_json, write_json
from vlalign.models.towers import DualEncoder, create

WEIGHTS, CONFIG, TOKENIZER = "model.safetensors", "open_clip_config.json", "tokenizer_config.json"
# Probes for which open_clip and vlalign must agree.
PROBES = ["a photo of a dog", "two red cats above a green house"]
TOLERANCE = 1e-6


def save(encoder: DualEncoder, directory: str | Path) -> None:
    """Write `model.safetensors` and `open_clip_config.json`: the folder is what open_clip's `local-dir:` schema
    reads. The config also says which of the embeddings are the same there.
    """
    directory = Path(directory)
    weights = {name: value.detach().cpu().contiguous() for name, value in encoder.clip.state_dict().items()}
    with atomic_write(directory / WEIGHTS) as temporary:
        save_file(weights, temporary, metadata={"format": "pt"})
        temporary.chmod(0o644)  # safetensors puts a file of its own in the place of ours, for its owner alone
    if isinstance(encoder.tokenizer, HFTokenizer):
        # open_clip looks for it nowhere else.
        encoder.tokenizer.save_pretrained(str(directory))
    preprocess = {
        "mean": list(encoder.image_mean),
        "std": list(encoder.image_std),
        "size": encoder.image_size,
        "interpolation": "bicubic",
        "resize_mode": "shortest",
    }
    ours = {"pooling": encoder.pooling, "same_in_open_clip": same_in_open_clip(encoder)}
    write_json(directory / CONFIG, {"model_cfg": _offline(encoder), "preprocess_cfg": preprocess, "vlalign": ours})


def _offline(encoder: DualEncoder) -> dict:
    """Its config without other people's weights, which ours replace."""
    config = {name: dict(value) if isinstance(value, dict) else value for name, value in encoder.config.items()}
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
    theirs = {"image": encoder.read_image(pictures)[0], "text": encoder.read_text(tokens)[0]}
    encoder.train(training)
    return {name: torch.allclose(ours[name], F.normalize(theirs[name], dim=-1), atol=TOLERANCE) for name in ours}


def load(directory: str | Path) -> DualEncoder:
    """The encoder of a run in evaluation mode; raises VlalignError when the folder holds none."""
    directory = Path(directory)
    config = read_json(directory / CONFIG)
    if not (directory / WEIGHTS).is_file():
        raise VlalignError(f"{directory / WEIGHTS} does not exist; train the run first")
    if (directory / TOKENIZER).is_file():
        config["model_cfg"]["text_cfg"]["hf_tokenizer_name"] = str(directory)
    encoder = create(config["model_cfg"], pooling=config["vlalign"]["pooling"])
    encoder.image_mean, encoder.image_std = (tuple(config["preprocess_cfg"][name]) for name in ("mean", "std"))
    encoder.clip.load_state_dict(load_file(directory / WEIGHTS))
    return encoder.eval()
