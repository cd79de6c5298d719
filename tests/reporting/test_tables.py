import csv
import statistics

from vlalign.evaluation.benchmark import Metric
from vlalign.reporting.cells import interval_text, number
from vlalign.reporting.published import published_tables
from vlalign.reporting.results import Run, ablation_grids
from vlalign.reporting.stats import Difference
from vlalign.reporting.tables import arms_table, differences_table, measured_tables, write_tables


def rows(path):
    with path.open(newline="") as stream:
        return list(csv.DictReader(stream))


def table(results, name):
    return next(table for table in measured_tables(results) if table.name == name)


def test_numbers_carry_true_minus_signs():
    assert [number(x, signed=True) for x in (-0.04, 0.0, 1.25, -3)] == ["0.0", "0.0", "+1.2", "−3.0"]


def test_an_interval_that_excludes_zero_does_not_read_as_one_that_touches_it():
    assert interval_text(Difference(-2.3, -4.6, -0.02, 3), digits=1) == "[−4.60, −0.02]"
    assert interval_text(Difference(-2.3, -4.6, 0.02, 3), digits=1) == "[−4.6, 0.0]"
    assert interval_text(Difference(-2.3, None, None, 1), digits=1) == ""


def test_arms_stand_in_order_and_ablations_do_not_join_them(results):
    names = arms_table(results).header[1:]
    assert names[:3] == ("clip", "linear", "powerclip")
    assert names[-1] == "chance"
    assert not any(name.startswith("tau-") for name in names)


def test_retrieval_chance_follows_from_the_gallery(results):
    assert results.chance(Metric("image_to_text_r1", "", benchmark="retrieval")) == 0.05


def test_csv_is_unrounded_and_matches_the_metrics(results, tmp_path):
    paths = write_tables(results, tmp_path / "tables")
    assert all(path.exists() for path in paths)
    found = next(row for row in rows(tmp_path / "tables" / "arms.csv") if row["benchmark"] == "zeroshot")
    assert list(found) == ["run", "benchmark", "metric", "group", "stratum", "mean", "sd", "n", "chance"]
    values = [row.value for row in results.select(run="clip", benchmark="zeroshot", metric="accuracy")]
    assert (found["run"], found["metric"], found["n"], found["chance"]) == ("clip", "accuracy", "3", "5.0")
    assert float(found["mean"]) == statistics.fmean(values)


def test_differences_say_their_verdict(results, tmp_path):
    write_tables(results, tmp_path / "tables")
    differences = rows(tmp_path / "tables/differences-to-clip.csv")
    found = {(row["run"], row["metric"]): row["verdict"] for row in differences if row["group"] == "all"}
    assert found["powerclip", "top_k"] == "above"
    assert found["powerclip-literal", "image_to_text_r1"] == "below"
    assert found["cs", "macro"] == "not distinguishable from noise"


def test_lower_gap_is_better(results):
    shown = differences_table(results, reference="clip")
    column = shown.header.index("cs") - 1
    assert {row.name: row.cells[column].tone for row in shown.rows}["Modality gap"] == "better"


def test_grounding_reads_kinds_and_strata_from_the_data(results):
    shown = table(results, "grounding")
    assert shown.header[1:6] == ("one", "count", "conjunction", "multiple", "all")
    assert [row.name for row in shown.rows if row.kind == "group"] == ["all", "simple", "clutter"]
    assert [row.cells[0].text for row in shown.rows if row.kind == "chance"] == ["20.0"] * 3


def test_composition_has_a_column_for_each_category(results):
    assert "flip relation" in table(results, "composition").header


def test_ablation_includes_the_arm_at_its_own_value(results):
    shown = table(results, "ablation-tau")
    assert shown.header == ("tau", "0.0001", "0.001 (powerclip)", "0.01", "0.1", "clip")
    assert all(row.cells[-1].tone == "chance" for row in shown.rows), "clip stands beside the grid, not in it"


def test_an_arm_that_differs_in_more_is_no_point_of_the_grid(tmp_path):
    def run(name, ablation, **params):
        return Run(tmp_path, name, "arm", 0, ablation, params, {})

    changed = {"name": "grid", "param": "b", "value": 1}
    assert len(ablation_grids([run("arm", None, a=1, b=2), run("b-1", changed, a=1, b=1)])[0].points) == 2
    (grid,) = ablation_grids([run("arm", None, a=0, b=2), run("b-1", changed, a=1, b=1)])
    assert len(grid.points) == 1
    assert grid.changed == {"a": 1}
    assert "a = 1: compare them with each other, not with the arms" in grid.remark
    assert "One seed for each value" in grid.remark


def test_arms_say_how_many_parameters_they_train(results):
    found = {row.name: [cell.text for cell in row.cells] for row in table(results, "parameters").rows}
    assert list(found) == results.arms
    assert found["clip"] == ["1,000", "3,000", "25.0%"]


def test_the_smallest_results_have_no_empty_tables(demo):
    shown = measured_tables(demo)
    assert {"arms", "differences-to-clip", "grounding"} <= {table.name for table in shown}
    assert all(table.rows for table in shown)
    assert not any("linear" in table.name or "ablation" in table.name for table in shown)


def test_published_numbers_name_their_source_and_stay_apart(results):
    published = published_tables()
    assert published
    assert all("arXiv" in table.caption for table in published)
    assert not {table.name for table in published} & {table.name for table in measured_tables(results)}
