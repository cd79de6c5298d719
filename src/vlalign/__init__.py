"""Fine-grained and distributional vision-language alignment: PowerCLIP and CS-Aligner in one workflow."""

__version__ = "0.1.0"
