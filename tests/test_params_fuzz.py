"""Whatever a params file holds, it is either params or a mistake that is told."""

import copy
import os
import random
import subprocess
import sys
from pathlib import Path

import pytest
import yaml
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from vlalign import params
from vlalign.errors import VlalignError

ROOT = Path(__file__).parents[1]
FILES = [ROOT / "params.yaml", ROOT / "config" / "test.yaml"]
DEFAULTS, OVERLAY = map(params.read, FILES)
BOUNDED = settings(
    max_examples=150, deadline=None, derandomize=True, suppress_health_check=[HealthCheck.function_scoped_fixture]
)

WRONG = st.one_of(
    st.none(),
    st.booleans(),
    st.integers(min_value=-(10**40), max_value=10**40),
    st.sampled_from(
        [0, -1, 2**31, 2**63, 10**99, 1e308, float("nan"), float("inf"), "1e-3", "9" * 5000, "", "x" * 300]
    ),
    st.text(max_size=20),
    st.lists(st.integers(), max_size=3),
    st.dictionaries(st.text(max_size=5), st.integers(), max_size=3),
    st.recursive(st.integers(), lambda inner: st.lists(inner, max_size=2) | st.dictionaries(st.just("a"), inner)),
)


@pytest.fixture(autouse=True)
def _repository(monkeypatch):
    """Towers are named relative to the repository."""
    monkeypatch.chdir(ROOT)


def loads_or_tells(*files):
    """Nothing but params or VlalignError comes of it, and the message names a file."""
    try:
        params.load(*files)
    except VlalignError as error:
        message = str(error)
    else:
        return
    assert any(str(file) in message for file in files)
    assert len(message) < 20_000


def places(value, *keys):
    """Path of every value below."""
    below = value.items() if isinstance(value, dict) else enumerate(value) if isinstance(value, list) else ()
    for key, inner in below:
        yield (*keys, key)
        yield from places(inner, *keys, key)


def changed(values, place, change):
    """A copy in which `change(parent, key)` was done to one place."""
    values = copy.deepcopy(values)
    parent = values
    for key in place[:-1]:
        parent = parent[key]
    change(parent, place[-1])
    return values


def removed(parent, key):
    del parent[key]


@pytest.mark.slow
@BOUNDED
@given(data=st.data())
def test_one_value_replaced_or_removed(tmp_path, data):
    values = data.draw(st.sampled_from([DEFAULTS, OVERLAY]))
    place = data.draw(st.sampled_from(list(places(values))))
    value = data.draw(WRONG)
    change = data.draw(st.sampled_from([removed, lambda parent, key: parent.__setitem__(key, value)]))
    path = tmp_path / "odd.yaml"
    path.write_text(yaml.safe_dump(changed(values, place, change), sort_keys=False, allow_unicode=True), "utf-8")
    loads_or_tells(FILES[0], path)
    loads_or_tells(path)


def doubled(text, number, line):
    return [*text[:number], line, *text[number:]]


def indented(text, number, line):
    return [*text[:number], *(f"  {below}" for below in text[number:])]


def nested(text, number, line):
    return [*text[:number], f"deep: {'[' * len(text) * 9}", *text[number:]]


def cut(text, number, line):
    return text[:number]


def moved(text, number, line):
    return [*text[number:], *text[:number]]


@BOUNDED
@given(
    source=st.sampled_from(FILES),
    edits=st.lists(st.tuples(st.sampled_from([doubled, indented, nested, cut, moved]), st.randoms()), max_size=3),
)
def test_lines_doubled_moved_and_cut(tmp_path, source, edits):
    lines = source.read_text("utf-8").splitlines()
    for edit, chance in edits:
        lines = edit(lines, chance.randrange(len(lines) + 1), chance.choice(lines or [""]))
    path = tmp_path / "odd.yaml"
    path.write_text("\n".join(lines), "utf-8")
    loads_or_tells(FILES[0], path)


@BOUNDED
@given(
    source=st.sampled_from([b"", *(file.read_bytes() for file in FILES)]),
    noise=st.binary(max_size=30),
    seed=st.integers(0, 99),
)
def test_bytes_overwritten(tmp_path, source, noise, seed):
    content = bytearray(source) or bytearray(noise)
    chance = random.Random(seed)
    for byte in noise:
        content[chance.randrange(len(content))] = byte
    path = tmp_path / "odd.yaml"
    path.write_bytes(content)
    loads_or_tells(FILES[0], path)


PLAIN = ["a: ", "- ", "{", "}", "[", "]", "? ", "|\n", ">", "\n", "  ", "'", '"', "\t", "train: ", "9" * 200]
ODD = [
    "&a ",
    "*a",
    "<<: ",
    "!!int ",
    "0x",
    ":59",
    "\x00",
    "\x85",
    "\ufeff",
    "---\n",
    "...\n",
    "%YAML 1.1\n",
    "2020-13-45",
]
MARKS = st.sampled_from([*PLAIN, *ODD, "__use_yte__: true\n"])


@BOUNDED
@given(text=st.lists(MARKS | st.text(max_size=3), max_size=25).map("".join))
def test_texts_of_the_marks_of_yaml(tmp_path, text):
    path = tmp_path / "odd.yaml"
    path.write_bytes(text.encode("utf-8", "surrogatepass"))
    loads_or_tells(FILES[0], path)


@pytest.mark.parametrize(
    "content",
    [
        b"train: {steps: 1}\ntrain: {steps: 2}\n",
        b"a: " + b"[" * 5000,
        b"train: {steps: 1" + b"0" * 32 + b"}",
        "train: {steps: 1}".encode("utf-16"),
        b"\x89PNG\r\n\x1a\n" + bytes(range(256)),
        b'runs: {arms: [clip, [/bold], "\\e[31m"]}',
    ],
)
def test_the_command_gives_one_message_and_writes_nothing(tmp_path, content):
    (tmp_path / "odd.yaml").write_bytes(content)
    result = subprocess.run(
        [sys.executable, "-m", "vlalign", "validate", "odd.yaml"],
        cwd=tmp_path,
        env={**os.environ, "PYTHONPATH": str(ROOT / "src"), "PYTHONDONTWRITEBYTECODE": "1"},
        capture_output=True,
        text=True,
        check=False,
        timeout=60,
    )
    assert result.returncode == 1
    assert result.stdout == ""
    assert result.stderr.startswith("error: odd.yaml")
    assert result.stderr.count("error: ") == 1
    assert "Traceback" not in result.stderr
    assert os.listdir(tmp_path) == ["odd.yaml"]
