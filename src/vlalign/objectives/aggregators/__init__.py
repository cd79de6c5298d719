"""Aggregators, one in each module; see `vlalign.objectives.aggregator` for what one is, and CONTRIBUTING.md."""
