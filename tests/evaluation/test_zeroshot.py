import numpy as np
import pytest
import torch
import torch.nn.functional as F
from evaluation_cases import constant, unit

from vlalign.errors import VlalignError
from vlalign.evaluation.zeroshot import fill_templates, zeroshot_classifier, zeroshot_scores


def test_templates_are_filled_class_by_class() -> None:
    assert fill_templates(["dog", "cat"], ["a {c}", "{c}!"]) == ["a dog", "dog!", "a cat", "cat!"]


def test_template_without_place_is_an_error() -> None:
    with pytest.raises(VlalignError, match="a photo of"):
        fill_templates(["dog"], ["a photo of {}"])


def test_classifier_normalises_averages_and_normalises() -> None:
    prompts = torch.randn(6, 5, generator=torch.Generator().manual_seed(0)) * torch.arange(1, 7)[:, None]
    expected = []
    for k in range(3):
        mean = np.mean([row / np.linalg.norm(row) for row in prompts[2 * k : 2 * k + 2].numpy()], axis=0)
        expected.append(mean / np.linalg.norm(mean))
    np.testing.assert_allclose(zeroshot_classifier(prompts, 3).numpy(), np.array(expected), atol=1e-6)


def test_agrees_with_loops() -> None:
    labels = torch.randint(0, 4, (50,), generator=torch.Generator().manual_seed(1))
    classes = unit(5, 6)
    images = F.normalize(classes[labels] + 0.7 * unit(50, 6, seed=2), dim=1)
    scores = zeroshot_scores(images, labels, classes, list("abcde"))
    hits = np.array(
        [(x @ classes.numpy().T).argmax() == y for x, y in zip(images.numpy(), labels.numpy(), strict=True)]
    )
    assert scores["accuracy"] == pytest.approx(100 * hits.mean())
    assert scores["times_chance"] == pytest.approx(5 * hits.mean())
    assert set(scores["per_class"]) == {"abcde"[k] for k in labels.tolist()}
    assert scores["per_class"]["b"] == pytest.approx(100 * hits[labels.numpy() == 1].mean())


def test_constant_and_perfect_model() -> None:
    labels = torch.arange(4)
    assert zeroshot_scores(constant(4), labels, constant(4), list("abcd"))["accuracy"] == 0
    assert zeroshot_scores(torch.eye(4), labels, torch.eye(4), list("abcd"))["accuracy"] == 100


def test_label_without_a_name_is_an_error() -> None:
    with pytest.raises(VlalignError, match="label 3"):
        zeroshot_scores(torch.eye(4), torch.arange(4), torch.eye(4)[:3], list("abc"))
