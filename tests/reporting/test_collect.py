import json

import pytest

from vlalign.errors import VlalignError
from vlalign.files import read_json
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


@pytest.mark.parametrize("value", ["high", True, None, float("nan")])
def test_what_is_no_number_is_named(run_dirs, value):
    file = run_dirs[0] / "metrics" / "zeroshot.json"
    file.write_text(json.dumps({"per_class": {"dog": value}}))
    with pytest.raises(VlalignError, match=r"zeroshot\.json.*zeroshot\.per_class\.dog"):
        collect(run_dirs)


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
    (run_dirs[0] / "metrics" / "modality.json").write_text('{"not_measured": "too few"}')
    after = collect(run_dirs[:1])["clip"]
    assert after == {path: entry for path, entry in before.items() if not path.startswith("modality.")}
    assert read_reasons(run_dirs[0]) == {"modality": "too few"}


@pytest.mark.parametrize(
    ("content", "message"),
    [
        ("[]", "is no record of a run"),
        ("{}", "has no 'run' as a run has; delete the run and train it again"),
        ('{"run": "a", "arm": "a", "seed": "0", "ablation": null, "params": {}}', "has no 'seed'"),
        (
            '{"run": "a", "arm": "a", "seed": 0, "ablation": {"name": "x"}, "params": {}}',
            "ablation has no param, value",
        ),
        ("{", "not valid JSON"),
    ],
)
def test_a_damaged_record_is_named(run_dirs, content, message):
    (run_dirs[0] / "run.json").write_text(content)
    with pytest.raises(VlalignError, match=rf"run\.json.*{message}"):
        collect(run_dirs)


@pytest.mark.parametrize(
    "content", ["[]", "3", '{"clip": []}', '{"clip": {"a": 1}}', '{"clip": {"a": {"mean": "b", "values": {}}}}']
)
def test_damaged_collected_metrics_are_named(run_dirs, tmp_path, content):
    (tmp_path / "metrics.json").write_text(content)
    for read in (
        lambda: focus_files(tmp_path / "metrics.json", run_dirs[0], tmp_path),
        lambda: load_results(tmp_path / "metrics.json", run_dirs),
    ):
        with pytest.raises(VlalignError, match=r"metrics\.json does not hold collected metrics; delete it"):
            read()
