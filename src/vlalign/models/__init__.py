"""Towers with token features in the joint space, and their export."""

from vlalign.models.export import save
from vlalign.models.folders import load
from vlalign.models.towers import DualEncoder, ImageFeatures, TextFeatures, build, create, tower_config
from vlalign.models.weights import weights_file

__all__ = [
    "DualEncoder",
    "ImageFeatures",
    "TextFeatures",
    "build",
    "create",
    "load",
    "save",
    "tower_config",
    "weights_file",
]
