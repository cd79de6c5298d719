"""Regions of images: object masks, segments and random boxes."""
