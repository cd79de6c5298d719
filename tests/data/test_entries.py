import itertools
import os
from types import SimpleNamespace

import pytest
from hypothesis import given
from hypothesis import strategies as st
from own_files import counts, listed, picture, pictures, table_source, write_csv
from rich.progress import Progress

from vlalign.data.packing.entries import entries, place
from vlalign.data.skipped import Skips
from vlalign.errors import VlalignError


def table(folder, *names, **options):
    return table_source(write_csv(folder / "table.csv", [(name, "dog") for name in names]), **options)


def names_of(source):
    return [name for name, _ in listed(source)[0]]


def test_entries_tell_where_the_file_is_and_when_it_changed(tmp_path):
    path = picture(tmp_path / "x/a.png")
    os.utime(path, ns=(1, 1_234_567_890_123_456_789))
    (entry,) = entries(table(tmp_path, "x/a.png"), Skips())
    assert (entry.name, entry.path, entry.captions, entry.label) == ("x/a.png", path, ("dog",), None)
    assert entry.changed == (path.stat().st_size, 1_234_567_890_123_456_789)


def test_every_kind_of_file_that_cannot_be_packed_is_counted_by_its_cause(tmp_path, monkeypatch):
    pictures(tmp_path, "good.png", "locked.png", "silent.png", "UPPER.JPG")
    (tmp_path / "folder.png").mkdir()
    (tmp_path / "file").write_text("x")
    (tmp_path / "loop.png").symlink_to("loop.png")
    os.mkfifo(tmp_path / "pipe.png")
    missing = ["gone.png", "file/a.png"]
    names = [
        "good.png",
        *missing,
        "locked.png",
        "folder.png",
        "pipe.png",
        "loop.png",
        "a\0b.png",
        "a.svg",
        "b",
        ".png",
        "UPPER.JPG",
    ]
    path = write_csv(tmp_path / "table.csv", [*((name, "dog") for name in names), ("silent.png", " ")])
    access = os.access
    monkeypatch.setattr(os, "access", lambda path, mode: path.name != "locked.png" and access(path, mode))
    found, skips = listed(table_source(path))
    assert [name for name, _ in found] == ["good.png", "UPPER.JPG"]
    assert {cause: entry["first"] for cause, entry in skips.items()} == {
        "missing file": missing,
        "unreadable file": ["locked.png", "loop.png"],
        "not a file": ["folder.png", "pipe.png"],
        "impossible path": ["a\0b.png"],
        "unsupported suffix": ["a.svg", "b", ".png"],
        "no caption": ["silent.png"],
    }


def test_names_that_are_too_long_are_counted(tmp_path):
    pictures(tmp_path, "a.png")
    found, skips = listed(table(tmp_path, "a.png", "x" * 1000 + ".png"))
    assert (len(found), counts(skips)) == (1, {"unreadable file": 1})


def test_files_may_lie_outside_the_folder(tmp_path):
    pictures(tmp_path, "other/a.png", "here/b.png")
    source = table(tmp_path / "here", "../other/a.png", "b.png", f"{tmp_path}/other/a.png")
    assert names_of(source) == ["../other/a.png", "b.png", f"{tmp_path}/other/a.png"]


@pytest.mark.parametrize("suffix", ["jpg", "jpeg", "png", "webp", "bmp", "gif", "tif", "tiff"])
def test_common_image_formats_are_taken_whatever_the_case_of_the_suffix(tmp_path, suffix):
    pictures(tmp_path, f"a.{suffix}", f"b.{suffix.upper()}")
    assert len(names_of(table(tmp_path, f"a.{suffix}", f"b.{suffix.upper()}"))) == 2


def test_the_place_of_an_image_is_the_one_that_other_programs_compute():
    # printf 'x/a.jpg' | sha256sum
    assert place("x/a.jpg") == pytest.approx(int("9734e2128262dc1d", 16) / 2**64, abs=2**-53)


@given(st.text(st.characters(), max_size=20))
def test_every_name_has_a_place(name):
    assert 0 <= place(name) < 1


def test_a_name_at_the_very_end_is_still_in_a_part(monkeypatch):
    monkeypatch.setattr("hashlib.sha256", lambda data: SimpleNamespace(digest=lambda: b"\xff" * 32))
    assert 0.999 < place("a.jpg") < 1


def test_places_are_spread_evenly():
    places = [place(f"train/{index:06d}.jpg") for index in range(10_000)]
    shares = [sum(low <= value < low + 0.1 for value in places) for low in (index / 10 for index in range(10))]
    # Five standard deviations of a binomial of 10,000 with a tenth.
    assert all(abs(share - 1000) < 150 for share in shares)


def test_parts_share_no_image_and_make_the_whole(tmp_path):
    names = [f"{index}.png" for index in range(300)]
    first = picture(tmp_path / names[0])
    for name in names[1:]:
        os.link(first, tmp_path / name)
    parts = [names_of(table(tmp_path, *names, part=part)) for part in ((0.0, 0.8), (0.8, 0.9), (0.9, 1.0))]
    assert sorted(itertools.chain(*parts)) == sorted(names)
    assert len(parts[0]) > 200
    assert [name for name in names if place(name) < 0.8] == parts[0]
    # Neither what else the table holds nor its order moves an image.
    assert sorted(names_of(table(tmp_path, *names[:50:-1], part=(0.8, 0.9)))) == sorted(set(parts[1]) - set(names[:51]))


def test_images_outside_the_part_are_neither_looked_at_nor_counted(tmp_path):
    names = [f"{index}.png" for index in range(40)]
    inside = [name for name in names if place(name) < 0.5]
    pictures(tmp_path, inside[0])
    _, skips = listed(table(tmp_path, *names, part=(0.0, 0.5)))
    assert counts(skips) == {"missing file": len(inside) - 1}


def test_nothing_left_says_what_was_skipped(tmp_path):
    with pytest.raises(VlalignError, match=r"no image is left of .*table\.csv.*2 missing file, first a\.png.*`part`"):
        listed(table(tmp_path, "a.png", "b.png"))
    with pytest.raises(VlalignError, match=r"'part': \[0\.0, 1e-06\].* skipped: nothing"):
        listed(table(tmp_path, "a.png", part=(0.0, 1e-6)))


def test_the_bar_counts_the_images_of_the_whole_source(tmp_path):
    names = [f"{index}.png" for index in range(20)]
    pictures(tmp_path, *names[:15])
    progress = Progress(disable=True)
    list(entries(table(tmp_path, *names, part=(0.0, 0.5)), Skips(), progress=progress))
    (task,) = progress.tasks
    assert (task.completed, task.total) == (20, 20)
