"""Towers with token features in the joint space, and their export."""

from vlalign.models.towers import DualEncoder, ImageFeatures, TextFeatures, create, load, save

__all__ = ["DualEncoder", "ImageFeatures", "TextFeatures", "create", "load", "save"]
