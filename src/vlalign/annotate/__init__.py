"""Phrases and regions: what the images and captions are annotated with before training."""
