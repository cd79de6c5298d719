"""The digest of code: what changes it and what does not."""

import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from vlalign import freshness
from vlalign.freshness import KINDS, PACKAGE, digest, modules, read_source

CODE = '''"""A module."""

from typing import TYPE_CHECKING

from vlalign.files import write_text

if TYPE_CHECKING:
    from vlalign.records import stamp


class Term:
    """A term."""

    name = "my-term"

    def value(self, x: int) -> int:
        """Its value."""
        # Twice.
        return 2 * x
'''


def shape(text):
    return read_source(text.encode(), "vlalign.training.terms.my_module").digest


@pytest.mark.parametrize(
    ("old", "new"),
    [
        ("A module.", "A better one."),
        ('    """A term."""\n\n', ""),
        ("Its value.", "What it is worth."),
        ("        # Twice.\n", ""),
        ("2 * x", "(2  *  x)  # as published"),
        ("    from vlalign.records import stamp", "    from vlalign.records import stamps"),
    ],
)
def test_words_and_layout_change_nothing(old, new):
    assert old in CODE
    assert shape(CODE.replace(old, new)) == shape(CODE)


@pytest.mark.parametrize(
    ("old", "new"),
    [
        ("2 * x", "3 * x"),
        ("2 * x", "2.0 * x"),
        ("x: int", "x: int = 1"),
        ("import write_text", "import write_json"),
        ("my-term", "term"),
        ("2 * x", "x * 2"),
        ("class Term:", "class Term(Base):"),
    ],
)
def test_every_other_edit_does(old, new):
    assert old in CODE
    assert shape(CODE.replace(old, new)) != shape(CODE)


def test_a_plug_in_is_found_by_the_name_that_it_gives_itself_or_by_its_module():
    assert read_source(CODE.encode(), "vlalign.training.terms.my_module").plugins == ["my-term"]
    unnamed = CODE.replace('    name = "my-term"\n', "")
    assert read_source(unnamed.encode(), "vlalign.training.terms.my_module").plugins == ["my-module"]


def test_imports_in_functions_count_and_those_for_type_checkers_do_not():
    assert "vlalign.objectives.powerset" in modules("pretrain", terms=["powerset"])
    assert "vlalign.objectives.powerset" not in modules("pretrain", terms=["contrastive"])
    assert "vlalign.data.shards.manifest" in modules("verify")
    hub = PACKAGE / "data" / "hub.py"
    if hub.exists():
        assert "TYPE_CHECKING" in hub.read_text()
    assert {"vlalign.models.towers", "vlalign.objectives.powerset"}.isdisjoint(modules("verify"))


def test_every_data_file_of_the_package_belongs_to_a_module():
    data = {path for path in PACKAGE.rglob("*") if path.is_file() and path.suffix not in {".py", ".pyc"}}
    assert data
    assert data == {path for module in freshness.imports() for path in freshness.data_files(module)}


@pytest.fixture(scope="module")
def package(tmp_path_factory):
    """A copy of the package with two segmenters of its own."""
    folder = tmp_path_factory.mktemp("package")
    shutil.copytree(PACKAGE, folder / "vlalign", ignore=shutil.ignore_patterns("__pycache__"))
    segmenters = folder / "vlalign" / "annotate" / "regions" / "segmenters"
    segmenters.mkdir(exist_ok=True)
    for name in ("__init__", "by_colour", "by_depth"):
        kind = name.title().replace("_", "")
        (segmenters / f"{name}.py").write_text(f'class {kind}:\n    """A segmenter."""\n' * (name != "__init__"))
    return folder


def told(package: Path, call="digest('regions', segmenters=['by-colour'])"):
    """What a process of its own says of that copy."""
    code = f"from vlalign import freshness; print(freshness.{call})"
    environment = {**os.environ, "PYTHONPATH": str(package)}
    command = [sys.executable, "-c", code]
    return subprocess.run(command, cwd=package, env=environment, capture_output=True, text=True, check=False)


def test_a_plug_in_that_nothing_names_changes_nothing(package):
    segmenters, before = package / "vlalign" / "annotate" / "regions" / "segmenters", told(package).stdout
    assert len(before.strip()) == 64
    (segmenters / "by_depth.py").write_text('class ByDepth:\n    """Another."""\n\n    limit = 2\n')
    (segmenters / "new.py").write_text('class New:\n    """New."""\n')
    assert told(package).stdout == before
    (segmenters / "by_colour.py").write_text('class ByColour:\n    """A segmenter."""\n\n    limit = 2\n')
    assert len({told(package).stdout, before, told(package, "digest('regions')").stdout}) == 3


def test_a_plug_in_that_does_not_exist_is_named(package):
    assert (
        "vlalign.annotate.regions.segmenters has no plug-in 'by-ear'"
        in told(package, "digest('regions', segmenters=['by-ear'])").stderr
    )


def test_a_data_file_counts_for_what_reads_it(package):
    calls = ["digest('report')", "digest('measure')"]
    before = [told(package, call).stdout for call in calls]
    sheet = package / "vlalign" / "reporting" / "templates" / "report.css"
    sheet.write_text(sheet.read_text() + "\n")
    after = [told(package, call).stdout for call in calls]
    assert (before[0] == after[0], before[1] == after[1]) == (False, True)


def test_an_edit_of_tables_measures_nothing_again():
    reporting = {name for name in freshness.modules("measure") if name.startswith("vlalign.reporting.")}
    assert {name.rpartition(".")[2] for name in reporting} == {"card", "cells", "results", "stats"}
    assert "vlalign.reporting.suites" in freshness.modules("evaluate")


@pytest.mark.slow
def test_a_damaged_cache_is_made_again(package):
    before = told(package).stdout
    cache = package / freshness.CACHE
    cache.parent.mkdir()
    for content in (None, b"{", b'{"x": 1}', b"\xff"):
        if content is not None:
            cache.write_bytes(content)
        assert told(package).stdout == before
    assert cache.read_bytes().startswith(b"{")


def test_code_that_is_no_python_is_named(package):
    (package / "vlalign" / "broken.py").write_text("def f(:\n")
    try:
        assert "broken.py" in told(package).stderr
        assert "VlalignError" in told(package).stderr
    finally:
        (package / "vlalign" / "broken.py").unlink()


def test_every_kind_has_a_room_of_its_own():
    assert len(set(KINDS.values())) == len(KINDS)
    assert digest("focus") != digest("collect")
