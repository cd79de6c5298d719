import os

import pytest
from own_files import counts, listed, pictures

from vlalign.data.sources.folder import FolderSource
from vlalign.errors import VlalignError


def source(folder, labels="classes", **options):
    return FolderSource(source="folder", folder=str(folder), labels=labels, **options)


def beside(folder, **captions):
    for name, text in captions.items():
        (folder / f"{name}.txt").write_bytes(text if isinstance(text, bytes) else text.encode())


def test_subfolders_are_the_classes_in_the_order_of_their_names(tmp_path):
    pictures(tmp_path, "dog/b.png", "dog/a.jpg", "cat/deep/er/c.PNG", "Zebra/d.webp")
    found, skips = listed(source(tmp_path))
    assert found == [("Zebra/d.webp", 0), ("cat/deep/er/c.PNG", 1), ("dog/a.jpg", 2), ("dog/b.png", 2)]
    assert skips == {}


def test_the_order_does_not_depend_on_the_disk(tmp_path, monkeypatch):
    pictures(tmp_path, *(f"{kind}/{number}.png" for kind in "ba" for number in (2, 10, 1)))
    expected = listed(source(tmp_path))
    scandir = os.scandir
    monkeypatch.setattr(os, "scandir", lambda path: list(scandir(path))[::-1])
    assert listed(source(tmp_path)) == expected
    assert [name for name, _ in expected[0]] == ["a/1.png", "a/10.png", "a/2.png", "b/1.png", "b/10.png", "b/2.png"]


def test_other_files_are_counted_companions_and_hidden_files_are_not(tmp_path):
    pictures(tmp_path, "dog/a.png", "loose.png")
    for name in ("dog/b.heic", "dog/c", "dog/d.txt", "dog/d.json", "dog/._a.png", "dog/.hidden.png", "README.md"):
        (tmp_path / name).write_text("x")
    (tmp_path / ".git").mkdir()
    found, skips = listed(source(tmp_path))
    assert found == [("dog/a.png", 0)]
    assert skips == {
        "in no class's folder": {"count": 1, "first": ["loose.png"]},
        "unsupported suffix": {"count": 2, "first": ["dog/b.heic", "dog/c"]},
    }


def test_captions_lie_beside_the_images(tmp_path):
    pictures(tmp_path, "a.png", "00000/b.jpg", "c.png", "d.png", "e.png")
    beside(tmp_path, a="one\n\n two \r\nthree\n", c=b"\xef\xbb\xbfbeginning", d=b"caf\xe9", f="of no image")
    beside(tmp_path / "00000", b="一只狗")
    found, skips = listed(source(tmp_path, "captions"))
    assert found == [("00000/b.jpg", ("一只狗",)), ("a.png", ("one", "two", "three")), ("c.png", ("beginning",))]
    assert counts(skips) == {"captions that are not in UTF-8": 1, "no caption": 1}
    assert skips["no caption"]["first"] == ["e.png"]


def test_captions_that_cannot_be_read_are_counted(tmp_path):
    pictures(tmp_path, "a.png", "b.png")
    beside(tmp_path, a="one")
    (tmp_path / "b.txt").mkdir()
    found, skips = listed(source(tmp_path, "captions"))
    assert (len(found), counts(skips)) == (1, {"unreadable captions": 1})


def test_links_are_followed_but_never_upwards(tmp_path):
    pictures(tmp_path, "all/a/1.png", "all/b/2.png", "elsewhere/3.png")
    (tmp_path / "all/a/up").symlink_to(tmp_path / "all")
    (tmp_path / "all/a/itself").symlink_to(tmp_path / "all/a/itself")
    (tmp_path / "all/a/gone.png").symlink_to(tmp_path / "all/nowhere")
    (tmp_path / "all/b/other").symlink_to(tmp_path / "all/a")
    found, skips = listed(source(tmp_path / "all"))
    assert found == [("a/1.png", 0), ("b/2.png", 1), ("b/other/1.png", 1)]
    assert counts(skips) == {"missing file": 2, "unsupported suffix": 2}


def test_links_out_of_the_folder_are_skipped(tmp_path):
    pictures(tmp_path, "all/a/1.png", "all/b/2.png", "elsewhere/3.png")
    (tmp_path / "all/a/gone.png").symlink_to(tmp_path / "nowhere")
    (tmp_path / "all/b/other").symlink_to(tmp_path / "elsewhere")
    (tmp_path / "all/c").symlink_to(tmp_path / "elsewhere")
    found, skips = listed(source(tmp_path / "all"))
    assert found == [("a/1.png", 0), ("b/2.png", 1)]
    assert counts(skips) == {"link that leads out of the folder": 3}


def test_folders_that_lead_to_each_other_end(tmp_path):
    pictures(tmp_path, "a/1.png", "b/2.png")
    (tmp_path / "a/x").symlink_to(tmp_path / "b")
    (tmp_path / "b/y").symlink_to(tmp_path / "a")
    found, _ = listed(source(tmp_path))
    assert found == [("a/1.png", 0), ("a/x/2.png", 0), ("b/2.png", 1), ("b/y/1.png", 1)]


def test_a_folder_that_cannot_be_entered_is_counted(tmp_path, monkeypatch):
    pictures(tmp_path, "dog/a.png", "dog/locked/b.png")
    scandir = os.scandir

    def refusing(path):
        if str(path).endswith("locked"):
            raise PermissionError
        return scandir(path)

    monkeypatch.setattr(os, "scandir", refusing)
    found, skips = listed(source(tmp_path))
    assert found == [("dog/a.png", 0)]
    assert skips == {"unreadable folder": {"count": 1, "first": ["dog/locked/"]}}


def test_names_that_are_not_in_utf8_are_listed(tmp_path):
    pictures(tmp_path, "dog/é 犬.png")
    strange = os.fsdecode(b"caf\xe9.png")
    os.rename(tmp_path / "dog/é 犬.png", tmp_path / "dog" / strange)
    assert listed(source(tmp_path))[0] == [(f"dog/{strange}", 0)]
    os.rename(tmp_path / "dog" / strange, tmp_path / "dog" / os.fsdecode(b"caf\xe9.heic"))
    pictures(tmp_path, "dog/a.png")
    assert listed(source(tmp_path))[1]["unsupported suffix"]["first"] == ["dog/caf\\udce9.heic"]


def test_folders_without_what_is_needed_are_named(tmp_path):
    with pytest.raises(VlalignError, match="missing is not a folder; correct `folder`"):
        listed(source(tmp_path / "missing"))
    with pytest.raises(VlalignError, match=r"has no images; correct `folder`"):
        listed(source(tmp_path, "captions"))
    pictures(tmp_path, "a.png")
    with pytest.raises(VlalignError, match=r"has no subfolders, .*labels: captions"):
        listed(source(tmp_path))
    pictures(tmp_path, "dog/a.png")
    (tmp_path / "cat").mkdir()
    (tmp_path / "bird").mkdir()
    (tmp_path / "bird/notes.txt").write_text("x")
    with pytest.raises(VlalignError, match=r"has 2 classes without images, first .*bird; fill or remove"):
        listed(source(tmp_path))


def test_class_names_are_written_as_clip_benchmark_reads_them(tmp_path):
    pictures(tmp_path, "in/tabby_cat/a.png", "in/Boston__bull/b.png")
    assert source(tmp_path / "in").files() == {
        "classnames.txt": "Boston bull\ntabby cat\n",
        "zeroshot_classification_templates.txt": "a photo of a {c}\n",
    }
    assert source(tmp_path / "in", "captions").files() == {}


def test_names_that_tell_nothing_apart_are_errors(tmp_path):
    pictures(tmp_path, "big_cat/a.png", "dog/a.png", "big cat/b.png")
    with pytest.raises(VlalignError, match="the class 'big cat' reads 'big cat', as another class does"):
        source(tmp_path).files()
