"""Samples on disk: the embedded dataset, shards with manifests, and what turns them into batches."""
