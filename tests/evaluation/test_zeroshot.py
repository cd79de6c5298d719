from pathlib import Path

import numpy as np
import open_clip
import pytest
import torch
import torch.nn.functional as F
from evaluation_cases import by_place, constant, overall, unit

from vlalign.errors import VlalignError
from vlalign.evaluation.benchmark import UnmeasurableError
from vlalign.evaluation.benchmarks.zeroshot import zeroshot_rows
from vlalign.evaluation.prompts import fill_templates, read_classnames, read_templates, zeroshot_classifier


def test_templates_are_filled_class_by_class() -> None:
    assert fill_templates(["dog", "cat"], ["a {c}", "{c}!"]) == ["a dog", "dog!", "a cat", "cat!"]


@pytest.mark.parametrize(
    "content", [b"dog\nbig cat\n", b"dog\nbig cat", b"\xef\xbb\xbfdog\r\nbig cat\r\n", b"dog\nbig cat\n\n"]
)
def test_names_are_lines(tmp_path: Path, content: bytes) -> None:
    (tmp_path / "names.txt").write_bytes(content)
    assert read_classnames(tmp_path / "names.txt") == ["dog", "big cat"]


def test_characters_at_which_python_ends_lines_may_stand_in_a_name(tmp_path: Path) -> None:
    (tmp_path / "names.txt").write_text("dog\u2028s\ncat\x0b\n", encoding="utf-8")
    assert read_classnames(tmp_path / "names.txt") == ["dog\u2028s", "cat"]


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (b"dog\n\ncat\n", r"names\.txt: line 2 is blank; write a class name there or delete the line"),
        (b"\ndog\n", "line 1 is blank"),
        (b"dog\n big  cat\nbird\nbig cat \n", r"names\.txt: lines 2 and 4 are both 'big cat'.*another name"),
        (b"missile\nmissile\n", "lines 1 and 2 are both 'missile'"),
        (b"", r"names\.txt has no class name"),
        (b"\n \n", r"names\.txt has no class name"),
        (b"dog\nc\xe4t\n", r"names\.txt: line 2 is not UTF-8; save the file as UTF-8"),
        ("dog\ncat\n".encode("utf-16"), "line 1 is not UTF-8"),
    ],
)
def test_damaged_names_are_refused_with_file_line_and_remedy(tmp_path: Path, content: bytes, message: str) -> None:
    (tmp_path / "names.txt").write_bytes(content)
    with pytest.raises(VlalignError, match=message):
        read_classnames(tmp_path / "names.txt")


def test_the_twins_of_openai_s_list_for_imagenet_are_kept(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    (tmp_path / "names.txt").write_text("\n".join(open_clip.IMAGENET_CLASSNAMES))
    assert read_classnames(tmp_path / "names.txt") == list(open_clip.IMAGENET_CLASSNAMES)
    assert caplog.text.count("all images of both count as wrong") == 2


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (b"a {c}\na photo of {}\n", r"templates\.txt: line 2, 'a photo of \{\}', has no \{c\}; write it"),
        (b"", r"templates\.txt has no template; write one per line"),
        (b"a {c}\n\nthe {c}\n", "line 2 is blank; write a template there"),
        (b"a {c}\nthe \xff{c}\n", "line 2 is not UTF-8"),
    ],
)
def test_damaged_templates_are_refused_with_file_line_and_remedy(tmp_path: Path, content: bytes, message: str) -> None:
    (tmp_path / "templates.txt").write_bytes(content)
    with pytest.raises(VlalignError, match=message):
        read_templates(tmp_path / "templates.txt")


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
    rows = zeroshot_rows(images, labels, classes, list("abcde"))
    scores, per_class = overall(rows), {row.group: row.value for row in rows if row.metric == "class_accuracy"}
    hits = np.array(
        [(x @ classes.numpy().T).argmax() == y for x, y in zip(images.numpy(), labels.numpy(), strict=True)]
    )
    assert scores["accuracy"] == pytest.approx(100 * hits.mean())
    assert scores["times_chance"] == pytest.approx(5 * hits.mean())
    assert {row.chance for row in rows if row.metric == "accuracy"} == {20}
    assert set(per_class) == {"abcde"[k] for k in labels.tolist()}
    assert per_class["b"] == pytest.approx(100 * hits[labels.numpy() == 1].mean())


def test_constant_and_perfect_model() -> None:
    labels = torch.arange(4)
    assert overall(zeroshot_rows(constant(4), labels, constant(4), list("abcd")))["accuracy"] == 0
    assert overall(zeroshot_rows(torch.eye(4), labels, torch.eye(4), list("abcd")))["accuracy"] == 100


def test_two_classes_of_one_name_have_one_accuracy_by_class() -> None:
    scores = by_place(zeroshot_rows(torch.eye(3), torch.tensor([0, 1, 0]), torch.eye(3), ["missile", "missile", "dog"]))
    assert scores["class_accuracy", "missile", "all"] == 100
    assert scores["accuracy", "all", "all"] == pytest.approx(200 / 3)


def test_one_class_measures_nothing() -> None:
    with pytest.raises(UnmeasurableError, match="at least 2 classes, not 1"):
        zeroshot_rows(constant(4), torch.zeros(4, dtype=torch.long), constant(1), ["a"])
