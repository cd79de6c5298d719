import json
from collections import Counter

import pandas as pd
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from own_files import table_source, write_csv

from vlalign.data.packing import tables
from vlalign.data.packing.image_lists import captions_of
from vlalign.data.packing.table_rows import ROWS
from vlalign.data.packing.tables import list_table
from vlalign.data.skipped import Skips
from vlalign.errors import VlalignError


def read(path, **options):
    """{name: captions} of a table, in its order."""
    listing = list_table(table_source(path, **options), Skips())
    images = list(listing.images)
    assert listing.total == len(images) == len({image.name for image in images})
    return {image.name: image.captions for image in images}


def csv_of(tmp_path, text, name="table.csv"):
    (tmp_path / name).write_bytes(text if isinstance(text, bytes) else text.encode())
    return tmp_path / name


def test_rows_of_the_same_image_are_joined_in_order_wherever_they_are(tmp_path):
    rows = [("b.jpg", "one"), ("a.jpg", "two"), ("b.jpg", "three"), ("a.jpg", "four"), ("b.jpg", "one")]
    assert read(write_csv(tmp_path / "table.csv", rows)) == {"b.jpg": ("one", "three", "one"), "a.jpg": ("two", "four")}


def test_spellings_of_one_path_are_one_image(tmp_path):
    rows = [("./a.jpg", "one"), ("a.jpg", "two"), ("x//b.jpg", "three"), ("x/../x/b.jpg", "four")]
    assert read(write_csv(tmp_path / "table.csv", rows)) == {"a.jpg": ("one", "two"), "x/b.jpg": ("three", "four")}


def test_several_caption_columns_are_read_row_by_row(tmp_path):
    rows = [("a.jpg", "1", "2", "x"), ("b.jpg", "", "3", "x"), ("a.jpg", "4", " ", "x")]
    path = write_csv(tmp_path / "table.csv", rows, header=("file", "short", "long", "other"))
    found = read(path, image_column="file", caption_columns=("long", "short"))
    assert found == {"a.jpg": ("2", "1", "4"), "b.jpg": ("3",)}


def test_pictures_lie_beside_the_table_or_where_the_source_says(tmp_path):
    (tmp_path / "pictures").mkdir()
    path = write_csv(tmp_path / "table.csv", [("x/a.jpg", "one"), ("../b.jpg", "two"), ("/c.jpg", "three")])

    def paths(**options):
        return [str(image.path) for image in list_table(table_source(path, **options), Skips()).images]

    assert paths() == [f"{tmp_path}/x/a.jpg", f"{tmp_path}/../b.jpg", "/c.jpg"]
    assert paths(images=str(tmp_path / "pictures"))[0] == f"{tmp_path}/pictures/x/a.jpg"


@pytest.mark.parametrize(
    ("text", "captions"),
    [
        (b"\xef\xbb\xbfimage,caption\na.jpg,dog\n", ("dog",)),
        (b"image,caption\r\na.jpg,dog\r\n", ("dog",)),
        (b"image,caption\ra.jpg,dog\r", ("dog",)),
        (b"image,caption\na.jpg,dog", ("dog",)),
        (b"image,caption\n\na.jpg,dog\n\n\n", ("dog",)),
        (b'image,caption\na.jpg,"two\nlines\r\nand a third"\n', ("two lines and a third",)),
        (b'image,caption\na.jpg,"she said ""hi"", twice"\n', ('she said "hi", twice',)),
        (b'image,caption\na.jpg,a 5" plate\n', ('a 5" plate',)),
        (b"image,caption\na.jpg,a\0dog\n", ("a dog",)),
        ("image,caption\na.jpg,一只狗\u2028跑\n".encode(), ("一只狗 跑",)),
        (b"image,caption\na.jpg,NA\na.jpg,null\na.jpg,1.50\n", ("NA", "null", "1.50")),
        (b'image,caption\na.jpg,\na.jpg,"  "\na.jpg,""\na.jpg,dog\n', ("dog",)),
        (b'image,caption\na.jpg,"[""one"", ""two""]"\n', ('["one", "two"]',)),
        (b"image,caption\na.jpg,{1: 2}\n", ("{1: 2}",)),
    ],
)
def test_csv_is_read_as_spreadsheets_and_programs_write_it(tmp_path, text, captions):
    assert read(csv_of(tmp_path, text)) == {"a.jpg": captions}


def test_names_may_be_in_any_script(tmp_path):
    rows = [("фото/犬 1.jpg", "одна собака"), ("e\u0301.png", "é")]
    assert read(write_csv(tmp_path / "table.csv", rows)) == {"фото/犬 1.jpg": ("одна собака",), "e\u0301.png": ("é",)}


words = st.text(st.characters(exclude_categories=["Cs"]), max_size=12)


@settings(max_examples=60, deadline=None)
@given(
    rows=st.lists(st.tuples(st.sampled_from(["a.jpg", "b.jpg", "ä,\n.jpg"]), words), min_size=1), quoting=st.booleans()
)
def test_what_is_written_as_csv_is_read_again(tmp_path_factory, rows, quoting):
    path = tmp_path_factory.mktemp("csv") / "table.csv"
    write_csv(path, rows, quoting=1 if quoting else 0)
    expected = {name: captions_of(text for other, text in rows if other == name) for name, _ in rows}
    assert read(path) == expected


def test_tsv_and_json_lines_and_parquet_say_the_same_as_csv(tmp_path):
    rows = [("a.jpg", 'a "dog", brown'), ("b.jpg", "a\tcat"), ("a.jpg", "犬")]
    frame = pd.DataFrame(rows, columns=["image", "caption"])
    frame.to_csv(tmp_path / "table.csv", index=False)
    frame.to_csv(tmp_path / "table.tsv", index=False, sep="\t")
    frame.to_parquet(tmp_path / "table.parquet")
    frame.to_json(tmp_path / "table.jsonl", orient="records", lines=True)
    for suffix in ("csv", "tsv", "parquet", "jsonl"):
        assert read(tmp_path / f"table.{suffix}") == {"a.jpg": ('a "dog", brown', "犬"), "b.jpg": ("a\tcat",)}, suffix


def test_parquet_may_hold_lists_of_captions_categories_and_nothing(tmp_path):
    columns = {
        "image": pa.array(["a.jpg", "b.jpg", "a.jpg"]).dictionary_encode(),
        "caption": pa.array([["one", None, "two"], None, ["three"]]),
        "other": pa.array([None, "x", "y"]).dictionary_encode(),
        "empty": pa.nulls(3),
    }
    pq.write_table(pa.table(columns), tmp_path / "table.parquet")
    found = read(tmp_path / "table.parquet", caption_columns=("caption", "other", "empty"))
    assert found == {"a.jpg": ("one", "two", "three", "y"), "b.jpg": ("x",)}


def test_json_lines_may_hold_lists_and_fields_that_come_late(tmp_path):
    lines = [{"image": "a.jpg", "caption": ["one", "two"]}, {"image": "b.jpg", "caption": None, "new": 1}]
    path = csv_of(tmp_path, "\n".join(map(json.dumps, lines)), "table.jsonl")
    assert read(path) == {"a.jpg": ("one", "two"), "b.jpg": ()}


@pytest.mark.parametrize("first", [None, "2020-01-01", "2020-01-01 10:00:00"])
def test_the_first_captions_of_json_lines_may_be_empty_or_read_as_dates(tmp_path, monkeypatch, first):
    monkeypatch.setattr("vlalign.data.packing.table_rows.BLOCK_BYTES", 200)
    lines = [*({"image": "a.jpg", "caption": first} for _ in range(20)), {"image": "b.jpg", "caption": "a dog"}]
    path = csv_of(tmp_path, "\n".join(map(json.dumps, lines)), "table.jsonl")
    assert read(path) == {"a.jpg": (first,) * 20 if first else (), "b.jpg": ("a dog",)}


def test_cells_are_json_lists_only_if_the_source_says_so(tmp_path):
    rows = [("a.jpg", '["one", "two, three"]'), ("b.jpg", "[]"), ("c.jpg", "")]
    path = write_csv(tmp_path / "table.csv", rows)
    assert read(path, caption_cells="json") == {"a.jpg": ("one", "two, three"), "b.jpg": (), "c.jpg": ()}
    assert read(path)["a.jpg"] == ('["one", "two, three"]',)


@pytest.mark.parametrize("cell", ["a dog", '{"a": 1}', "[1]", '["one"'])
def test_a_cell_that_is_no_json_list_is_named(tmp_path, cell):
    path = write_csv(tmp_path / "table.csv", [("a.jpg", '["one"]'), ("b.jpg", cell)])
    with pytest.raises(
        VlalignError, match=r"table\.csv, row 2: column 'caption' holds no JSON list.*caption_cells: text"
    ):
        read(path, caption_cells="json")


def test_where_takes_rows_by_the_text_of_their_columns(tmp_path):
    frame = pd.DataFrame(
        {"image": list("abcd"), "caption": "x", "fold": [1, 2, 1, None], "use": [True, True, False, True]}
    )
    frame.to_csv(tmp_path / "table.csv", index=False)
    pq.write_table(pa.table(frame.astype({"fold": "Int64"})), tmp_path / "table.parquet")
    assert list(read(tmp_path / "table.csv", where={"fold": "1.0", "use": "True"})) == ["a"]
    assert list(read(tmp_path / "table.parquet", where={"fold": "1"})) == ["a", "c"]
    assert list(read(tmp_path / "table.parquet", where={"use": "true", "fold": "2"})) == ["b"]


def test_rows_without_an_image_are_counted_with_their_numbers(tmp_path):
    rows = [("a.jpg", "one", "x"), ("", "two", "x"), ("", "three", "y"), ("b.jpg", "four", "x"), ("", "five", "x")]
    path, skips = write_csv(tmp_path / "table.csv", rows, header=("image", "caption", "set")), Skips()
    assert list_table(table_source(path, where={"set": "x"}), skips).total == 2
    assert skips.as_dict() == {"row without an image": {"count": 2, "first": ["row 2", "row 5"]}}


def test_many_rows_are_read_once_each_whatever_their_order(tmp_path):
    rows = [(f"{(index * 7919) % 10_000}.jpg", f"caption {index}") for index in range(70_000)]
    assert len(rows) > ROWS
    expected = {}
    for name, caption in rows:
        expected.setdefault(name, []).append(caption)
    found = read(write_csv(tmp_path / "table.csv", rows))
    assert list(found) == list(expected)
    assert found == {name: tuple(captions) for name, captions in expected.items()}


def test_work_grows_with_the_rows_and_is_done_as_images_are_asked_for(tmp_path, monkeypatch):
    path = write_csv(tmp_path / "table.csv", [(f"{index % 25_000}.jpg", "dog") for index in range(50_000)])
    calls = Counter()

    def counted(name):
        function = getattr(tables, name)

        def wrapper(*arguments):
            calls[name] += 1
            return function(*arguments)

        monkeypatch.setattr(tables, name, wrapper)

    for name in ("normal_path", "captions_of", "_python_rows"):
        counted(name)
    monkeypatch.setattr(tables, "ROWS", 1000)
    images = iter(list_table(table_source(path), Skips()).images)
    assert next(images).captions == ("dog", "dog")
    assert calls == {"normal_path": 50_000, "_python_rows": 1, "captions_of": 1}
    assert sum(1 for _ in images) == 24_999
    assert calls == {"normal_path": 50_000, "_python_rows": 50, "captions_of": 25_000}


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("image,text\na.jpg,b\n", r"has no column 'caption'; .*Its columns: 'image', 'text'"),
        ("image;caption\na.jpg;b\n", r"has no column 'image'; .*Its columns: 'image;caption'"),
        ("image,caption,caption\na.jpg,b,c\n", "has more than one column 'caption'"),
        ("", r"has no column 'image'; .*Its columns: none"),
        ("image,caption\n", "has no row that names an image"),
        ("image,caption\n,dog\n", "has no row that names an image"),
        ('image,caption\na.jpg,"dog\nb.jpg,cat\n', r"at or before line 3: unexpected end of data; .*in quotes"),
        ('image,caption\na.jpg,"dog" and cat\n', r"at or before line 2: ',' expected after '\"'"),
        ("image,caption\na.jpg,dog\nb.jpg,a cat, asleep\n", "line 3: 3 cells, but 2 columns"),
        ("image,caption\na.jpg,dog\nb.jpg\n", "line 3: 1 cells, but 2 columns"),
        ("image,caption\na.jpg,café\n".encode("latin-1"), r"is not in UTF-8 .*save it in UTF-8"),
        ("image,caption\na.jpg,dog\n".encode("utf-16"), "is not in UTF-8"),
        (
            'image,caption\na.jpg,"' + "x" * 200_000 + '"\n',
            "at or before line 2: a cell of more than 131,072 characters, which is the limit",
        ),
        ("image,caption\nhttps://example.org/a.jpg,dog\n", "holds addresses in column .image.; .*img2dataset"),
    ],
)
def test_mistakes_in_a_table_are_named(tmp_path, text, message):
    with pytest.raises(VlalignError, match=rf"table\.csv,? {message}"):
        read(csv_of(tmp_path, text))


def test_mistakes_in_json_lines_and_parquet_are_named(tmp_path):
    for name in ("table.jsonl", "table.parquet"):
        with pytest.raises(VlalignError, match=rf"{name} cannot be read \(.*correct `table`"):
            read(tmp_path / name)
        for content in (b"", b'{"image": ', b"PAR1 no parquet PAR1"):
            with pytest.raises(VlalignError, match=rf"{name} is damaged or not what its name says"):
                read(csv_of(tmp_path, content, name))
    with pytest.raises(VlalignError, match=r"table\.jsonl .*Invalid UTF8"):
        read(csv_of(tmp_path, '{"image": "a.jpg", "caption": "café"}\n'.encode("latin-1"), "table.jsonl"))
    with pytest.raises(VlalignError, match=r"table\.jsonl has no column 'caption'.*'image'"):
        read(csv_of(tmp_path, '{"image": "a.jpg"}\n', "table.jsonl"))


def test_a_missing_table_an_unknown_suffix_and_a_missing_folder_are_named(tmp_path):
    with pytest.raises(VlalignError, match=r"table\.csv cannot be read \(No such file or directory\); correct `table`"):
        read(tmp_path / "table.csv")
    with pytest.raises(
        VlalignError, match=r"table\.xlsx is not of a kind .* \.csv, \.tsv, \.jsonl, \.jsonlines, \.parquet"
    ):
        read(tmp_path / "table.xlsx")
    path = write_csv(tmp_path / "table.csv", [("a.jpg", "one")])
    with pytest.raises(VlalignError, match="nowhere is not a folder; correct `images`"):
        read(path, images="nowhere")


def test_where_that_takes_nothing_shows_what_there_is(tmp_path):
    rows = [("a.jpg", "x", "train"), ("b.jpg", "x", "val"), ("c.jpg", "x", "train")]
    path = write_csv(tmp_path / "table.csv", rows, header=("image", "caption", "split"))
    with pytest.raises(VlalignError, match=r"no row with \{'split': 'test'\}.* 'split' begins with 'train', 'val'"):
        read(path, where={"split": "test"})
    with pytest.raises(VlalignError, match="has no column 'fold'"):
        read(path, where={"fold": "1"})
    with pytest.raises(VlalignError, match="has no rows"):
        read(write_csv(tmp_path / "empty.csv", []), where={"caption": "x"})


@pytest.mark.parametrize(
    ("column", "values"),
    [
        ("image", [{"bytes": b"x", "path": "a.jpg"}]),
        ("caption", [5]),
        ("caption", [[5]]),
        ("caption", [{"a": "b"}]),
        ("caption", [[["a"]]]),
    ],
)
def test_a_column_that_holds_no_text_is_named(tmp_path, column, values):
    pq.write_table(pa.table({"image": ["a.jpg"], "caption": ["x"]} | {column: values}), tmp_path / "table.parquet")
    with pytest.raises(VlalignError, match=rf"column '{column}' of .*table\.parquet holds \S.*, not text"):
        read(tmp_path / "table.parquet")
