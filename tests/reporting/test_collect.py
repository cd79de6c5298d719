import json
import statistics

import pytest
from fake_results import remeasure, rewrite, row, unmeasured, write_cell, write_tree

from vlalign.errors import VlalignError
from vlalign.evaluation.metrics import read_collected, read_metrics
from vlalign.params.cards import Suite
from vlalign.records import write_record
from vlalign.reporting.collect import collect, collect_metrics, focus, focus_files, focus_texts
from vlalign.reporting.results import load_results

VALUES = ('"high"', "true", "null", "1e999", "[1]")


def test_rows_say_of_which_run_and_seed_they_are(run_dirs):
    rows = [row for row in collect(run_dirs) if row.run == "powerclip" and row.benchmark == "grounding"]
    runs = [path for path in run_dirs if path.parent.name == "powerclip"]
    files = {seed: read_metrics(path)["grounding"].rows for seed, path in enumerate(runs)}
    assert rows == [row.model_copy(update={"run": "powerclip", "seed": seed}) for seed in files for row in files[seed]]
    found = [row.value for row in rows if (row.metric, row.group, row.stratum) == ("top_k", "one", "clutter")]
    assert len(set(found)) == 3


def test_one_seed_has_no_sd(tmp_path, run_dirs):
    collect_metrics(run_dirs[:1], tmp_path / "metrics.json")
    results = load_results(tmp_path / "metrics.json", run_dirs[:1])
    assert {results.spread("clip", metric).sd for metric in results.headline} == {None}


def test_order_of_runs_does_not_matter(run_dirs, tmp_path):
    collect_metrics(run_dirs, tmp_path / "a.json")
    collect_metrics(run_dirs[::-1], tmp_path / "b.json")
    assert (tmp_path / "a.json").read_bytes() == (tmp_path / "b.json").read_bytes()


def test_a_seed_given_twice_is_an_error(run_dirs):
    with pytest.raises(VlalignError, match="both seed 0 of clip"):
        collect([run_dirs[0], run_dirs[0]])


@pytest.mark.parametrize(
    ("content", "key"),
    [
        *((f'{{"rows": [{{"metric": "accuracy", "value": {value}}}]}}', "rows.0.value: ") for value in VALUES),
        ('{"rows": [{"metric": 3, "value": 1}]}', "rows.0.metric: Input should be a valid string"),
        ('{"rows": [{"metric": "accuracy"}]}', "rows.0.value: Field required"),
        ('{"rows": [{"metric": "a", "value": 1, "n": 1.5}]}', "rows.0.n: "),
        ('{"rows": {}}', "rows: "),
        ('{"accuracy": 3}', "accuracy: unknown key"),
        ('{"not_measured": 3}', "not_measured: "),
        ("[]", "Input should be a valid dictionary"),
    ],
)
def test_what_is_no_file_of_metrics_is_named_with_its_key(run_dirs, content, key):
    rewrite(run_dirs[0], "zeroshot.json", content)
    with pytest.raises(VlalignError, match=rf"(?s)zeroshot\.json does not hold metrics; delete it .*\n{key}"):
        collect(run_dirs)


@pytest.mark.parametrize("text", ['{"accuracy": NaN}', '{"accuracy": '])
def test_a_metric_file_that_is_not_json_is_named(run_dirs, text):
    rewrite(run_dirs[0], "zeroshot.json", text)
    with pytest.raises(VlalignError, match=r"zeroshot\.json is not valid JSON"):
        collect(run_dirs)


def test_metrics_that_are_not_finite_are_no_rows():
    with pytest.raises(ValueError, match="finite number"):
        row("accuracy", float("nan"))


def test_metrics_that_were_changed_since_they_were_measured_are_refused(run_dirs):
    [run, other] = run_dirs[:2]
    file = run / "metrics" / "zeroshot.json"
    file.write_text(file.read_text().replace("1", "2"))
    with pytest.raises(VlalignError, match=r"zeroshot\.json is not the file that .*evaluation\.json describes.*delete"):
        collect([run])
    file.unlink()
    with pytest.raises(VlalignError, match=r"zeroshot\.json is named in .*evaluation\.json but cannot be read"):
        collect([run])
    record = other / "metrics" / "evaluation.json"
    record.write_text(record.read_text().replace("zeroshot.json", "zeroshots.json"))
    with pytest.raises(VlalignError, match=r"evaluation\.json was changed or damaged after it was written; delete .*"):
        collect([other])


def test_a_metric_file_that_no_evaluation_vouches_for_is_not_read(run_dirs):
    before = collect(run_dirs)
    (run_dirs[0] / "metrics" / "mine.json").write_text('{"accuracy": 100}')
    assert collect(run_dirs) == before


def test_a_run_that_was_not_measured_is_named(run_dirs):
    (run_dirs[0] / "metrics" / "evaluation.json").unlink()
    with pytest.raises(VlalignError, match=r"seed-0 holds no metrics; evaluate the run first"):
        collect(run_dirs)


def test_a_history_that_was_changed_since_it_was_written_is_refused(tmp_path):
    [run] = write_tree(tmp_path, arms=("clip",), seeds=(0,), taus=())
    history = run / "history.csv"
    history.write_text(history.read_text() + "610,0,0\n")
    with pytest.raises(VlalignError, match=r"history\.csv is not the file that .*run\.json describes.*train it again"):
        collect([run])


def test_missing_run_json_is_named(tmp_path):
    with pytest.raises(VlalignError, match=r"run\.json"):
        collect([tmp_path])


def test_focus_holds_headline_means_one_level_deep(run_dirs):
    metrics = collect(run_dirs)
    small = focus(metrics, "clip")
    values = [row.value for row in metrics if (row.run, row.benchmark, row.metric) == ("clip", "zeroshot", "accuracy")]
    assert small["grounding"].keys() == {"top_k", "multiple_top_k", "multiple_exact", "pointing_accuracy"}
    assert small["retrieval"].keys() == {"image_to_text_r1", "text_to_image_r1"}
    assert small["zeroshot"]["accuracy"] == round(statistics.fmean(values), 4)
    assert all(isinstance(value, float) for benchmark in small.values() for value in benchmark.values())


def test_focus_holds_the_means_of_suites_over_the_seeds_of_the_run(run_dirs, tmp_path):
    """A seed that was left out of params later is none."""
    content = {"name": "mine", "title": "Mine", "task": "zeroshot", "metrics": ["accuracy"]}
    card = {"name": "birds", "title": "Birds", "tasks": ["zeroshot"]}
    card["sources"] = {"test": {"source": "folder", "folder": "birds"}}
    suite = Suite.model_validate({**content, "cards": [card]})
    seeds = [path for path in run_dirs if path.parent.name == "powerclip"]
    for value, folder in zip((10.0, 20.0, 60.0), seeds, strict=True):
        write_cell(folder, "birds", {"accuracy": value})
    collect_metrics(run_dirs, tmp_path / "all.json")
    collect_metrics(seeds[:2], tmp_path / "two.json")
    for name, mean in (("all", 30.0), ("two", 15.0)):
        texts = focus_texts(tmp_path / f"{name}.json", seeds[0], [suite])
        assert json.loads(texts["metrics.json"])["suite-mine"] == {"birds": mean, "mean": mean}


def test_focus_on_an_unknown_run_names_the_known_ones():
    with pytest.raises(VlalignError, match="clip"):
        focus([row("accuracy", 50, run="clip", seed=0)], "cilp")


def test_where_no_run_could_be_measured_there_is_nothing_to_focus_on():
    assert focus([], "clip") == {}


def test_a_benchmark_that_was_not_measured_has_no_numbers(run_dirs):
    before = collect(run_dirs[:1])
    remeasure(run_dirs[0], modality=unmeasured("too few"))
    assert collect(run_dirs[:1]) == [row for row in before if row.benchmark != "modality"]
    assert read_metrics(run_dirs[0])["modality"].not_measured == "too few"


@pytest.mark.parametrize(
    ("content", "message"),
    [
        ({}, "run: Field required"),
        (
            {"run": "a", "arm": "a", "seed": "0", "ablation": None, "params": {}},
            "seed: Input should be",
        ),
        (
            {"run": "clip", "arm": "a", "seed": 0, "ablation": {"name": "x"}, "params": {}},
            "ablation.param: Field required",
        ),
        ({"run": "clip", "arm": "a", "seed": 0, "ablation": None, "params": {}, "files": []}, "files: "),
    ],
)
def test_a_record_without_what_a_run_has_is_named(run_dirs, content, message):
    write_record(run_dirs[0] / "run.json", content)
    with pytest.raises(VlalignError, match=rf"(?s)run\.json is not the record of a run; delete .*again:.*{message}"):
        collect(run_dirs)


DAMAGED = [
    (lambda text: text.replace("0.", "1.", 1), "was changed or damaged after it was written"),
    (lambda text: text.replace("$sha256", "sha256"), r"has no key `\$sha256`"),
    (lambda text: "[]", "is no record: it holds list, not an object"),
    (lambda text: "3", "is no record: it holds int, not an object"),
    (lambda text: text[:-3], "is not valid JSON"),
]


@pytest.mark.parametrize(("damage", "message"), DAMAGED)
def test_a_damaged_record_is_named(run_dirs, damage, message):
    file = run_dirs[0] / "run.json"
    file.write_text(damage(file.read_text()))
    with pytest.raises(VlalignError, match=rf"run\.json {message}.*; delete"):
        collect(run_dirs)


def readers(metrics, run_dirs):
    yield lambda: focus_files(metrics, run_dirs[0], metrics.parent)
    yield lambda: load_results(metrics, run_dirs)


ROW = {"run": "clip", "seed": 0, "benchmark": "a", "metric": "b", "value": 1.0}


@pytest.mark.parametrize(
    ("content", "message"),
    [
        ({"clip": []}, "does not hold metrics; delete it and run the workflow again:\nclip: unknown key"),
        ({"rows": [{**ROW, "value": "b"}]}, "does not hold metrics.*rows.0.value: "),
        ({"rows": [{**ROW, "seed": "0"}]}, "does not hold metrics.*rows.0.seed: "),
        ({"rows": [{**ROW, "run": ""}]}, "has rows without `run` or `seed`; delete it"),
        ({"rows": [{**ROW, "seed": None}]}, "has rows without `run` or `seed`; delete it"),
        (
            {"rows": [{**ROW, "benchmark": ""}]},
            "has rows without `benchmark`, or one that stands there twice; delete it",
        ),
        ({"rows": [ROW, ROW]}, "has rows without `benchmark`, or one that stands there twice; delete it"),
    ],
    ids=str,
)
def test_what_is_no_collected_metrics_is_named(run_dirs, tmp_path, content, message):
    write_record(tmp_path / "metrics.json", content)
    for read in readers(tmp_path / "metrics.json", run_dirs):
        with pytest.raises(VlalignError, match=rf"(?s)metrics\.json {message}"):
            read()


@pytest.mark.parametrize(("damage", "message"), DAMAGED)
def test_damaged_collected_metrics_are_named(run_dirs, tmp_path, damage, message):
    file = tmp_path / "metrics.json"
    collect_metrics(run_dirs, file)
    assert read_collected(file) == collect(run_dirs)
    file.write_text(damage(file.read_text()))
    for read in readers(file, run_dirs):
        with pytest.raises(VlalignError, match=rf"metrics\.json {message}.*; delete it"):
            read()
