import math

import pytest

from vlalign.errors import VlalignError
from vlalign.files import atomic_write, read_json, write_json, write_text


def names(folder):
    return sorted(path.name for path in folder.iterdir())


def test_a_file_appears_with_its_folders(tmp_path):
    target = tmp_path / "a" / "b.txt"
    with atomic_write(target) as temporary:
        assert temporary.parent == target.parent, "a move within one folder is atomic"
        temporary.write_text("new")
        assert not target.exists()
    assert target.read_text() == "new"
    assert names(target.parent) == ["b.txt"]


def test_an_error_inside_leaves_the_old_content_and_nothing_else(tmp_path):
    target = tmp_path / "b.txt"
    write_text(target, "old")

    def fail():
        with atomic_write(target) as temporary:
            temporary.write_text("half")
            raise RuntimeError

    with pytest.raises(RuntimeError):
        fail()
    assert target.read_text() == "old"
    assert names(tmp_path) == ["b.txt"]


def test_others_may_read_the_file(tmp_path):
    write_text(tmp_path / "b.txt", "text")
    assert (tmp_path / "b.txt").stat().st_mode & 0o777 == 0o644


def test_equal_values_give_equal_bytes(tmp_path):
    write_json(tmp_path / "a.json", {"b": 1, "a": [0.1, "é"]})
    write_json(tmp_path / "b.json", {"a": [0.1, "é"], "b": 1})
    assert (tmp_path / "a.json").read_bytes() == (tmp_path / "b.json").read_bytes()
    assert read_json(tmp_path / "a.json") == {"a": [0.1, "é"], "b": 1}


@pytest.mark.parametrize("value", [math.nan, math.inf])
def test_numbers_that_json_does_not_know_are_refused(tmp_path, value):
    with pytest.raises(ValueError, match="not JSON compliant"):
        write_json(tmp_path / "a.json", {"loss": value})
    assert names(tmp_path) == []


def test_a_missing_file_is_named(tmp_path):
    with pytest.raises(VlalignError, match=r"absent\.json does not exist"):
        read_json(tmp_path / "absent.json")


def test_a_broken_file_is_named(tmp_path):
    (tmp_path / "broken.json").write_text('{"a": ')
    with pytest.raises(VlalignError, match=r"broken\.json is not valid JSON"):
        read_json(tmp_path / "broken.json")
