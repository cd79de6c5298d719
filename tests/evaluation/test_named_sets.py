"""The sets that figures show are those that grounding counts."""

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from evaluation_data import encoder, parsed, squares

from vlalign.analysis.illustrations import ShownRun, with_referents
from vlalign.analysis.named_sets import EXPONENT, best_subsets, labelled_pictures, named_phrases, named_sets
from vlalign.data.samples import decode_instances
from vlalign.data.shards.manifest import write_split
from vlalign.evaluation import workbench
from vlalign.evaluation.benchmarks.grounding import Grounding
from vlalign.evaluation.workbench import Workbench
from vlalign.records import write_record

IMAGES = 12


@pytest.fixture
def run(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> ShownRun:
    """Of random weights, on two splits of the same pictures, of which the second has fewer."""
    for split, count in (("validation", IMAGES), ("test", IMAGES - 3)):
        write_split(tmp_path / split, squares(count), source={})
        write_record(tmp_path / "annotations/phrases" / split / "manifest.json", {})
    phrases = {sample.key: parsed(sample) for sample in squares(IMAGES)}
    monkeypatch.setattr(workbench, "read_phrases", lambda _: phrases)
    bench = Workbench(encoder(), tmp_path, tmp_path / "annotations")
    return ShownRun("run", tmp_path, bench, "test", is_compared=True, is_subject=True)


def test_named_sets_are_those_that_grounding_counts(run: ShownRun) -> None:
    rows = {
        row.metric: row for row in Grounding().measure(run.bench, "test") if (row.group, row.stratum) == ("all",) * 2
    }
    dense = run.features.dense
    assert dense is not None
    found = named_sets(dense, run.tuning)
    assert found.exponent == rows["exponent"].value
    assert np.array_equal((found.named_NR == found.scores.referents_NR).all(1).numpy(), rows["prefix_exact"].items)
    [scene, *_] = with_referents(run.features, dense, run.bench.data / "test", grid=(4, 4), found=run.named)
    assert scene.exponent == found.exponent
    names = [(set(named.nonzero()[:, 0].tolist())) for named in found.named_NR[: len(scene.phrases)]]
    assert (scene.phrases, scene.named) == ([phrase.text for phrase in dense.phrases[: len(names)]], names)
    assert scene.referents == [{0}, {0, 1}]


def test_phrases_are_told_with_their_pictures(run: ShownRun) -> None:
    phrases = named_phrases(run)
    assert phrases is not None
    assert len(phrases.texts) == len(phrases.places) == len(phrases.named_NR) == 3 * (IMAGES - 3)
    assert phrases.referents_NR[:3].tolist() == [[True, False], [True, True], [True, False]]
    assert [image for image, *_ in phrases.places[:4]] == [0, 0, 0, 1]
    samples = list(squares(IMAGES))
    pictures = labelled_pictures(phrases.split, (4, 2, 4))
    assert list(pictures) == [2, 4]
    for row, (image, labels) in pictures.items():
        assert image.shape == (32, 32, 3)
        assert np.array_equal(labels, decode_instances(samples[row].instances))
    assert named_phrases(replace(run, bench=replace(run.bench, dense=False, _splits={}))) is None


def test_without_a_split_to_tune_on_the_means_are_its_own_and_the_exponent_is_given(run: ShownRun) -> None:
    dense = run.features.dense
    assert dense is not None
    found = named_sets(dense)
    assert found.exponent == EXPONENT
    assert torch.equal(found.scores.regions_NR, named_sets(dense, dense).scores.regions_NR)
    nothing = replace(dense, phrases=(), phrases_ND=dense.phrases_ND[:0])
    assert named_sets(dense, nothing).exponent == EXPONENT


def test_the_best_subset_where_nobody_knows_what_is_meant() -> None:
    similarity = torch.tensor([[0.5, 0.45, -torch.inf, 0.0], [-0.3, -0.1, 0.0, -0.2], [-torch.inf] * 4])
    assert best_subsets(similarity) == [{0, 1}, {2}, set()]
    assert best_subsets(similarity, 1.0) == [{0}, {2}, set()]
    assert best_subsets(similarity[:, :0]) == [set()] * 3
