import pyarrow as pa
import pytest

from vlalign.data.arrow import read_batch, read_metadata, row_of, write_batch
from vlalign.errors import VlalignError

ROWS = {"key": ["k1", "k0", "a/b.c"], "number": [1, 2, 3]}


@pytest.fixture
def path(tmp_path):
    batch = pa.record_batch(ROWS).replace_schema_metadata({b"inputs": b"abc"})
    write_batch(tmp_path / "x.arrow", batch)
    return tmp_path / "x.arrow"


def test_rows_and_metadata_come_back(path):
    batch = read_batch(path, manifest=path)
    assert batch.to_pydict() == ROWS
    assert batch.schema.metadata == read_metadata(path)
    assert read_metadata(path)[b"inputs"] == b"abc"


@pytest.mark.parametrize("content", [None, b"", b"ARROW1 nor Arrow", "half"])
def test_a_file_that_cannot_be_read_is_named_with_the_remedy(path, tmp_path, content):
    if content is None:
        path.unlink()
    else:
        path.write_bytes(path.read_bytes()[:100] if content == "half" else content)
    assert read_metadata(path) == {}
    with pytest.raises(VlalignError, match=r"x\.arrow cannot be read .*; delete .*manifest\.json and run"):
        read_batch(path, manifest=tmp_path / "manifest.json")


@pytest.mark.parametrize("likely", [0, 1, 2, 7])
def test_a_key_is_found_wherever_it_is(path, likely):
    keys = read_batch(path, manifest=path).column("key")
    assert [row_of(keys, key, likely=likely) for key in ROWS["key"]] == [0, 1, 2]
    assert row_of(keys, "k9", likely=likely) is None
