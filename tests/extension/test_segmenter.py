"""A new segmenter is one file: it is in the schema, is checked, and the workflow annotates with it."""

import json

import numpy as np
import pytest
from own_files import pictures, write_csv
from repository import new_repository

from vlalign.annotate.regions.annotation import RegionFile

pytestmark = pytest.mark.slow

PLUGIN = '''
"""Squares of a fixed grid."""

from typing import Literal

from vlalign.params.annotate import SegmentFilters
from vlalign.params.base import Few


class TileSegments(SegmentFilters):
    """Tiles of equal sides, whatever the picture shows."""

    segmenter: Literal["tiles"]
    rows: Few = 2

    def load(self, *, side, device="auto"):
        """See Segmenter."""
        import numpy as np

        from vlalign.annotate.regions.masks import grid_shape
        from vlalign.annotate.regions.segments import select

        def masks(image):
            height, width = grid_shape(image.height, image.width, side=side)
            rows, columns = np.arange(height) * self.rows // height, np.arange(width) * self.rows // width
            tiles = rows[:, None] * self.rows + columns == np.arange(self.rows**2)[:, None, None]
            return select(tiles, np.ones(len(tiles)), self)

        return lambda images: [masks(image) for image in images]
'''
MANIFEST = "data/annotations/mine/regions/train/manifest.json"
SEGMENTS = {"segmenter": "tiles", "rows": 3, "count": 16, "min_area": 0.005}


@pytest.fixture(scope="module")
def repository(tmp_path_factory):
    """A clone with one file more, some pictures, and params that name it."""
    repository = new_repository(tmp_path_factory.mktemp("segmenter"))
    (repository.root / "src/vlalign/annotate/regions/segmenters/tiles.py").write_text(PLUGIN)
    names = [f"{number}.png" for number in range(4)]
    pictures(repository.root / "mine", *names)
    write_csv(repository.root / "mine/captions.csv", [(name, "a picture") for name in names])
    table = {"source": "table", "table": "mine/captions.csv"}
    repository.set_params(
        {
            "dataset": "mine",
            "datasets": {"mine": {"train": table, "validation": table, "test": table}},
            "annotate": {"regions": {"segments": SEGMENTS}},
        }
    )
    return repository


def test_its_params_are_in_the_schema(repository):
    schema = json.loads(repository.run("vlalign", "schema"))
    assert schema["$defs"]["TileSegments"]["properties"]["rows"]["default"] == 2
    segments = schema["$defs"]["RegionsParams"]["properties"]["segments"]
    assert segments["discriminator"]["mapping"]["tiles"]


def test_mistakes_in_its_params_are_named(repository, tmp_path):
    assert "clip" in repository.run("vlalign", "validate", "params.yaml")
    overlay = tmp_path / "overlay.yaml"
    overlay.write_text(json.dumps({"annotate": {"regions": {"segments": {"rows": 0}}}}))
    result = repository.attempt("vlalign", "validate", "params.yaml", overlay)
    assert result.returncode == 1
    assert "annotate.regions.segments.rows: " in result.stdout


def test_the_workflow_annotates_with_it(repository):
    repository.run("snakemake", "--cores", "1", MANIFEST)
    file = RegionFile(repository.root / "data/annotations/mine/regions/train/000000.arrow")
    assert len(file) == 4
    masks = file[0].masks()
    assert masks.shape == (9, 6, 9)
    assert np.array_equal(masks.sum(0), np.ones((6, 9)))
    assert {int(mask.sum()) for mask in masks} == {6}
