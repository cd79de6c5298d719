"""What the site makes of the code itself: every key of params.yaml, every command, and the cards of benchmarks."""

import inspect
import json
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

from pydantic import TypeAdapter

from vlalign.params.base import Name, PathText
from vlalign.params.cards import CARD, SUITE, Card, Suite, known, read_card, read_suite

Schema = Mapping[str, Any]
LIMITS = {
    "minimum": "at least",
    "exclusiveMinimum": "above",
    "maximum": "at most",
    "exclusiveMaximum": "below",
    "multipleOf": "a multiple of",
}
TYPES = {"object": "mapping", "string": "text", "boolean": "`true` or `false`"}
# Texts of one form, which a word says better than a pattern.
FORMS = {"name": TypeAdapter(Name).json_schema(), "path": TypeAdapter(PathText).json_schema()}
# Where the lists of suites and cards come, and the folder of their files.
CARDS, BENCHMARKS = "<!-- suites and cards -->", Path(__file__).parents[1] / "config" / "benchmarks"
PARAMS = """# Params

Every key of `params.yaml` and of its overlays, made from the schema that checks them (`vlalign schema`). Unknown keys,
wrong types and values out of their bounds are errors that name the key. [Arms, ablations and
overlays](../runs.md) explains how the keys work together.

A *name* consists of small letters, digits, `.`, `_` and `-`, begins and ends with a letter or digit, and has at most
100 characters. A *path* has no control characters and none of `{}`, and counts from the folder of `params.yaml`.
"""
COMMANDS = """# Commands

The workflow calls one command for each rule, and you can call every one of them yourself. `vlalign COMMAND --help`
prints what stands here. Usually `snakemake --cores all all` is all that is needed.
"""


def params_page(schema: Schema) -> str:
    """Markdown: a table of the top level, then one for every group of keys, under the path where it stands."""
    parts = schema["$defs"]
    places: dict[str, str] = {}
    for name, place in _places(schema, parts):
        # What has no kind of its own to tell it from its neighbour goes by the name of its class.
        places.setdefault(name, f"{place} ({name})" if place in places.values() else place)
    sections = [
        f"## `{places[name]}` {{ #{name.lower()} }}\n\n{_text(parts[name])}\n\n{_table(parts[name], parts, places)}"
        for name in places
    ]
    return "\n".join([PARAMS, "## Top level\n", _table(schema, parts, places), *sections])


def _places(schema: Schema, parts: Schema, above: str = "") -> Iterator[tuple[str, str]]:
    """Every group of keys below a schema with the path of each place where it stands, from the top."""
    for key, field in schema.get("properties", {}).items():
        for name, where in _groups(field):
            place = ".".join(filter(None, (above, key))) + where
            yield name, place
            yield from _places(parts[name], parts, place)


def _groups(field: Schema) -> Iterator[tuple[str, str]]:
    """The groups of keys that may stand in a field, and what comes between."""
    if "$ref" in field:
        yield field["$ref"].rpartition("/")[2], ""
    kinds = field.get("discriminator", {})
    names = {ref: f" ({kinds['propertyName']}: {name})" for name, ref in kinds.get("mapping", {}).items()}
    for choice in (*field.get("anyOf", ()), *field.get("oneOf", ())):
        yield from ((name, names.get(choice.get("$ref"), where)) for name, where in _groups(choice))
    if values := _values(field):
        yield from ((name, f".NAME{where}") for name, where in _groups(values))
    if entries := _entries(field):
        yield from ((name, f"[]{where}") for name, where in _groups(entries))


def _table(schema: Schema, parts: Schema, places: Mapping[str, str]) -> str:
    rows = ["| Key | Type | Default | Bounds | Meaning |", "|---|---|---|---|---|"]
    for key, field in schema.get("properties", {}).items():
        default = "must be given" if key in schema.get("required", ()) else _default(field)
        meaning = _text(field) or next((_text(parts[name]) for name, _ in _groups(field)), "")
        rows.append(f"| `{key}` | {_type(field, places)} | {default} | {_bounds(field)} | {meaning} |")
    return "\n".join(rows) + "\n"


def _type(field: Schema, places: Mapping[str, str]) -> str:
    """In words, with links to the groups of keys that are named."""
    if "$ref" in field:
        name = field["$ref"].rpartition("/")[2]
        return f"[`{places[name]}`](#{name.lower()})"
    choices = field.get("enum") or ([field["const"]] if "const" in field else [])
    if choices:
        return " or ".join(f"`{value}`" for value in choices)
    if several := (*field.get("anyOf", ()), *field.get("oneOf", ())):
        return " or ".join(dict.fromkeys(_type(choice, places) for choice in several))
    kind = field.get("type", "any value")
    if kind == "array":
        return f"list of {_type(_entries(field) or {}, places)}"
    if kind == "object" and (values := _values(field)):
        return f"mapping of names to {_type(values, places)}"
    if form := [word for word, schema in FORMS.items() if schema.items() <= field.items()]:
        return form[0]
    return TYPES.get(kind, kind)


def _values(field: Schema) -> Schema | None:
    """What stands below the keys of a mapping whose keys are free."""
    free = (*field.get("patternProperties", {}).values(), field.get("additionalProperties"))
    return next((values for values in free if isinstance(values, Mapping)), None)


def _entries(field: Schema) -> Schema | None:
    """What the entries of a list are."""
    return field.get("items") or next(iter(field.get("prefixItems", ())), None)


def _bounds(field: Schema) -> str:
    """The limits of a field, and of each of its types and entries."""
    found = [f"{words} {_number(field[key])}" for key, words in LIMITS.items() if key in field]
    found += [f"{field[key]} characters at most" for key in ("maxLength",) if key in field and "pattern" not in field]
    least, most = field.get("minItems"), field.get("maxItems")
    if least == most is not None:
        found.append(f"{least} entries")
    else:
        found += [f"entries: {words} {number}" for words, number in (("at least", least), ("at most", most)) if number]
    inner = (*field.get("anyOf", ()), *field.get("oneOf", ()), *filter(None, (_entries(field), _values(field))))
    return ", ".join(dict.fromkeys([*found, *filter(None, map(_bounds, inner))]))


def _number(value: float) -> str:
    return "2⁶³ − 1" if value == 2**63 - 1 else f"{value:,}"


def _default(field: Schema) -> str:
    """As YAML has it on one line; of a whole group of keys, its own table says the defaults."""
    value = field.get("default")
    if isinstance(value, Mapping) and any(_groups(field)):
        return "that of each key"
    return f"`{json.dumps(value, ensure_ascii=False)}`"


def _text(described: Schema) -> str:
    return _cell(described.get("description", ""))


def _cell(text: str) -> str:
    return " ".join(text.split()).replace("|", "\\|").replace("<", "&lt;")


def commands_page() -> str:
    """Markdown: for every command what it does, and a table of its arguments and options."""
    return "\n".join([COMMANDS, *(_command(name, command) for name, command in commands().items())])


def commands() -> dict[str, Any]:
    """Every command of `vlalign` by name."""
    import typer

    from vlalign.cli import app

    group: Any = typer.main.get_command(app)
    return {name: group.get_command(None, name) for name in group.list_commands(None)}


def _command(name: str, command: Any) -> str:
    context = command.context_class(command, info_name=f"vlalign {name}")
    records = [record for param in command.params if (record := param.get_help_record(context))]
    rows = [f"| `{called}` | {_cell(said)} |" for called, said in records]
    table = "\n".join(["| Argument or option | Meaning |", "|---|---|", *rows]) if rows else ""
    return f"## vlalign {name}\n\n{inspect.cleandoc(command.help or '').replace('<', '&lt;')}\n\n{table}\n"


def cards_lists() -> str:
    """Markdown: a table of the suites that are shipped, and one of the cards."""
    suites = [read_suite(name, [BENCHMARKS]) for name in known(SUITE, [BENCHMARKS])]
    cards = [read_card(name, [BENCHMARKS]) for name in known(CARD, [BENCHMARKS])]
    return "\n".join(
        [
            "## Suites\n",
            "| Suite | What it is | Task | Cards | Published |\n|---|---|---|---|---|",
            *map(_suite, suites),
            "\n## Cards\n",
            "| Card | Data set | Tasks | Counts | Source | Licence | Remark |\n|---|---|---|---|---|---|---|",
            *map(_card, cards),
        ]
    )


def _suite(suite: Suite) -> str:
    cards = ", ".join(f"`{card.name}`" for card in suite.cards)
    published = f"{suite.source}. {suite.setting}" if suite.published else ""
    return f"| `{suite.name}` | {_cell(suite.title)} | `{suite.task}` | {cards} | {_cell(published)} |"


def _card(card: Card) -> str:
    tasks = ", ".join(f"`{task}`" for task in card.tasks)
    counts = ", ".join(f"{count:,} {kind}" for kind, count in card.counts.model_dump(exclude_none=True).items())
    source = ", ".join(dict.fromkeys(f"`{source.name}`" for source in card.sources.values()))
    title = f"[{_cell(card.title)}]({card.homepage})"
    return f"| `{card.name}` | {title} | {tasks} | {counts} | {source} | {_cell(card.licence)} | {_cell(card.remark)} |"
