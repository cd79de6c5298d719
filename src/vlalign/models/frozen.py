"""What identifies frozen towers."""

import hashlib
from typing import Any

import torch

from vlalign.models.lora import TRAINED, WRAPPED
from vlalign.models.opened import described
from vlalign.models.towers import DualEncoder
from vlalign.params import digest


@torch.inference_mode()
def identity(encoder: DualEncoder) -> dict[str, Any]:
    """All that the features of frozen towers depend on beside the data: their weights by content, wherever they came
    from, what else they consist of, pooling and preprocessing; and the channels of packed features.
    """
    weights = hashlib.sha256()
    frozen = {name.replace(WRAPPED, ""): x for name, x in encoder.clip.state_dict().items() if TRAINED not in name}
    for name, value in sorted(frozen.items()):
        if not name.startswith("logit_"):
            weights.update(f"{name} {value.dtype} {list(value.shape)}\0".encode())
            weights.update(value.detach().cpu().contiguous().flatten().view(torch.uint8).numpy().data)
    assert encoder.adapters is not None
    return {
        "weights": weights.hexdigest(),
        "towers": digest(described(encoder)),
        "pooling": encoder.pooling,
        "preprocess": encoder.preprocess,
        "channels": {name: width + 1 for name, width in encoder.adapters.widths.items()},
    }
