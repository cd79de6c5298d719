"""A params file as plain values: one YAML mapping of a sane size, in which no key stands twice."""

from pathlib import Path
from typing import Any

import yaml

from vlalign.errors import VlalignError

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
        _check_extent(text)
        return _values(text)
    except _MistakeError as error:
        raise VlalignError(f"{path}, {error}") from None
    except yaml.YAMLError as error:
        raise VlalignError(f"{path} is not a YAML mapping: {_problem(error)}") from None


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


def _check_extent(text: str) -> None:
    """Raises for tags, too many values or too deep ones, before anything recursive sees them."""
    extent = _Extent()
    for event in yaml.parse(text, Loader=LOADER):
        if tag := getattr(event, "tag", None):
            raise _MistakeError(f"the tag {tag!r}; only plain values can stand here, text in quotes", event.start_mark)
        extent.add(event)
        if extent.depth > MAX_DEPTH:
            raise _MistakeError(f"values more than {MAX_DEPTH} levels deep; nothing needs so many", event.start_mark)
        if extent.values > MAX_VALUES:
            raise _MistakeError(
                f"more than {MAX_VALUES:,} values, aliases counted in full; shorten it", event.start_mark
            )


class _Open:
    """A collection that has not ended: how many values it has so far, itself one of them, and how deep they lie."""

    def __init__(self, anchor: str | None) -> None:
        self.anchor, self.values, self.depth = anchor, 1, 1


class _Extent:
    """How many values a document has and how deep they lie, every alias in full, while its events pass by."""

    def __init__(self) -> None:
        self.open = [_Open(None)]
        self.known: dict[str, tuple[int, int]] = {}

    @property
    def values(self) -> int:
        """Those of the innermost open collection, which the others have as well when it ends."""
        return self.open[-1].values

    @property
    def depth(self) -> int:
        """Of all that is open."""
        return len(self.open) + self.open[-1].depth - 2

    def add(self, event: yaml.Event) -> None:
        """Count what begins, ends or is named."""
        if isinstance(event, yaml.CollectionStartEvent):
            self.open.append(_Open(event.anchor))
        elif isinstance(event, yaml.CollectionEndEvent):
            ended = self.open.pop()
            self._count(event, ended.anchor, ended.values, ended.depth)
        elif isinstance(event, yaml.ScalarEvent):
            self._count(event, event.anchor, 1, 0)
        elif isinstance(event, yaml.AliasEvent):
            if event.anchor not in self.known:
                raise _MistakeError(f"*{event.anchor} stands for nothing, or within itself", event.start_mark)
            self._count(event, None, *self.known[event.anchor])

    def _count(self, event: yaml.Event, anchor: str | None, values: int, depth: int) -> None:
        if anchor in self.known:
            raise _MistakeError(f"&{anchor} names a second value; rename one", event.start_mark)
        if anchor:
            self.known[anchor] = (values, depth)
        around = self.open[-1]
        around.values += values
        around.depth = max(around.depth, depth + 1)


def _values(text: str) -> dict[str, Any]:
    loader = LOADER(text)
    node = loader.get_single_node()
    if node is None or node.tag == f"{TAG}null":
        return {}
    if not isinstance(node, yaml.MappingNode):
        raise yaml.YAMLError("it holds a list or a single value; begin with a key such as `train:`")
    _check(node)
    try:
        values: dict[str, Any] = loader.construct_document(node)
    except ValueError as error:
        raise _MistakeError(f"a number that cannot be read ({error}); correct it, or put it in quotes") from None
    if TEMPLATE in values:
        raise _MistakeError(
            f"{TEMPLATE} lets Snakemake run expressions of this file, which it does before anything can look at it; "
            "write plain values, and look at a file of somebody else's with `vlalign validate` first"
        )
    return values


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
