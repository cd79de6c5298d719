"""Samples on disk: the embedded dataset, shards with manifests, and pictures as tensors."""
