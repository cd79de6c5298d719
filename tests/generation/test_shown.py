"""What the report shows of generated pictures."""

import re
import shutil

import pytest
import yaml
from generating_runs import settings

from vlalign.evaluation.benchmark import MetricRow
from vlalign.evaluation.metrics import Measurement, write_metrics
from vlalign.generation.decoders import load_decoder
from vlalign.generation.pictures import Captions, Generator, generate
from vlalign.params import Folders, load, parse, relevant
from vlalign.reporting.figure import Measured
from vlalign.reporting.figures.generated import GeneratedPictures
from vlalign.reporting.generated_table import generation_tables
from vlalign.reporting.results import Results, Run


def measured(*values):
    """Rows of one seed: of the generated and of the real pictures."""
    rows = [MetricRow(metric="fid_inception", value=values[0], n=10)]
    rows += [MetricRow(metric="fid_inception", group="real", value=3.25, n=5)]
    rows += [MetricRow(metric="clip_score", value=values[1], n=10, chance=0.05)]
    return [*rows, MetricRow(metric="clip_score", group="real", value=0.3, n=10, chance=0.06)]


def test_a_table_has_runs_real_pictures_and_chance(tmp_path):
    params = parse({**settings("karlo"), "runs": {"arms": ["adapted"], "seeds": [0, 1]}})
    folders = Folders.of(tmp_path, "scenes")
    assert generation_tables(params, folders) == [], "before anything was generated"
    for seed, values in enumerate([(12.0, 0.2), (14.0, 0.3)]):
        rows = Measurement(rows=measured(*values))
        write_metrics(folders.run("adapted", seed) / "generation", {"generation": rows}, {}, measured={})
    (table,) = generation_tables(params, folders)
    assert table.header == ("run", "FID (Inception)", "CLIP score")
    shown = {row.name: [cell.text for cell in row.cells] for row in table.rows}
    assert shown == {
        "adapted": ["13.00", "0.250"],
        "real pictures": ["3.25", "0.300"],
        "chance": ["–", "0.050"],
    }
    assert table.rows[0].cells[0].note == "± 1.41"
    assert [record["value"] for record in table.records if record["metric"] == "clip_score"] == [0.2, 0.3, 0.3, 0.3]
    assert generation_tables(parse({**settings("karlo"), "generation": None}), folders) == []


def test_a_figure_has_a_row_for_each_caption_and_a_column_for_each_run(generating, tmp_path):
    shutil.copytree(generating.run, tmp_path / "results/runs/adapted/seed-0")
    (tmp_path / "params.yaml").write_text(yaml.safe_dump(settings("karlo")))
    params = load(tmp_path / "params.yaml")
    decoder = load_decoder(generating.root / "decoders" / "karlo", params.generation.decoder)
    generator = Generator(generating.encoder, decoder, Captions(generating.split, 4), name="adapted")
    generate(generator, Folders.of(tmp_path, "scenes").generated("adapted", 0), made_of={})
    run = Run(tmp_path / "results/runs/adapted/seed-0", "adapted", "adapted", 0, None, {}, {})
    source = Measured(Results([], (run,), "adapted", "adapted"), tmp_path / "precision.csv")
    figure = next(figure for figure in params.figures if figure.name == "generated")
    figure.draw("generated", source, tmp_path / "generated.svg")
    drawn = (tmp_path / "generated.svg").read_text()
    assert drawn.count("<image") == 4 * 3
    assert all(name in drawn for name in ("real", "from the picture", "adapted"))
    words = next(generator.captions.samples()).captions[0].split()[:2]
    assert re.search(" ".join(words), drawn)


@pytest.mark.parametrize("generates", [True, False])
def test_it_is_drawn_where_pictures_are_generated_alone(generates):
    changes = {} if generates else {"generation": None}
    params = parse({**settings("karlo"), **changes})
    assert any(isinstance(figure, GeneratedPictures) for figure in params.figures) == generates
    drawn = {figure["figure"] for figure in relevant(params, "report")["figures"]}
    assert ("generated" in drawn) == generates
