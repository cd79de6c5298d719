"""A new figure is one file: it is in the schema, checked, drawn, and in the report, and nothing else is made again."""

import json

import pytest
from documentation import block

pytestmark = pytest.mark.slow

PLUGIN = block("docs/figure.md", "class LeagueFigure(")
SVG = "results/figures/league.svg"


@pytest.fixture(scope="module")
def repository(finished, tmp_path_factory):
    """A clone whose workflow has finished before the figure was there."""
    repository = finished.copy(tmp_path_factory.mktemp("figure") / "clone")
    (repository.root / "src/vlalign/reporting/figures/league.py").write_text(PLUGIN)
    return repository


def test_its_params_are_in_the_schema_and_checked(repository, tmp_path):
    schema = json.loads(repository.run("vlalign", "schema"))
    assert schema["$defs"]["LeagueFigure"]["properties"]["metric"]["type"] == "string"
    overlay = tmp_path / "overlay.yaml"
    overlay.write_text(json.dumps({"report": {"figures": [{"figure": "league", "metrik": "x"}]}}))
    result = repository.attempt("vlalign", "validate", "params.yaml", overlay)
    assert result.returncode == 1
    assert "report.figures.0.metrik: unknown key" in result.stdout


def test_the_workflow_draws_it_and_nothing_else_is_made_again(repository):
    assert repository.plan() == {"report"}
    repository.run("snakemake", "--cores", "1", "all")
    page = (repository.root / "results/report.html").read_text()
    assert (repository.root / SVG).is_file()
    assert 'id="figure-league"' in page
    assert "The league of arms." in page
    assert "Means over seeds of Image → text R@1." in page
    assert 'id="figure-training"' in page


@pytest.mark.exhaustive
def test_params_restrict_the_figures_and_an_edit_reruns_what_draws_it(repository):
    repository.set_params({"report": {"figures": [{"figure": "league", "metric": "Zero-shot accuracy"}, "similarity"]}})
    assert repository.plan() == {"illustrate", "report"}
    repository.run("snakemake", "--cores", "1", "all")
    page = (repository.root / "results/report.html").read_text()
    assert "Means over seeds of Zero-shot accuracy." in page
    assert 'id="figure-training"' not in page
    plugins = repository.root / "src/vlalign/reporting/figures"
    (plugins / "training.py").write_text((plugins / "training.py").read_text().replace("FEW = 12", "FEW = 13"))
    assert repository.plan() == set(), "this figure is not drawn"
    (plugins / "league.py").write_text(PLUGIN.replace("height=2", "height=3"))
    assert repository.plan() == {"report"}
    (plugins / "league.py").write_text(PLUGIN)
    repository.set_params({"report": {"figures": []}})
    assert repository.plan() == {"illustrate", "report"}
    repository.run("snakemake", "--cores", "1", "all")
