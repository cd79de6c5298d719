import json

import pytest
from fake_results import remeasure, rewrite, write_tree

from vlalign.errors import VlalignError
from vlalign.files import read_json
from vlalign.records import read_record, write_record
from vlalign.reporting.collect import collect, collect_metrics, focus, focus_files
from vlalign.reporting.metrics import read_reasons
from vlalign.reporting.results import load_results


def test_metrics_are_flattened_over_seeds(run_dirs):
    entry = collect(run_dirs)["powerclip"]["grounding.centred.clutter.one.top_k"]
    files = [read_json(path / "metrics" / "grounding.json") for path in run_dirs if path.parent.name == "powerclip"]
    values = [file["centred"]["clutter"]["one"]["top_k"] for file in files]
    assert entry["values"] == {str(seed): value for seed, value in enumerate(values)}
    assert entry["n"] == 3
    assert entry["mean"] == pytest.approx(sum(values) / 3)


def test_one_seed_has_no_sd(run_dirs):
    assert collect(run_dirs[:1])["clip"]["zeroshot.accuracy"]["sd"] is None


def test_order_of_runs_does_not_matter(run_dirs, tmp_path):
    collect_metrics(run_dirs, tmp_path / "a.json")
    collect_metrics(run_dirs[::-1], tmp_path / "b.json")
    assert (tmp_path / "a.json").read_bytes() == (tmp_path / "b.json").read_bytes()


def test_a_seed_given_twice_is_an_error(run_dirs):
    with pytest.raises(VlalignError, match="both seed 0 of clip"):
        collect([run_dirs[0], run_dirs[0]])


@pytest.mark.parametrize("value", ['"high"', "true", "null", "1e999", "[1]"])
def test_what_is_no_number_is_named(run_dirs, value):
    rewrite(run_dirs[0], "zeroshot.json", f'{{"per_class": {{"dog": {value}}}}}')
    with pytest.raises(VlalignError, match=r"zeroshot\.json: zeroshot\.per_class\.dog is .*, not a finite number"):
        collect(run_dirs)


@pytest.mark.parametrize("text", ['{"accuracy": NaN}', '{"accuracy": '])
def test_a_metric_file_that_is_not_json_is_named(run_dirs, text):
    rewrite(run_dirs[0], "zeroshot.json", text)
    with pytest.raises(VlalignError, match=r"zeroshot\.json is not valid JSON"):
        collect(run_dirs)


def test_metrics_that_are_not_finite_are_not_written(run_dirs):
    with pytest.raises(ValueError, match="not JSON compliant"):
        remeasure(run_dirs[0], zeroshot={"per_class": {"dog": float("nan")}})


@pytest.mark.parametrize("read", [lambda run: collect([run]), read_reasons], ids=["metrics", "reasons"])
def test_metrics_that_were_changed_since_they_were_measured_are_refused(run_dirs, read):
    [run, other] = run_dirs[:2]
    file = run / "metrics" / "zeroshot.json"
    file.write_text(file.read_text().replace("1", "2"))
    with pytest.raises(VlalignError, match=r"zeroshot\.json is not the file that .*evaluation\.json describes.*delete"):
        read(run)
    file.unlink()
    with pytest.raises(VlalignError, match=r"zeroshot\.json is named in .*evaluation\.json but cannot be read"):
        read(run)
    record = other / "metrics" / "evaluation.json"
    record.write_text(record.read_text().replace("zeroshot.json", "zeroshots.json"))
    with pytest.raises(VlalignError, match=r"evaluation\.json was changed or damaged after it was written; delete .*"):
        read(other)


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
    assert small["grounding"].keys() == {"top_k", "multiple_top_k", "multiple_exact", "pointing_accuracy"}
    assert small["retrieval"].keys() == {"image_to_text_r1", "text_to_image_r1"}
    assert small["zeroshot"]["accuracy"] == round(metrics["clip"]["zeroshot.accuracy"]["mean"], 4)
    assert all(isinstance(value, float) for benchmark in small.values() for value in benchmark.values())


def test_focus_on_an_unknown_run_names_the_known_ones():
    with pytest.raises(VlalignError, match="clip"):
        focus({"clip": {}}, "cilp")


def test_a_benchmark_that_was_not_measured_has_no_numbers(run_dirs):
    before = collect(run_dirs[:1])["clip"]
    remeasure(run_dirs[0], modality={"not_measured": "too few"})
    after = collect(run_dirs[:1])["clip"]
    assert after == {path: entry for path, entry in before.items() if not path.startswith("modality.")}
    assert read_reasons(run_dirs[0]) == {"modality": "too few"}


@pytest.mark.parametrize(
    ("content", "message"),
    [
        ({}, "has no 'run' as a run has; delete the run and train it again"),
        ({"run": "a", "arm": "a", "seed": "0", "ablation": None, "params": {}}, "has no 'seed'"),
        (
            {"run": "clip", "arm": "a", "seed": 0, "ablation": {"name": "x"}, "params": {}},
            "ablation has no param, value",
        ),
    ],
)
def test_a_record_without_what_a_run_has_is_named(run_dirs, content, message):
    write_record(run_dirs[0] / "run.json", content)
    with pytest.raises(VlalignError, match=rf"run\.json.*{message}"):
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


@pytest.mark.parametrize(
    "content", [{"clip": []}, {"clip": {"a": 1}}, {"clip": {"a": {"mean": "b", "values": {}}}}], ids=json.dumps
)
def test_what_is_no_collected_metrics_is_named(run_dirs, tmp_path, content):
    write_record(tmp_path / "metrics.json", content)
    for read in readers(tmp_path / "metrics.json", run_dirs):
        with pytest.raises(VlalignError, match=r"metrics\.json does not hold collected metrics; delete it"):
            read()


@pytest.mark.parametrize(("damage", "message"), DAMAGED)
def test_damaged_collected_metrics_are_named(run_dirs, tmp_path, damage, message):
    file = tmp_path / "metrics.json"
    collect_metrics(run_dirs, file)
    assert read_record(file) == collect(run_dirs)
    file.write_text(damage(file.read_text()))
    for read in readers(file, run_dirs):
        with pytest.raises(VlalignError, match=rf"metrics\.json {message}.*; delete it"):
            read()
