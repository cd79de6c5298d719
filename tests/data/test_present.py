"""Whether the files that params name are there, as `vlalign validate` tells."""

from pathlib import Path

import pytest
import yaml
from own_files import write_csv
from typer.testing import CliRunner

from vlalign import cli, params
from vlalign.data.source_checks import check_sources
from vlalign.errors import VlalignError

# Without the arms whose towers are files of the repository.
DEFAULTS = params.read(Path(__file__).parents[2] / "params.yaml") | {
    "model": {"tower": "ViT-B-32"},
    "arms": {"clip": {}},
    "runs": {"arms": ["clip"]},
    "ablations": [],
    "focus": "clip",
    "report": {"baseline": "clip", "control": "clip"},
}
TABLE = {"source": "table", "table": "pairs.csv"}


@pytest.fixture(autouse=True)
def _own_data(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    write_csv(tmp_path / "pairs.csv", [("a.jpg", "a dog")])
    (tmp_path / "pictures").mkdir()
    (tmp_path / "captions.json").write_text("{}")
    (tmp_path / "0.tar").write_bytes(b"")


def given(**sources):
    """The defaults with a dataset of one's own, of which some sources are others."""
    mine = dict.fromkeys(("train", "validation", "test"), TABLE) | sources
    return {**DEFAULTS, "dataset": "mine", "datasets": {"mine": mine}}


@pytest.mark.parametrize(
    ("sources", "message"),
    [
        ({"train": {**TABLE, "table": "none.csv"}}, "train.table: none.csv cannot be read"),
        ({"train": {**TABLE, "table": "pairs.xlsx"}}, "train.table: pairs.xlsx is not of a kind"),
        ({"train": {**TABLE, "image_column": "file"}}, "train.table: pairs.csv has no column 'file'"),
        ({"test": {**TABLE, "caption_columns": "title"}}, "test.table: pairs.csv has no column 'title'"),
        ({"test": {**TABLE, "where": {"fold": "1"}}}, "test.table: pairs.csv has no column 'fold'"),
        ({"train": {**TABLE, "images": "none"}}, "train.images: none is not a folder"),
        ({"zeroshot": {"test": {"source": "folder", "folder": "none"}}}, "zeroshot.test.folder: none is not a folder"),
        (
            {"unpaired": {"images": {"source": "shards", "shards": ["1.tar"]}}},
            "unpaired.images.shards: 1 of 1 shards are",
        ),
        ({"train": {"source": "img2dataset", "folder": "none"}}, "train.folder: none is not a folder"),
        (
            {"train": {"source": "coco", "annotations": "none", "images": "pictures"}},
            "train.annotations: none is not a",
        ),
        (
            {"train": {"source": "coco", "annotations": "captions.json", "images": "no"}},
            "train.images: no is not a folder",
        ),
        ({"train": {"source": "folder", "folder": "x" * 300, "labels": "captions"}}, "train.folder: "),
    ],
)
def test_what_is_missing_is_named_with_its_key(sources, message):
    with pytest.raises(VlalignError) as caught:
        check_sources(params.parse(given(**sources)))
    assert f"\ndatasets.mine.{message}" in str(caught.value)


@pytest.mark.parametrize(
    "source",
    [
        {**TABLE, "images": "pictures"},
        {"source": "shards", "shards": ["0.tar"]},
        {"source": "folder", "folder": "pictures", "labels": "captions"},
        {"source": "karpathy", "annotations": "captions.json", "images": "pictures", "splits": ["train"]},
        {"source": "hub", "repository": "a/b", "shards": ["*.tar"]},
    ],
)
def test_what_is_there_passes(source):
    check_sources(params.parse(given(train=source)))


def test_a_dataset_that_is_not_in_use_may_lie_elsewhere():
    elsewhere = given(train={**TABLE, "table": "none.csv"})
    datasets = {**DEFAULTS["datasets"], **elsewhere["datasets"]}
    check_sources(params.parse({**elsewhere, "datasets": datasets, "dataset": "scenes"}))


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"root": "pairs.csv/below"}, "root: pairs.csv/below cannot be made, since"),
        (
            {"datasets": {"mine": {"train": {"image_column": "file"}}}},
            "datasets.mine.train.table: pairs.csv has no column",
        ),
    ],
)
def test_validate_looks_for_the_data_and_at_the_root(tmp_path, change, message):
    (tmp_path / "params.yaml").write_text(yaml.safe_dump(given(), sort_keys=False))
    (tmp_path / "overlay.yaml").write_text(yaml.safe_dump(change))
    before = sorted(tmp_path.iterdir())
    assert CliRunner().invoke(cli.app, ["validate", "params.yaml"]).exit_code == 0
    result = CliRunner().invoke(cli.app, ["validate", "params.yaml", "overlay.yaml"])
    assert isinstance(result.exception, VlalignError)
    assert message in str(result.exception)
    assert sorted(tmp_path.iterdir()) == before
