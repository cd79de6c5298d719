"""What every part of the params shares: strict models, and plain values laid over each other."""

import functools
import hashlib
import json
import operator
import re
from collections.abc import Mapping
from dataclasses import dataclass
from difflib import get_close_matches
from typing import Annotated, Any, get_args

from pydantic import AfterValidator, BaseModel, ConfigDict, Field, GetCoreSchemaHandler, ValidationError
from pydantic_core import CoreSchema

from vlalign.errors import VlalignError
from vlalign.registry import Registered, plugins

NAME_LENGTH = 100
Name = Annotated[str, Field(pattern=r"^[a-z0-9]([a-z0-9._-]*[a-z0-9])?$", max_length=NAME_LENGTH)]


def _is_path(text: str) -> str:
    if "://" in text:
        raise ValueError("this is an address, and a path on this disk is needed")
    return text


# Of a file or folder: not empty, without control characters, and without the braces that Snakemake fills in.
PathText = Annotated[str, Field(pattern=r"^[^\x00-\x1f\x7f{}]+$", max_length=4096), AfterValidator(_is_path)]
# Of a repository of the Hugging Face hub: owner and name.
REPOSITORY = r"^[\w.-]+/[\w.-]+$"
# Far above anything that was ever run, so that a slip of the finger is told and not tried.
Few = Annotated[int, Field(ge=1, le=1_000)]
Count = Annotated[int, Field(ge=1, le=1_000_000)]
Many = Annotated[int, Field(ge=1, le=100_000_000)]
Samples = Annotated[int, Field(ge=2, le=65_536, multiple_of=2)]
Positive = Annotated[float, Field(gt=0)]
NonNegative = Annotated[float, Field(ge=0)]
Share = Annotated[float, Field(ge=0, le=1)]
Seed = Annotated[int, Field(ge=0, le=2**63 - 1)]


# How many mistakes are told at once, and how much of a value is shown.
MISTAKES, SHOWN = 20, 200


class Strict(BaseModel):
    """Base of every part: unknown keys are errors, values do not change after loading."""

    model_config = ConfigDict(extra="forbid", frozen=True, allow_inf_nan=False)


def added(default: Any, **told: Any) -> Any:
    """A field that came after runs were trained, and whose default is what they did: it is said only where it has
    another value, so that they are still the same runs.
    """
    return Field(default=default, exclude_if=lambda value: value == default, **told)


def nested(path: str, value: Any) -> dict[str, Any]:
    """`a.b`, 1 -> {"a": {"b": 1}}"""
    found: dict[str, Any] = value
    for key in reversed(path.split(".")):
        found = {key: found}
    return found


def flat_params(params: Mapping[str, Any], prefix: str = "") -> dict[str, Any]:
    """Return {dotted name: value}; lists are values."""
    flat: dict[str, Any] = {}
    for key, value in params.items():
        flat |= flat_params(value, f"{prefix}{key}.") if isinstance(value, Mapping) else {f"{prefix}{key}": value}
    return flat


def merged(base: Mapping[str, Any], *changes: Mapping[str, Any]) -> dict[str, Any]:
    """`base` with the changes laid over it, one after the other and key by key."""
    result = dict(base)
    for key, value in (item for change in changes for item in change.items()):
        both = isinstance(value, Mapping) and isinstance(result.get(key), Mapping)
        result[key] = merged(result[key], value) if both else value
    return result


def describe(error: ValidationError, *, of: type[BaseModel], prefix: str = "", given: Any = None) -> str:
    """One line per mistake: the key's path, what is wrong, and the value that was given.

    of: what was validated, for the known key that is nearest to an unknown one.
    given: the values that were validated, without which paths also name the kind of what stands there.
    """
    lines: dict[str, None] = {}
    for item in error.errors(include_url=False):
        keys = _keys(item["loc"], given, missing=item["type"] == "missing")
        path = ".".join([prefix, *keys] if prefix else keys)
        message = item["msg"].removeprefix("Value error, ")
        if item["type"] == "extra_forbidden":
            message = f"unknown key{_nearest(of, item['loc'])}"
        elif item["type"] == "literal_error" and isinstance(item["input"], str):
            known = re.findall(r"'([^']+)'", item["ctx"]["expected"])
            message += "".join(f"; nearest: {name}" for name in get_close_matches(item["input"], known, n=1))
        shown = "" if isinstance(item["input"], dict) else f" (given: {_shown(item['input'])})"
        lines[f"{path}: {message}{shown}" if path else message] = None
    more = [f"and {len(lines) - MISTAKES} more"] if len(lines) > MISTAKES else []
    return "\n".join([*list(lines)[:MISTAKES], *more])


def _nearest(kind: type[BaseModel], location: tuple[int | str, ...]) -> str:
    kinds = [kind]
    for key in location[:-1]:
        fields = [kind.model_fields[str(key)] for kind in kinds if key in kind.model_fields]
        kinds = [found for field in fields for found in _models(field.annotation)] or kinds
    known = {name for kind in kinds for name in kind.model_fields}
    return "".join(f"; nearest: {name}" for name in get_close_matches(str(location[-1]), known, n=1))


def _models(annotation: Any) -> list[type[BaseModel]]:
    """The kinds of params that may stand where a field is annotated so."""
    if isinstance(annotation, type) and issubclass(annotation, BaseModel):
        return [annotation]
    return [kind for part in get_args(annotation) for kind in _models(part)]


def _shown(value: Any) -> str:
    try:
        text = repr(value)
    except ValueError:  # Python does not write numbers of more than 4,300 digits
        return "a number of thousands of digits"
    return text if len(text) <= SHOWN else f"{text[:SHOWN]}..."


def _keys(location: tuple[int | str, ...], given: Any, *, missing: bool) -> list[str]:
    """The path of a mistake as it stands in the file: pydantic's also names the kind of what stands there."""
    keys, entered = [], True
    for number, key in enumerate(location):
        absent = missing and number == len(location) - 1
        if isinstance(given, Mapping) and not absent:
            if entered and (given.get("source") == key or key not in given):
                entered = False
                continue
            given = given.get(key)
        elif isinstance(given, list | tuple) and isinstance(key, int):
            given = given[key] if key < len(given) else None
        keys.append(str(key))
        entered = True
    return keys


def digest(value: Any) -> str:
    """Short SHA-256 of plain values, the same for equal params."""
    return hashlib.sha256(json.dumps(value, sort_keys=True).encode()).hexdigest()[:16]


@dataclass(frozen=True)
class OneOf:
    """Metadata of a field that takes any plug-in of a kind, as `Annotated[Base, OneOf(package, key=key)]` says.

    key: the field of every plug-in that holds its name, as a Literal.
    """

    package: str
    key: str

    def __get_pydantic_core_schema__(self, base: type[Registered], handler: GetCoreSchemaHandler) -> CoreSchema:
        kinds = plugins(base, self.package)  # type: ignore[arg-type]  # mypy takes no class for hashable
        for name, kind in kinds.items():
            field = kind.model_fields.get(self.key) if issubclass(kind, BaseModel) else None
            if field is None or get_args(field.annotation) != (name,):
                raise VlalignError(
                    f"{kind.__module__}: {kind.__name__} lacks the field `{self.key}: Literal[{name!r}]`"
                )
        union = functools.reduce(operator.or_, kinds.values())
        return handler.generate_schema(Annotated[union, Field(discriminator=self.key)])
