import contextlib
import json
import os
import re

import pytest

from vlalign import records
from vlalign.errors import VlalignError
from vlalign.records import check_file, check_record, read_record, stamp, stamps, write_record

CONTENT = {"b": [1, -0.5, 1e-7, None, True], "a": {"é": "Ümlaut \n\u2028", "c": {}}, "z": "", "big": 2**70}
REMEDY = "bake it again"


def flips(content):
    """All contents that one flipped bit gives."""
    for position in range(8 * len(content)):
        flipped = bytearray(content)
        flipped[position // 8] ^= 1 << position % 8
        yield bytes(flipped)


@pytest.fixture
def folder(tmp_path):
    """Two files and the record that vouches for them."""
    (tmp_path / "below").mkdir()
    (tmp_path / "below" / "b.bin").write_bytes(bytes(range(16)))
    (tmp_path / "a.txt").write_text("some text")
    write_record(tmp_path / "record.json", {"files": stamps(tmp_path, ["below/b.bin", "a.txt"])})
    return tmp_path


@pytest.fixture
def hashed(monkeypatch):
    """The paths that were hashed, in order."""
    paths = []
    monkeypatch.setattr(records, "stamp", lambda path: paths.append(path) or stamp(path))
    return paths


@pytest.mark.parametrize("content", [{}, CONTENT, {"files": {}}])
def test_what_is_written_is_read(tmp_path, content):
    write_record(tmp_path / "record.json", content)
    assert read_record(tmp_path / "record.json") == content
    assert set(json.loads((tmp_path / "record.json").read_text())) == {*content, "$sha256"}


def test_equal_contents_give_equal_bytes_and_layout_does_not_matter(tmp_path):
    write_record(tmp_path / "a.json", CONTENT)
    write_record(tmp_path / "b.json", dict(reversed(CONTENT.items())))
    assert (tmp_path / "a.json").read_bytes() == (tmp_path / "b.json").read_bytes()
    (tmp_path / "a.json").write_text(json.dumps(json.loads((tmp_path / "a.json").read_text())))
    assert read_record(tmp_path / "a.json") == CONTENT


def test_a_flipped_bit_of_a_record_is_refused_or_changes_nothing(tmp_path):
    file = tmp_path / "record.json"
    write_record(file, CONTENT)
    harmless = 0
    for flipped in flips(file.read_bytes()):
        file.write_bytes(flipped)
        with contextlib.suppress(VlalignError):
            assert read_record(file) == CONTENT
            harmless += 1
    assert harmless == 1, "1e-07 may become 1E-07"


def test_a_flipped_bit_of_a_file_is_refused(folder):
    file = folder / "below" / "b.bin"
    content = file.read_bytes()
    for flipped in flips(content):
        file.write_bytes(flipped)
        with pytest.raises(VlalignError, match=r"b\.bin is not the file that .*record\.json describes"):
            check_record(folder / "record.json")
    file.write_bytes(content)
    assert set(check_record(folder / "record.json")["files"]) == {"a.txt", "below/b.bin"}


@pytest.mark.parametrize(
    ("damage", "message"),
    [
        (lambda text: text.replace("-0.5", "0.5"), "was changed or damaged after it was written; bake it again$"),
        (lambda text: text.replace('"z"', '"y"'), "was changed or damaged after it was written; bake it again$"),
        (lambda text: text.replace("{", '{"new": 1,', 1), "was changed or damaged after it was written"),
        (lambda text: re.sub('256": ".', '256": "', text), "was changed or damaged after it was written"),
        (lambda text: re.sub('256": ".*"', '256": 3', text), "was changed or damaged after it was written"),
        (lambda text: re.sub('256": ".*"', '256": null', text), r"has no key `\$sha256`"),
        (lambda text: text.replace("$sha256", "sha"), r"has no key `\$sha256`: another program or .*; bake it again$"),
        (lambda text: "{}", r"has no key `\$sha256`"),
        (lambda text: f"[{text}]", r"is no record: it holds list, not an object; bake it again$"),
        (lambda text: '"text"', r"is no record: it holds str, not an object"),
        (lambda text: "null", r"is no record: it holds NoneType, not an object"),
    ],
)
def test_a_record_that_is_not_as_it_was_written_is_refused(tmp_path, damage, message):
    file = tmp_path / "record.json"
    write_record(file, CONTENT)
    before = file.read_text()
    file.write_text(damage(before))
    assert file.read_text() != before
    with pytest.raises(VlalignError, match=rf"record\.json {message}"):
        read_record(file, remedy=REMEDY)


@pytest.mark.parametrize("text", ["", "{", '{"a": 1, "a": 1}', '{"a": NaN}'])
def test_what_is_not_strict_json_is_refused(tmp_path, text):
    (tmp_path / "record.json").write_text(text)
    with pytest.raises(VlalignError, match=r"record\.json is not valid JSON"):
        read_record(tmp_path / "record.json")


def test_a_missing_record_is_named(tmp_path):
    for read in (read_record, check_record):
        with pytest.raises(VlalignError, match=r"record\.json does not exist"):
            read(tmp_path / "record.json")


def test_a_content_that_json_does_not_know_is_not_written(tmp_path):
    with pytest.raises(ValueError, match="not JSON compliant"):
        write_record(tmp_path / "record.json", {"loss": float("nan")})
    assert list(tmp_path.iterdir()) == []


def test_the_first_file_that_differs_is_named_with_record_and_remedy(folder):
    (folder / "a.txt").write_text("some test")
    (folder / "below" / "b.bin").unlink()
    with pytest.raises(VlalignError, match=r"a\.txt is not the file that .*record\.json describes.*; bake it again$"):
        check_record(folder / "record.json", remedy=REMEDY)
    (folder / "a.txt").write_text("some text")
    with pytest.raises(VlalignError, match=r"b\.bin is named in .*record\.json but cannot be read .*; bake it again$"):
        check_record(folder / "record.json", remedy=REMEDY)


@pytest.mark.parametrize("content", [b"", b"some tex", b"some text and more"])
def test_another_length_is_noticed_without_hashing(folder, hashed, content):
    expected = stamps(folder, ["a.txt"])["a.txt"]
    hashed.clear()
    (folder / "a.txt").write_bytes(content)
    with pytest.raises(VlalignError, match=r"a\.txt is not the file"):
        check_file(folder / "a.txt", expected, record=folder / "record.json", remedy=REMEDY)
    assert hashed == []


def test_a_folder_in_place_of_a_file_is_named(folder):
    expected = stamp(folder / "a.txt") | {"bytes": (folder / "below").stat().st_size}
    with pytest.raises(VlalignError, match=r"below is named in .* but is no file"):
        check_file(folder / "below", expected, record=folder / "record.json", remedy=REMEDY)


def test_a_file_is_hashed_once_in_a_process_as_long_as_it_stays_the_same(folder, hashed):
    for _ in range(3):
        check_record(folder / "record.json")
    assert hashed == [folder / "a.txt", folder / "below" / "b.bin"]


def test_a_file_that_changes_is_hashed_again(folder, hashed):
    file, status = folder / "a.txt", (folder / "a.txt").stat()
    check_record(folder / "record.json")
    file.write_text("some test")
    os.utime(file, ns=(status.st_atime_ns, status.st_mtime_ns + 1))
    hashed.clear()
    for _ in range(2):
        with pytest.raises(VlalignError, match=r"a\.txt is not the file"):
            check_record(folder / "record.json")
    assert hashed == [file, file], "what is wrong is not remembered"
    file.write_text("some text")
    os.utime(file, ns=(status.st_atime_ns, status.st_mtime_ns + 2))
    check_record(folder / "record.json")
    assert hashed == [file] * 3


def test_a_file_that_was_checked_is_compared_with_another_stamp(folder):
    record, expected = folder / "record.json", stamp(folder / "a.txt")
    check_file(folder / "a.txt", expected, record=record, remedy=REMEDY)
    with pytest.raises(VlalignError, match=r"a\.txt is not the file"):
        check_file(folder / "a.txt", {**expected, "sha256": "0" * 64}, record=record, remedy=REMEDY)
