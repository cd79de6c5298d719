"""Benchmarks of a trained dual encoder: pure metric functions, the features that they share, and `run.evaluate`."""
