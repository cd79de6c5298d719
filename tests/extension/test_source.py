"""A new source is one file: it is in the schema, is checked, and the workflow brings it."""

import json

import pytest
from documentation import block
from own_files import pictures
from repository import new_repository

from vlalign.data.shards.split import read_split

pytestmark = pytest.mark.slow

# As the guide has it.
PLUGIN = block("docs/source.md", "class LinesSource(")
MANIFEST = "data/mine/train/manifest.json"


@pytest.fixture(scope="module")
def repository(tmp_path_factory):
    """A clone with one file more, some pictures, and params that name it."""
    repository = new_repository(tmp_path_factory.mktemp("source"))
    (repository.root / "src/vlalign/data/sources/lines.py").write_text(PLUGIN)
    pictures(repository.root / "mine", *(f"{number}.png" for number in range(6)))
    rows = [{"path": f"{number}.png", "texts": [f"picture {number}", "a picture"]} for number in range(6)]
    (repository.root / "mine/pictures.jsonl").write_text("".join(f"{json.dumps(row)}\n" for row in rows))
    train = {"source": "lines", "file": "mine/pictures.jsonl", "shard_size": 4}
    held_out = {**train, "part": [0.0, 1.0]}
    mine = {"train": train, "validation": held_out, "test": held_out}
    repository.set_params({"dataset": "mine", "datasets": {"mine": mine}})
    return repository


def test_its_params_are_in_the_schema(repository):
    schema = json.loads(repository.run("vlalign", "schema"))
    assert schema["$defs"]["LinesSource"]["properties"]["file"]["type"] == "string"
    assert schema["$defs"]["SplitsParams"]["properties"]["train"]["discriminator"]["mapping"]["lines"]


def test_what_it_names_is_looked_for(repository, tmp_path):
    assert "clip" in repository.run("vlalign", "validate", "params.yaml")
    overlay = tmp_path / "overlay.yaml"
    for source, message in (
        ({"file": "mine/none.jsonl"}, "datasets.mine.train.file: "),
        ({"fill": "mine/pictures.jsonl"}, "datasets.mine.train.fill: unknown key"),
    ):
        overlay.write_text(json.dumps({"datasets": {"mine": {"train": source}}}))
        result = repository.attempt("vlalign", "validate", "params.yaml", overlay)
        assert result.returncode == 1
        assert message in result.stdout


def test_the_workflow_brings_it_and_sees_its_file_change(repository):
    repository.run("snakemake", "--cores", "1", MANIFEST)
    samples = list(read_split(repository.root / "data/mine/train"))
    assert [sample.captions for sample in samples] == [(f"picture {number}", "a picture") for number in range(6)]
    assert len(list((repository.root / "data/mine/train").glob("*.tar"))) == 2
    assert "Nothing to be done" in repository.run("snakemake", "--dry-run", MANIFEST)
    lines = (repository.root / "mine/pictures.jsonl").read_text()
    (repository.root / "mine/pictures.jsonl").write_text(lines.replace("picture 5", "the last"))
    repository.run("snakemake", "--cores", "1", MANIFEST)
    *_, last = read_split(repository.root / "data/mine/train")
    assert last.captions == ("the last", "a picture")
