"""A params file as plain values: what is refused, and how it is said."""

import re
import time

import pytest

from vlalign import params
from vlalign.errors import VlalignError
from vlalign.params import reading


def written(tmp_path, content):
    path = tmp_path / "odd.yaml"
    path.write_bytes(content if isinstance(content, bytes) else content.encode())
    return path


def bomb(first, opening, item, closing):
    """Thirty anchors, each with nine aliases of the one before: 9^30 values in 3 KB."""
    lines = [f"a0: &a0 {first}"]
    for number in range(1, 30):
        items = ", ".join(item.format(key=key, number=number - 1) for key in range(9))
        lines.append(f"a{number}: &a{number} {opening}{items}{closing}")
    return "\n".join(lines)


LISTS, MAPPINGS = bomb("[x]", "[", "*a{number}", "]"), bomb("{x: 1}", "{", "k{key}: *a{number}", "}")


@pytest.mark.parametrize(
    ("content", "message"),
    [
        ("train:\n  steps: 3\n  epochs: 8\n  steps: 4\n", "line 4: train.steps stands there twice, first on line 2"),
        ("a: [{b: 1}, {b: 1, b: 2}]", "line 1: a.1.b stands there twice"),
        ('{"a": 1,\n "a": 2}', "line 2: a stands there twice"),
        ("a: &x {b: 1}\nc: {<<: *x, <<: *x}", "line 2: c.<< stands there twice"),
        (LISTS, "more than 100,000 values, aliases counted in full"),
        (MAPPINGS, "more than 100,000 values, aliases counted in full"),
        ("a: " + "[" * 1000 + "]" * 1000, "line 1: values more than 50 levels deep"),
        ("a:\n" + "".join(f"{' ' * depth}a:\n" for depth in range(1, 1000)), "line 51: values more than 50 levels"),
        ("a0: &a0 [1]\n" + "".join(f"a{n}: &a{n} [*a{n - 1}]\n" for n in range(1, 99)), "line 50: values more than 50"),
        ("a: &a [*a]", "line 1: *a stands for nothing, or within itself"),
        ("a: *b", "line 1: *b stands for nothing, or within itself"),
        ("a: &x 1\nb: &x [2]\nc: *x", "line 2: &x names a second value; rename one"),
        ("# " + "x" * 2**20, "has more than 1,048,576 bytes"),
        ("a: " + "x" * 10_001, "line 1: a has more than 10,000 characters"),
        ("train: {steps: " + "9" * 101 + "}", "line 1: train.steps is a number of more than 100 digits"),
        ("a: " + ":59" * 4000, "more than 10,000 characters"),
        ("a: 0x_", "a number that cannot be read"),
        ("root: x".encode("utf-16"), "odd.yaml is not text in UTF-8; save it in UTF-8"),
        (b"\x89PNG\r\n\x1a\n\xff\xfe", "is not text in UTF-8"),
        ("root: Sch\xf6n".encode("latin-1"), "is not text in UTF-8"),
        ("a: \0", "characters are not allowed"),
        ("a: b: c", "not a YAML mapping: line 1, column 5: mapping values are not allowed"),
        ("- 1", "not a YAML mapping: it holds a list or a single value"),
        ("text", "not a YAML mapping: it holds a list or a single value"),
        ("a: 1\n---\na: 2", "not a YAML mapping"),
        ("a:\n  1: x", "line 2: below a, a key that is not text: 1; put it in quotes"),
        ("on: x", "line 1: a key that is not text: on; put it in quotes"),
        ("? [a]\n: x", "a key that is not text: a list or mapping"),
        ("a: !!python/object:os.system {}", "line 1: the tag 'tag:yaml.org,2002:python/object:os.system'"),
        ("a: !mine x", "the tag '!mine'"),
        ("day: 2020-01-01", "line 1: day is read as a timestamp ('2020-01-01'); put it in quotes"),
        ("__use_yte__: true\na: ?1 + 1", "odd.yaml, __use_yte__ lets Snakemake run expressions"),
    ],
    ids=lambda value: repr(value)[:40],
)
def test_what_is_refused_is_told_at_once_with_file_and_key(tmp_path, content, message):
    path, start = written(tmp_path, content), time.perf_counter()
    with pytest.raises(VlalignError) as caught:
        params.read(path)
    assert message in str(caught.value)
    assert str(path) in str(caught.value)
    assert len(str(caught.value)) < 600
    assert time.perf_counter() - start < 5


@pytest.mark.parametrize(("name", "message"), [("absent.yaml", "does not exist"), (".", "is no file")])
def test_a_missing_file_and_a_folder_are_named(tmp_path, name, message):
    with pytest.raises(VlalignError, match=f"{re.escape(str(tmp_path / name))} {message}"):
        params.read(tmp_path / name)


def test_an_endless_file_is_not_read_to_its_end():
    with pytest.raises(VlalignError, match="/dev/zero is no file"):
        params.read("/dev/zero")


SHARED = {"b": 1, "c": 2}


@pytest.mark.parametrize(
    ("content", "values"),
    [
        ("", {}),
        ("# nothing\n", {}),
        ("null", {}),
        ("\ufeffa: 1", {"a": 1}),
        ("a: &x {b: 1, c: 2}\nd: *x\ne: {<<: *x, c: 3}", {"a": SHARED, "d": SHARED, "e": {"b": 1, "c": 3}}),
        ('{"a": [1, 0.5, true, null, "x"]}', {"a": [1, 0.5, True, None, "x"]}),
        ("a: 'on'\n'1': x", {"a": "on", "1": "x"}),
        ("a:\r\n  b: 一只狗\r\n", {"a": {"b": "一只狗"}}),
    ],
)
def test_what_is_plain_is_read(tmp_path, content, values):
    assert params.read(written(tmp_path, content)) == values


def test_libyaml_and_python_say_the_same(tmp_path, monkeypatch):
    path = written(tmp_path, "train:\n  steps: 3\n  steps: 4\n")
    monkeypatch.setattr(reading, "LOADER", reading.yaml.SafeLoader)
    with pytest.raises(VlalignError, match=r"line 3: train\.steps stands there twice, first on line 2"):
        params.read(path)


def test_every_file_of_several_is_read_so(tmp_path):
    good = tmp_path / "params.yaml"
    good.write_text("focus: clip\n")
    with pytest.raises(VlalignError, match=r"odd\.yaml, line 2: focus stands there twice"):
        params.load(good, written(tmp_path, "focus: a\nfocus: b\n"))
