from fake_results import load_tree, write_tree

from vlalign.records import read_record, write_record
from vlalign.reporting.summary import compare, summarise


def labels(findings):
    return {finding.label for finding in findings}


def test_what_moved_and_what_did_not(results):
    found = compare(results, "powerclip", reference="clip")
    assert {"Grounding top-k", "Pointing"} <= labels(found.better)
    assert "Hard negatives" in labels(found.noise)
    assert not found.single


def test_lead_counts_every_comparison(results):
    summary = summarise(results)
    decided = sum(len(one.better) + len(one.worse) + len(one.noise) for one in summary.comparisons)
    assert summary.lead[0].startswith(f"Of {decided} paired differences to clip")
    assert "not distinguishable from noise" in summary.lead[0]
    assert f"about {0.05 * decided:.1f} would" in summary.lead[0]


def test_lead_names_what_moved_in_no_arm(results):
    still = next(sentence for sentence in summarise(results).lead if sentence.startswith("In no arm"))
    assert "Hard negatives" in still
    assert "Pointing" not in still


def test_control_is_compared_with_neither_itself_nor_the_baseline(results):
    assert {one.arm for one in summarise(results).controls}.isdisjoint({"clip", "linear"})


def test_one_seed_allows_no_conclusion(demo):
    summary = summarise(demo)
    assert len(summary.lead) == 1
    assert "no conclusion" in summary.lead[0]
    assert not summary.comparisons[0].better
    assert summary.controls == ()


def test_a_closed_gap_with_less_even_embeddings_is_cautioned(results):
    assert any(text.startswith("cs: image embeddings are less evenly spread") for text in summarise(results).cautions)


def test_trivial_subsets_are_cautioned_unless_regions_cost(tmp_path):
    runs = write_tree(tmp_path, arms=("clip", "powerclip"), taus=())
    assert any("all regions" in text for text in summarise(load_tree(tmp_path, runs)).cautions)
    for directory in runs:
        record = read_record(directory / "run.json")
        record["params"]["objective"]["powerset"]["cost"] = 0.3
        write_record(directory / "run.json", record)
    assert not any("all regions" in text for text in summarise(load_tree(tmp_path, runs)).cautions)


def test_without_the_baseline_there_is_nothing_to_compare(tmp_path):
    results = load_tree(tmp_path, write_tree(tmp_path, arms=("powerclip",), taus=()))
    assert summarise(results).lead == ("The arm clip was not run, so there is nothing to compare with.",)
