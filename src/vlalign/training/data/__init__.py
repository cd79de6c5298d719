"""Annotated shards as training batches."""
