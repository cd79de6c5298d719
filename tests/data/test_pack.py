import errno
import io
import json
import os
import shutil
import tarfile
from pathlib import Path

import pytest
import webdataset
from own_files import picture, pictures, table_source, write_csv
from PIL import Image

from vlalign.data.packing import pack as packing
from vlalign.data.packing.pack import pack
from vlalign.data.sources.folder import FolderSource
from vlalign.errors import VlalignError
from vlalign.records import read_record, stamp

NAMES = ("b.png", "x/a.JPG", "c.webp", "d.gif", "e.tiff")


@pytest.fixture
def source(tmp_path):
    folder = tmp_path / "mine"
    pictures(folder, *NAMES)
    rows = [(name, f"{number} of {name}") for number in ("one", "two") for name in NAMES]
    return table_source(write_csv(folder / "table.csv", rows), shard_size=2)


def members(path):
    with tarfile.open(path) as tar:
        return {member.name: tar.extractfile(member).read() for member in tar}


def contents(folder):
    return {path.name: path.read_bytes() for path in folder.iterdir()}


def test_a_sample_is_the_files_own_bytes_its_captions_and_its_path(tmp_path, source):
    pack(source, tmp_path / "out")
    folder = Path(source.table).parent
    assert members(tmp_path / "out/000000.tar") == {
        "000000000.png": (folder / "b.png").read_bytes(),
        "000000000.txt": b"one of b.png\ntwo of b.png",
        "000000000.json": b'{"path": "b.png"}',
        "000000001.jpg": (folder / "x/a.JPG").read_bytes(),
        "000000001.txt": b"one of x/a.JPG\ntwo of x/a.JPG",
        "000000001.json": b'{"path": "x/a.JPG"}',
    }
    assert list(members(tmp_path / "out/000002.tar")) == ["000000004.tiff", "000000004.txt", "000000004.json"]


def test_packed_json_names_every_shard_and_what_was_asked_for(tmp_path, source):
    (tmp_path / "mine/c.webp").unlink()
    pack(source, tmp_path / "out")
    names = ["000000.tar", "000001.tar"]
    assert read_record(tmp_path / "out/shards.json") == {
        "shards": [{"name": name, **stamp(tmp_path / "out" / name)} for name in names],
        "skipped": {"missing file": {"count": 1, "first": ["c.webp"]}},
        "noted": {},
        "source": source.model_dump(mode="json"),
    }
    assert sorted(contents(tmp_path / "out")) == [*names, "shards.json"]


def test_webdataset_reads_what_was_packed(tmp_path, source):
    pack(source, tmp_path / "out")
    shards = [str(path) for path in sorted((tmp_path / "out").glob("*.tar"))]
    samples = list(webdataset.WebDataset(shards, shardshuffle=False))
    assert [sample["__key__"] for sample in samples] == [f"{number:09d}" for number in range(5)]
    assert [json.loads(sample["json"])["path"] for sample in samples] == list(NAMES)
    image = Image.open(io.BytesIO(samples[3]["gif"]))
    assert image.size == (9, 6)


def test_equal_files_give_equal_bytes_wherever_and_whenever(tmp_path, source):
    pack(source, tmp_path / "one")
    shutil.copytree(tmp_path / "mine", tmp_path / "copy", copy_function=shutil.copyfile)
    pack(table_source(tmp_path / "copy/table.csv", shard_size=2), tmp_path / "two")
    one, two = contents(tmp_path / "one"), contents(tmp_path / "two")
    assert len(one) == 4
    assert one.pop("shards.json") != two.pop("shards.json")
    assert one == two


def test_names_in_any_script_and_strange_bytes_come_back_from_the_path(tmp_path):
    strange = os.fsdecode(b"caf\xe9.png")
    pictures(tmp_path / "in", "犬/фото 1.png", f"犬/{strange}")
    os.mkfifo(tmp_path / "in" / "犬" / f"pipe{strange}")
    pack(FolderSource(source="folder", folder=str(tmp_path / "in")), tmp_path / "out")
    found = members(tmp_path / "out/000000.tar")
    paths = [json.loads(content)["path"] for name, content in found.items() if name.endswith("json")]
    assert paths == [f"犬/{strange}", "犬/фото 1.png"]
    assert read_record(tmp_path / "out/shards.json")["skipped"]["not a file"]["first"] == ["犬/pipecaf\\udce9.png"]


def test_classes_are_packed_with_their_names(tmp_path):
    pictures(tmp_path / "in", "black_dog/a.png", "cat/b.png")
    source = FolderSource(source="folder", folder=str(tmp_path / "in"))
    pack(source, tmp_path / "out")
    found = members(tmp_path / "out/000000.tar")
    assert [found[f"00000000{number}.cls"] for number in (0, 1)] == [b"0", b"1"]
    assert not any(name.endswith("txt") for name in found)
    assert (tmp_path / "out/classnames.txt").read_text() == "black dog\ncat\n"
    assert (tmp_path / "out/zeroshot_classification_templates.txt").read_text() == "a photo of a {c}\n"


def test_what_an_earlier_packing_left_is_removed(tmp_path, source):
    pack(source, tmp_path / "out")
    (tmp_path / "out/.000000.tar.abc.tmp").write_text("half")
    (tmp_path / "out/others.tar").write_text("somebody's")
    pack(source.model_copy(update={"shard_size": 4}), tmp_path / "out")
    assert sorted(contents(tmp_path / "out")) == ["000000.tar", "000001.tar", "others.tar", "shards.json"]
    (tmp_path / "out/others.tar").unlink()
    pictures(tmp_path / "in", "dog/a.png")
    pack(FolderSource(source="folder", folder=str(tmp_path / "in")), tmp_path / "out")
    pack(source, tmp_path / "out")
    assert sorted(contents(tmp_path / "out")) == [*(f"00000{index}.tar" for index in range(3)), "shards.json"]


def vanishing(monkeypatch, *names, code=errno.ENOENT):
    read = Path.read_bytes

    def read_bytes(path):
        if path.name in names:
            raise OSError(code, "gone")
        return read(path)

    monkeypatch.setattr(Path, "read_bytes", read_bytes)


@pytest.mark.parametrize(
    ("code", "cause"),
    [(errno.ENOENT, "missing file"), (errno.EACCES, "unreadable file"), (errno.EIO, "unreadable file")],
)
def test_files_that_vanish_between_listing_and_packing_are_counted(tmp_path, source, monkeypatch, code, cause):
    vanishing(monkeypatch, "b.png", code=code)
    pack(source, tmp_path / "out")
    assert next(iter(members(tmp_path / "out/000000.tar"))) == "000000001.jpg"
    assert read_record(tmp_path / "out/shards.json")["skipped"] == {cause: {"count": 1, "first": ["b.png"]}}


def test_a_shard_that_lost_all_its_files_is_not_written(tmp_path, source, monkeypatch):
    vanishing(monkeypatch, "b.png", "a.JPG")
    pack(source, tmp_path / "out")
    shards = read_record(tmp_path / "out/shards.json")["shards"]
    assert [shard["name"] for shard in shards] == ["000000.tar", "000001.tar"]
    assert next(iter(members(tmp_path / "out/000000.tar"))) == "000000002.webp"
    vanishing(monkeypatch, *(Path(name).name for name in NAMES))
    with pytest.raises(VlalignError, match="no image is left"):
        pack(source, tmp_path / "other")
    assert list((tmp_path / "other").iterdir()) == []


class Killed(BaseException):
    pass


def killed_after(monkeypatch, count):
    """The next packing ends with a kill while it writes its shard number `count`; returns the written shards."""
    written, write = [], packing.write_tar

    def write_tar(path, members):
        write(path, members)
        if len(written) == count:
            raise Killed
        written.append(path.name[1:11])

    monkeypatch.setattr(packing, "write_tar", write_tar)
    return written


def pack_and_kill(source, folder, monkeypatch, *, after, vanished=()):
    with monkeypatch.context() as patch:
        vanishing(patch, *vanished)
        killed_after(patch, after)
        with pytest.raises(Killed):
            pack(source, folder)


def test_a_packing_that_was_killed_goes_on_where_it_stopped(tmp_path, source, monkeypatch):
    pack(source, tmp_path / "whole")
    pack_and_kill(source, tmp_path / "out", monkeypatch, after=2)
    assert sorted(contents(tmp_path / "out")) == ["000000.tar", "000001.tar", "packing.jsonl"]
    written = killed_after(monkeypatch, 9)
    pack(source, tmp_path / "out")
    assert written == ["000002.tar"]
    assert contents(tmp_path / "out") == contents(tmp_path / "whole")


@pytest.mark.parametrize("change", ["file", "caption", "earlier image", "tar", "log"])
def test_what_changed_since_the_kill_is_packed_again(tmp_path, source, monkeypatch, change):
    pack_and_kill(source, tmp_path / "out", monkeypatch, after=2)
    table = Path(source.table)
    if change == "file":
        picture(table.parent / "c.webp", seed=9)
    elif change == "caption":
        table.write_text(table.read_text().replace("one of c.webp", "ten of c.webp"))
    elif change == "earlier image":
        table.write_text(table.read_text().replace("b.png", "none.png"))
    elif change == "tar":
        tar = tmp_path / "out/000001.tar"
        tar.write_bytes(tar.read_bytes()[:-1] + b"x")
    else:
        log = tmp_path / "out/packing.jsonl"
        log.write_text(log.read_text()[:-20])
    written = killed_after(monkeypatch, 9)
    pack(source, tmp_path / "out")
    expected = ["000001.tar", "000002.tar"] if change != "earlier image" else ["000000.tar", "000001.tar"]
    assert written == expected
    pack(source, tmp_path / "whole")
    assert contents(tmp_path / "out") == contents(tmp_path / "whole")


def test_a_log_that_was_torn_twice_still_counts_for_the_whole_lines(tmp_path, source, monkeypatch):
    for _ in range(2):
        pack_and_kill(source, tmp_path / "out", monkeypatch, after=1)
        with open(tmp_path / "out/packing.jsonl", "a") as log:
            log.write('\n{"torn')
    written = killed_after(monkeypatch, 9)
    pack(source, tmp_path / "out")
    assert written == ["000002.tar"]


def test_a_shard_without_its_files_is_packed_again_when_they_are_back(tmp_path, source, monkeypatch):
    pack_and_kill(source, tmp_path / "out", monkeypatch, after=2, vanished=["b.png"])
    pack(source, tmp_path / "out")
    assert "000000000.png" in members(tmp_path / "out/000000.tar")


def test_keys_do_not_depend_on_what_an_earlier_packing_lost(tmp_path, source, monkeypatch):
    pack_and_kill(source, tmp_path / "out", monkeypatch, after=2, vanished=["b.png", "a.JPG"])
    for name in ("b.png", "x/a.JPG"):
        (tmp_path / "mine" / name).unlink()
    for folder in ("out", "whole"):
        pack(source, tmp_path / folder)
    assert contents(tmp_path / "out") == contents(tmp_path / "whole")


def test_nothing_vouches_for_a_packing_that_failed(tmp_path, source):
    pack(source, tmp_path / "out")
    Path(source.table).write_text("image,caption\n")
    with pytest.raises(VlalignError, match="no row that names an image"):
        pack(source, tmp_path / "out")
    assert not (tmp_path / "out/shards.json").exists()


def test_a_full_disk_and_a_folder_that_is_none_are_named(tmp_path, source, monkeypatch):
    (tmp_path / "file").write_text("x")
    with pytest.raises(VlalignError, match=r"file is no folder"):
        pack(source, tmp_path / "file/out")

    def full(path, members):
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr(packing, "write_tar", full)
    with pytest.raises(VlalignError, match=r"out cannot be written .*No space left on device.* run again"):
        pack(source, tmp_path / "out")
    assert list((tmp_path / "out").iterdir()) == []


def test_images_are_held_in_memory_one_at_a_time(tmp_path, source, monkeypatch):
    events, read, add = [], Path.read_bytes, tarfile.TarFile.addfile
    monkeypatch.setattr(Path, "read_bytes", lambda path: events.append("read") or read(path))
    monkeypatch.setattr(tarfile.TarFile, "addfile", lambda *arguments: events.append("add") or add(*arguments))
    pack(source.model_copy(update={"shard_size": 100}), tmp_path / "out")
    assert events == ["read", "add", "add", "add"] * 5
