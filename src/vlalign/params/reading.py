"""Params files as plain values: each one YAML mapping of a sane size, in which no key stands twice."""

import contextlib
import json
import os
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any, NamedTuple

import yaml

from vlalign.errors import VlalignError
from vlalign.params.base import flat_params, nested

MAX_BYTES = 2**20
MAX_DEPTH = 50
MAX_VALUES = 100_000
MAX_CHARACTERS = 10_000
MAX_DIGITS = 100

# libyaml is ten times as fast, where PyYAML was built with it.
LOADER: Any = getattr(yaml, "CSafeLoader", yaml.SafeLoader)
TAG = "tag:yaml.org,2002:"
PLAIN = {f"{TAG}{kind}" for kind in ("str", "int", "float", "bool", "null")}
NUMBERS = {f"{TAG}int", f"{TAG}float"}
MERGE = f"{TAG}merge"
TEMPLATE = "__use_yte__"
EXTENDS = "extends"


class _MistakeError(Exception):
    """Something in the text, and the line where it is."""

    def __init__(self, problem: str, mark: Any = None) -> None:
        super().__init__(f"line {mark.line + 1}: {problem}" if mark else problem)


def read(path: str | Path) -> dict[str, Any]:
    """The values of a params file; an empty file has none.

    Raises VlalignError that names the file, and line and key where there is one, when the file cannot be read or is too
    large, is not YAML in UTF-8, is no mapping, has a key twice, keys or values other than plain ones, or would become
    too large with its aliases in full.
    """
    text = _text(path)
    try:
        values = _value(text)
        if values is not None and not isinstance(values, dict):
            raise yaml.YAMLError("it holds a list or a single value; begin with a key such as `train:`")
        if values and TEMPLATE in values:
            raise _MistakeError(
                f"{TEMPLATE} lets Snakemake run expressions of this file, which it does before anything can look at "
                "it; write plain values, and look at a file of somebody else's with `vlalign validate` first"
            )
        return values or {}
    except _MistakeError as error:
        raise VlalignError(f"{path}, {error}") from None
    except yaml.YAMLError as error:
        raise VlalignError(f"{path} is not a YAML mapping: {_problem(error)}") from None


def read_layers(*paths: str | Path) -> Iterator[dict[str, Any]]:
    """The values of params files in the order in which they are laid over each other: what a file `extends` comes
    before it, and each file once. Raises VlalignError as `read` does, and for files that extend each other in a circle.
    """
    done: set[str] = set()
    for path in paths:
        yield from _layers(Path(path), (), done)


def _layers(path: Path, below: tuple[Path, ...], done: set[str]) -> Iterator[dict[str, Any]]:
    """below: the files that led here, each of which extends the next."""
    real = os.path.realpath(path)
    if real in map(os.path.realpath, below):
        circle = " extends ".join(map(str, (*below, path)))
        raise VlalignError(f"{circle}: a circle; remove one `{EXTENDS}`")
    if real in done:
        return
    done.add(real)
    try:
        values = read(path)
    except VlalignError as error:
        raise VlalignError(f"{error} ({below[-1]} extends it)" if below else str(error)) from None
    bases = values.pop(EXTENDS, [])
    bases = [bases] if isinstance(bases, str) else bases
    if not isinstance(bases, list) or not all(isinstance(base, str) and base for base in bases):
        raise VlalignError(f"{path}: {EXTENDS}: {bases!r:.100} names no file; give the path of one, or a list of paths")
    for base in bases:
        yield from _layers(path.parent / base, (*below, path), done)
    yield values


def read_change(text: str) -> dict[str, Any]:
    """`a.b=1` -> {"a": {"b": 1}}; the value is YAML. Raises VlalignError that quotes what is no such text."""
    key, equals, value = text.partition("=")
    if not equals or not all(key.split(".")):
        raise VlalignError(f"{text!r:.200} changes no param; write KEY=VALUE, such as train.steps=50")
    try:
        return nested(key, _value(value, key))
    except (_MistakeError, yaml.YAMLError) as error:
        problem = _problem(error) if isinstance(error, yaml.YAMLError) else error
        raise VlalignError(f"{key}=...: {problem}") from None


def _text(path: str | Path) -> str:
    try:
        if Path(path).exists() and not Path(path).is_file():
            raise VlalignError(f"{path} is no file; give the path of a params file")
        with open(path, "rb") as stream:
            content = stream.read(MAX_BYTES + 1)
    except FileNotFoundError:
        raise VlalignError(f"{path} does not exist; give the path of a params file") from None
    except OSError as error:
        raise VlalignError(f"{path} cannot be read ({error.strerror}); give the path of a params file") from None
    if len(content) > MAX_BYTES:
        raise VlalignError(f"{path} has more than {MAX_BYTES:,} bytes; give the path of a params file")
    try:
        return content.decode("utf-8-sig")
    except UnicodeDecodeError:
        raise VlalignError(
            f"{path} is not text in UTF-8; save it in UTF-8, or give the path of a params file"
        ) from None


class _Extent(NamedTuple):
    """How many values there are, a collection one of them, and how deep they lie; anchor: what the YAML calls them."""

    anchor: str | None = None
    values: int = 1
    depth: int = 1


def _check_extent(text: str) -> None:
    """Raises for tags, too many values or too deep ones, aliases in full, before anything recursive sees them."""
    # Of the collections that have not ended, as far as they were read.
    open_ones, known = [_Extent()], dict[str, _Extent]()
    for event in yaml.parse(text, Loader=LOADER):
        mark = event.start_mark
        if tag := getattr(event, "tag", None):
            raise _MistakeError(f"the tag {tag!r}; only plain values can stand here, text in quotes", mark)
        if isinstance(event, yaml.CollectionStartEvent):
            open_ones.append(_Extent(event.anchor))
        elif ended := _ended(event, open_ones, known):
            if ended.anchor in known:
                raise _MistakeError(f"&{ended.anchor} names a second value; rename one", mark)
            if ended.anchor:
                known[ended.anchor] = ended
            anchor, values, depth = open_ones[-1]
            open_ones[-1] = _Extent(anchor, values + ended.values, max(depth, ended.depth + 1))
        if len(open_ones) + open_ones[-1].depth - 2 > MAX_DEPTH:
            raise _MistakeError(f"values more than {MAX_DEPTH} levels deep; nothing needs so many", mark)
        if open_ones[-1].values > MAX_VALUES:
            raise _MistakeError(f"more than {MAX_VALUES:,} values, aliases counted in full; shorten it", mark)


def _ended(event: yaml.Event, open_ones: list[_Extent], known: dict[str, _Extent]) -> _Extent | None:
    """The collection, text or alias that is whole with this event, if one is."""
    if isinstance(event, yaml.CollectionEndEvent):
        return open_ones.pop()
    if isinstance(event, yaml.ScalarEvent):
        return _Extent(event.anchor, 1, 0)
    if isinstance(event, yaml.AliasEvent):
        if event.anchor not in known:
            raise _MistakeError(f"*{event.anchor} stands for nothing, or within itself", event.start_mark)
        return known[event.anchor]._replace(anchor=None)
    return None


def _value(text: str, *keys: str) -> Any:
    """What stands in a text, below these keys; None where nothing does."""
    _check_extent(text)
    loader = LOADER(text)
    node = loader.get_single_node()
    if node is None:
        return None
    _check(node, *keys)
    try:
        return loader.construct_document(node)
    except ValueError as error:
        raise _MistakeError(f"a number that cannot be read ({error}); correct it, or put it in quotes") from None


def written_changes(values: Mapping[str, Any]) -> list[str]:
    """The texts `a.b=1` that `read_change` makes these values of."""
    return [f"{key}={_written(value)}" for key, value in flat_params(values).items()]


def _written(value: Any) -> str:
    """A value as YAML, text without quotes where it needs none."""
    with contextlib.suppress(_MistakeError, yaml.YAMLError):
        if isinstance(value, str) and _value(value) == value:
            return value
    return json.dumps(value)


def _check(node: yaml.Node, *keys: str) -> None:
    """Raises for a key that stands twice and for what is not plain."""
    if isinstance(node, yaml.MappingNode):
        lines: dict[str, int] = {}
        for key, value in node.value:
            name = _key(key, keys)
            if name in lines:
                where = ".".join((*keys, name))
                raise _MistakeError(
                    f"{where} stands there twice, first on line {lines[name]}; remove one", key.start_mark
                )
            lines[name] = key.start_mark.line + 1
            _check(value, *keys, name)
    elif isinstance(node, yaml.SequenceNode):
        for number, value in enumerate(node.value):
            _check(value, *keys, str(number))
    elif isinstance(node, yaml.ScalarNode):
        _check_value(node, ".".join(keys))


def _key(node: yaml.Node, above: tuple[str, ...]) -> str:
    if isinstance(node, yaml.ScalarNode) and node.tag == f"{TAG}str" and len(node.value) <= MAX_CHARACTERS:
        return str(node.value)
    if node.tag == MERGE:
        return "<<"
    where = f"below {'.'.join(above)}, " if above else ""
    shown = f"{node.value:.100}" if isinstance(node, yaml.ScalarNode) else "a list or mapping"
    raise _MistakeError(f"{where}a key that is not text: {shown}; put it in quotes", node.start_mark)


def _check_value(node: yaml.ScalarNode, where: str) -> None:
    if len(node.value) > MAX_CHARACTERS:
        raise _MistakeError(f"{where} has more than {MAX_CHARACTERS:,} characters; shorten it", node.start_mark)
    if node.tag not in PLAIN:
        kind = node.tag.removeprefix(TAG)
        raise _MistakeError(f"{where} is read as a {kind} ({node.value!r:.100}); put it in quotes", node.start_mark)
    if node.tag in NUMBERS and len(node.value) > MAX_DIGITS:
        raise _MistakeError(f"{where} is a number of more than {MAX_DIGITS} digits; correct it", node.start_mark)


def _problem(error: yaml.YAMLError) -> str:
    if isinstance(error, yaml.MarkedYAMLError) and error.problem_mark:
        mark = error.problem_mark
        return f"line {mark.line + 1}, column {mark.column + 1}: {error.problem or error.context}; correct it"
    return " ".join(str(error).split())
