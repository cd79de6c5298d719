import json
import math
import os
import subprocess
import sys
from pathlib import Path

import pytest

from vlalign.errors import VlalignError
from vlalign.files import atomic_write, read_json, read_object, write_json, write_text

ROOT = Path(__file__).parents[1]


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


WRITE_UNDER_UMASKS = """
import json, os, sys
from vlalign.files import write_json
from vlalign.models import create, save
encoder = create(json.load(open(sys.argv[1])), pooling="average")
for umask in sys.argv[2:]:
    os.umask(int(umask, base=8))
    write_json(f"{umask}/deep/record.json", {})
    save(encoder, f"{umask}/model")
"""


@pytest.mark.slow
def test_files_and_folders_have_the_permissions_that_the_umask_leaves(tmp_path):
    """In a process of its own, since the umask is the process's."""
    expected = {"022": (0o644, 0o755), "077": (0o600, 0o700), "002": (0o664, 0o775)}
    command = [sys.executable, "-c", WRITE_UNDER_UMASKS, str(ROOT / "config" / "towers" / "test.json"), *expected]
    subprocess.run(command, cwd=tmp_path, check=True)
    for umask, modes in expected.items():
        files = [path for path in (tmp_path / umask).rglob("*") if path.is_file()]
        assert {path.name for path in files} == {"record.json", "model.safetensors", "open_clip_config.json"}
        assert {(mode(path), mode(path.parent)) for path in files} == {modes}


def mode(path):
    return path.stat().st_mode & 0o777


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


@pytest.mark.parametrize(
    ("content", "reason"),
    [
        ("{}".encode("utf-16"), "not text in UTF-8"),
        (b"\x00\xff\xfe\x80", "not text in UTF-8"),
        (b"[" * 100_000 + b"]" * 100_000, "nested too deeply"),
        (b'{"a": 1, "b": {"c": 1, "d": 2, "c": 3}}', "the key 'c' stands there twice"),
        (b'{"loss": NaN}', "NaN is no number"),
        (b"[-Infinity]", "-Infinity is no number"),
        (b"9" * 5000, "4300"),
        (b"", "Expecting value"),
    ],
    ids=["utf-16", "binary", "deep", "twice", "nan", "infinity", "digits", "empty"],
)
def test_a_file_that_is_not_json_is_named_with_reason_and_remedy(tmp_path, content, reason):
    (tmp_path / "odd.json").write_bytes(content)
    with pytest.raises(VlalignError, match=rf"odd\.json is not valid JSON \(.*{reason}.*\); delete it"):
        read_json(tmp_path / "odd.json")


def test_a_folder_in_place_of_a_file_is_named(tmp_path):
    with pytest.raises(VlalignError, match=r"is no file"):
        read_json(tmp_path)


@pytest.mark.skipif(os.geteuid() == 0, reason="root may read everything")
def test_a_file_without_permission_is_named(tmp_path):
    write_json(tmp_path / "closed.json", {})
    (tmp_path / "closed.json").chmod(0)
    with pytest.raises(VlalignError, match=r"closed\.json cannot be read \(Permission denied\)"):
        read_json(tmp_path / "closed.json")


@pytest.mark.parametrize("value", [[], [1], 1, None, "text"])
def test_a_record_is_an_object(tmp_path, value):
    (tmp_path / "run.json").write_text(json.dumps(value))
    with pytest.raises(VlalignError, match=r"run\.json holds no JSON object, but a \w+; delete it"):
        read_object(tmp_path / "run.json")
    (tmp_path / "run.json").write_text('{"a": 1}')
    assert read_object(tmp_path / "run.json") == {"a": 1}
