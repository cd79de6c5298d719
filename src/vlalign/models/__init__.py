"""Towers with token features in the joint space, and their export."""

from vlalign.models.export import load, save, weights_file
from vlalign.models.towers import DualEncoder, ImageFeatures, TextFeatures, build, create, tower_config

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
