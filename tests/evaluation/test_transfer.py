import numpy as np
import pytest
import torch
import torch.nn.functional as F
from evaluation_cases import constant, overall, unit

from vlalign.evaluation.benchmarks.transfer import classifier_rows, mixed_gallery_rows
from vlalign.evaluation.ranking import percent
from vlalign.evaluation.recall import mixed_hits


def naive_mixed(queries: np.ndarray, partners: np.ndarray) -> float:
    hits = []
    for i, query in enumerate(queries):
        others = [x for j, x in enumerate(queries) if j != i] + [x for j, x in enumerate(partners) if j != i]
        hits.append(all(query @ partners[i] > query @ other + 1e-6 for other in others))
    return 100 * float(np.mean(hits))


@pytest.mark.parametrize("noise", [0.2, 0.6, 1.5])
def test_agrees_with_loops(noise: float) -> None:
    images = unit(60, 5)
    captions = F.normalize(images + noise * unit(60, 5, seed=1), dim=1)
    expected = naive_mixed(images.numpy(), captions.numpy())
    assert percent(mixed_hits(images, captions)) == pytest.approx(expected)
    assert percent(mixed_hits(images, captions, chunk=7)) == pytest.approx(expected)


def test_constant_and_perfect_model() -> None:
    nothing = {"mixed_image_to_text_r1": 0, "mixed_text_to_image_r1": 0}
    assert overall(mixed_gallery_rows(constant(5), constant(5))) == nothing
    assert percent(mixed_hits(torch.eye(5), torch.eye(5))) == 100


def test_modality_gap_hides_pairs_from_a_mixed_gallery() -> None:
    gap = torch.zeros(31)
    gap[-1] = 3.0
    images, captions = F.normalize(F.pad(torch.eye(30), (0, 1)) + gap, dim=1), F.pad(torch.eye(30), (0, 1))
    assert percent(mixed_hits(images, captions)) == 0


def test_classifier_moves_to_text_only_where_the_spaces_agree() -> None:
    labels = torch.arange(3).repeat(20)
    images = F.normalize(torch.eye(3)[labels] + 0.2 * unit(60, 3), dim=1)
    tests = {"images": (images, labels), "text": (torch.eye(3), torch.arange(3))}
    rows = classifier_rows((images, labels), tests, classes=3)
    assert overall(rows) == {"classifier_on_images": 100, "classifier_on_text": 100, "classes": 3}
    assert {row.chance for row in rows if row.metric != "classes"} == {100 / 3}
    turned = {"text": (torch.eye(3)[[1, 2, 0]], torch.arange(3))}
    assert overall(classifier_rows((images, labels), turned, classes=3))["classifier_on_text"] == 0
