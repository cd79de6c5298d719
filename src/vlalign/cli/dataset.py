"""`vlalign dataset`."""

from vlalign import params as parameters
from vlalign.cli.options import Config, Output, values


def dataset(config: Config, output: Output) -> None:
    """Make the embedded dataset: shards, zero-shot set, hard negatives, contact sheet."""
    from vlalign.data import scenes

    scenes.build(output, parameters.ScenesParams.model_validate(values(config)))
