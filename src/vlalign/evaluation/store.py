"""Features on disk, so that what was encoded once is not encoded again for another benchmark, or after a kill.

A file is named after all that its features depend on. Nothing else leads to it, so that none can be stale.
"""

import hashlib
import json
import logging
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from filelock import FileLock
from safetensors import SafetensorError, safe_open
from safetensors.torch import save_file
from torch import Tensor

from vlalign.files import atomic_tensors

logger = logging.getLogger(__name__)
NAME, CONTENT = "features", "sha256"


@dataclass(frozen=True)
class FeatureStore:
    """The features of one model. folder: where they lie, those of all models. model: all that they depend on beside the
    data: weights, towers, pooling, preprocessing, arithmetic and code, as plain values.
    """

    folder: Path
    model: Mapping[str, Any]

    def features(self, of: Mapping[str, Any], compute: Callable[[], Tensor]) -> Tensor:
        """Features [N, D], fp32: those on disk, or else what `compute` gives, which are kept.

        of: the data, as plain values, such as the SHA-256 of a manifest. Of several processes that want the same
        features one computes them, and the others wait. A damaged file is made again.
        """
        key = json.dumps({"model": dict(self.model), "of": dict(of)}, sort_keys=True)
        path = self.folder / f"{hashlib.sha256(key.encode()).hexdigest()}.safetensors"
        self.folder.mkdir(parents=True, exist_ok=True)
        with FileLock(path.with_suffix(".lock")):
            if path.is_file():
                try:
                    return _read(path)
                except (OSError, ValueError, SafetensorError) as error:
                    logger.warning("%s is made again: %s", path, error)
            found = compute().float().contiguous()
            with atomic_tensors(path) as temporary:
                save_file({NAME: found}, temporary, metadata={CONTENT: _digest(found)})
            return found


def _read(path: Path) -> Tensor:
    with safe_open(path, framework="pt") as file:
        found, expected = file.get_tensor(NAME), (file.metadata() or {}).get(CONTENT)
    if _digest(found) != expected:
        raise ValueError("its content is not what was written")
    return found


def _digest(features: Tensor) -> str:
    return hashlib.sha256(features.view(torch.uint8).numpy().data if len(features) else b"").hexdigest()
