"""`vlalign dataset`."""

from vlalign.cli.options import Changes, Digest, OwnOutput, ParamsFiles, given
from vlalign.errors import VlalignError


def dataset(
    changes: Changes = None, params: ParamsFiles = None, output: OwnOutput = None, digest: Digest = None
) -> None:
    """Make the embedded dataset: shards, zero-shot set, hard negatives, contact sheet."""
    from vlalign.data.scenes import dataset as scenes
    from vlalign.params import ScenesParams

    told = given(params, changes).agree(digest, "dataset")
    if not isinstance(told.params.data, ScenesParams):
        raise VlalignError(
            f"the dataset {told.params.dataset} is not the embedded one; `vlalign shards` brings its splits"
        )
    scenes.build(told.output(output, told.folders.data), told.params.data)
