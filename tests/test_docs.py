"""The documentation: links lead somewhere, nothing is missing from the reference, and the code in it runs."""

import inspect
import json
import pkgutil
import re
import subprocess
import sys

import pytest
import torch
import yaml
from annotated_scenes import write_annotated
from documentation import ROOT, block

from vlalign import cli, models, objectives, params
from vlalign.params.cards import CARD, SUITE, Card, Suite, known, read_card
from vlalign.params.sources import Source
from vlalign.registry import plugins

sys.path.insert(0, str(ROOT / "docs"))
import reference

GENERATED = {
    ROOT / "docs/reference/params.md": reference.params_page(params.schema()),
    ROOT / "docs/reference/commands.md": reference.commands_page(),
}
WRITTEN = [*ROOT.glob("*.md"), *(ROOT / "docs").rglob("*.md")]
PAGES = {page: page.read_text(encoding="utf-8") for page in WRITTEN} | GENERATED
CODE = re.compile(r"^```.*?^```", re.DOTALL | re.MULTILINE)
TITLE = re.compile(r'^```.*title="([^"]+)"', re.MULTILINE)
FOLDERS = "benchmarks|config|docs|examples|src|tests|workflow"


def named(page):
    return str(page.relative_to(ROOT))


def anchors(text):
    """What links to the headings of a page end with, as mkdocs makes them."""
    for heading in re.findall(r"^#+ (.*)$", CODE.sub("", text), re.MULTILINE):
        given = re.search(r"\{ #(\S+) \}", heading)
        plain = re.sub(r"[^\w\s-]", "", heading).strip().lower()
        yield given[1] if given else re.sub(r"[-\s]+", "-", plain)


@pytest.mark.parametrize("page", PAGES, ids=named)
def test_links_lead_somewhere(page):
    for target in re.findall(r"\]\((?!https?://)([^)\s]+)\)", CODE.sub("", PAGES[page])):
        path, _, anchor = target.partition("#")
        file = (page.parent / path).resolve() if path else page
        assert file in PAGES or file.exists(), target
        assert not anchor or anchor in anchors(PAGES[file]), target


@pytest.mark.parametrize("page", WRITTEN, ids=named)
def test_the_files_that_a_page_names_are_there(page):
    text = PAGES[page]
    made = set(TITLE.findall(text))
    for path in re.findall(rf"(?<![\w/])((?:{FOLDERS})/[\w./-]*\w/?)(?![\w*<{{])", text):
        assert (ROOT / path).exists() or (ROOT / f"{path}.py").exists() or path in made, path


def test_every_page_is_in_the_navigation():
    def pages(entry):
        values = entry.values() if isinstance(entry, dict) else entry if isinstance(entry, list) else None
        return [entry] if values is None else [page for value in values for page in pages(value)]

    found = pages(yaml.safe_load((ROOT / "mkdocs.yml").read_text())["nav"])
    assert {ROOT / "docs" / page for page in found} == {page for page in PAGES if page.is_relative_to(ROOT / "docs")}
    assert len(found) == len(set(found))


def test_every_param_is_in_the_reference():
    schema, page = params.schema(), GENERATED[ROOT / "docs/reference/params.md"]
    for part in (schema, *schema["$defs"].values()):
        for key, field in part["properties"].items():
            assert f"| `{key}` |" in page
            assert " ".join(field.get("description", "").split()).replace("|", "\\|").replace("<", "&lt;") in page
    assert all(f"{{ #{name.lower()} }}" in page for name in schema["$defs"])


def test_every_command_is_in_the_reference_with_its_options():
    page = GENERATED[ROOT / "docs/reference/commands.md"]
    modules = {module.name for module in pkgutil.iter_modules(cli.__path__)} - cli.SHARED
    names = {name.replace("_", "-") for name in modules}
    sections = {part.split(maxsplit=1)[0]: part for part in page.split("\n## vlalign ")[1:]}
    assert sections.keys() == names
    for name, command in reference.commands().items():
        options = [option for param in command.params for option in param.opts if option.startswith("--")]
        assert all(f"`{option}" in sections[name] for option in options if option != "--help")


def test_the_page_of_cards_lists_every_suite_and_every_card():
    assert reference.CARDS in PAGES[ROOT / "docs/cards.md"]
    suites, cards = reference.cards_lists().split("## Cards")
    for names, listed in ((known(SUITE, [reference.BENCHMARKS]), suites), (known(CARD, [reference.BENCHMARKS]), cards)):
        assert re.findall(r"^\| `([^`]+)`", listed, re.MULTILINE) == list(names)
    assert "| 5,000 images, 25,010 captions | `hub` |" in cards


def test_the_card_of_the_page_is_valid_and_its_keys_are_all_there_are(tmp_path):
    (tmp_path / "birds.yaml").write_text(block("docs/cards.md", "title: Birds", language="yaml"))
    card = read_card("birds", [tmp_path])
    assert card.counts.images == 1200
    text = PAGES[ROOT / "docs/cards.md"]
    for key in (*Card.model_fields, "task", "cards", "published"):
        assert f"`{key}`" in text or key == "name"
    assert {"task", "cards", "published"} <= set(Suite.model_fields)


def test_every_source_stands_in_a_table_with_its_own_keys():
    text = PAGES[ROOT / "docs/data.md"] + PAGES[ROOT / "docs/cards.md"]
    for name, kind in plugins(Source, "vlalign.data.sources").items():
        (row,) = re.findall(rf"^\| `{name}` \|.*", text, re.MULTILINE)
        own = set(kind.model_fields) - {"source", "part", "shard_size"}
        assert all(key in row for key in own), (name, own)


def test_the_whole_interface_of_the_losses_is_in_the_reference():
    page = PAGES[ROOT / "docs/reference/api.md"]
    assert set(re.findall(r"^::: vlalign\.objectives\.(\w+)$", page, re.MULTILINE)) == set(objectives.__all__)
    for path in re.findall(r"^::: (\S+)$", page, re.MULTILINE):
        module, _, name = path.rpartition(".")
        assert inspect.getdoc(getattr(__import__(module, fromlist=[name]), name))


def test_the_losses_can_be_lifted_out_as_the_readme_says():
    torch.manual_seed(0)
    names: dict = {}
    exec(block("README.md", "powerset_loss"), names)
    assert names["features"].grad.isfinite().all()
    assert names["features"].grad.abs().sum() > 0


def test_the_losses_can_be_lifted_out_of_the_towers_tokens():
    torch.manual_seed(0)
    names: dict = {}
    exec(block("docs/loop.md", "powerset_loss"), names)
    assert names["tokens_CLD"].grad.isfinite().all()
    assert names["tokens_CLD"].grad.abs().sum() > 0
    assert names["triplet"].item() > 0


def trained(folder):
    tower = json.loads((ROOT / "config" / "towers" / "test.json").read_text())
    models.save(models.create(tower, pooling="average"), folder)


def test_a_run_is_loaded_as_the_page_says(tmp_path, monkeypatch):
    trained(tmp_path / "results/runs/powerclip/seed-0")
    monkeypatch.chdir(tmp_path)
    names: dict = {}
    exec(block("docs/models.md", "vlalign.load"), names)
    assert names["text"].embedding_CD.shape == (1, 16)


def test_the_tour_follows_a_sample_to_the_loss(tmp_path, monkeypatch, capsys):
    write_annotated(tmp_path)
    for kind in ("phrases", "regions"):
        (tmp_path / "demo/data/annotations/scenes" / kind).mkdir(parents=True)
        (tmp_path / kind).rename(tmp_path / "demo/data/annotations/scenes" / kind / "validation")
    (tmp_path / "demo/data/scenes").mkdir()
    (tmp_path / "split").rename(tmp_path / "demo/data/scenes/validation")
    trained(tmp_path / "demo/results/runs/powerclip/seed-0")
    monkeypatch.chdir(tmp_path)
    exec(block("docs/index.md", "powerset_loss"), {})
    said = capsys.readouterr().out.splitlines()
    assert said[-1].startswith("loss ")
    assert float(said[-1].split()[1]) > 0
    assert len(re.findall(r"-?\d+\.\d+", said[-2])) == 8


@pytest.mark.slow
def test_the_site_is_built_without_a_warning(tmp_path):
    pytest.importorskip("mkdocs")
    command = [sys.executable, "-m", "mkdocs", "build", "--strict", "--site-dir", tmp_path / "site"]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    mathematics = (tmp_path / "site/objectives/index.html").read_text()
    assert "<math" in mathematics
    assert "arithmatex" not in mathematics
    for page in (tmp_path / "site").rglob("*.html"):
        assert not re.search(r'<(?:script|link)[^>]*(?:src|href)="https?://', page.read_text())
