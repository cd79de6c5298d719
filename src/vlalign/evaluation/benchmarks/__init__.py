"""Benchmarks, one in each module; see `vlalign.evaluation.benchmark` for what one is, and CONTRIBUTING.md."""
