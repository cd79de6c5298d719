"""Figures, one in each module; see `vlalign.reporting.figure` for what one is, and CONTRIBUTING.md."""
