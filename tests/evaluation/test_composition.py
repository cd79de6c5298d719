import json
from pathlib import Path

import numpy as np
import pytest
import torch
from evaluation_cases import by_place, overall, unit
from evaluation_data import encoder, picture
from own_files import write_json

from vlalign.data.samples import decode_image
from vlalign.data.shards.manifest import verify_split
from vlalign.data.shards.obtain import bring
from vlalign.data.sources.sugarcrepe import SugarcrepeSource
from vlalign.errors import VlalignError
from vlalign.evaluation.benchmarks.composition import composition_rows
from vlalign.evaluation.hard_negatives import CompositionItem, item_similarities, read_category
from vlalign.evaluation.workbench import Workbench
from vlalign.models.pictures import preprocess
from vlalign.params import VerifyParams


def naive(similarity: np.ndarray, paired: np.ndarray) -> dict[str, float]:
    accuracy = [s[0, 0] > s[0, 1] for s in similarity]
    text, image, group = [], [], []
    for s in similarity[paired]:
        text.append(s[0, 0] > s[0, 1] and s[1, 1] > s[1, 0])
        image.append(s[0, 0] > s[1, 0] and s[1, 1] > s[0, 1])
        group.append(text[-1] and image[-1])
    means = {"accuracy": accuracy, "text": text, "image": image, "group": group}
    return {name: 100 * float(np.mean(hits)) for name, hits in means.items()}


def scores_of(similarity: torch.Tensor, paired: torch.Tensor) -> dict[str, float]:
    """Those of one category."""
    return {row.metric: row.value for row in composition_rows({"a": (similarity, paired)}) if row.group == "a"}


def test_agrees_with_loops_under_ties() -> None:
    g = torch.Generator().manual_seed(0)
    similarity = torch.randint(0, 4, (200, 2, 2), generator=g) / 4
    paired = torch.rand(200, generator=g) < 0.6
    rows = composition_rows({"a": (similarity, paired)})
    counts = {row.metric: row.n for row in rows if row.group == "a"}
    assert counts == {"accuracy": 200, **dict.fromkeys(("text", "image", "group"), int(paired.sum()))}
    assert scores_of(similarity, paired) == pytest.approx(naive(similarity.numpy(), paired.numpy()))


def test_chance_is_what_random_scores_reach() -> None:
    similarity = torch.rand(20_000, 2, 2, generator=torch.Generator().manual_seed(0))
    for row in composition_rows({"a": (similarity, torch.ones(20_000).bool())}):
        assert row.value == pytest.approx(row.chance, abs=1.5)


def test_constant_model_gets_nothing() -> None:
    scores = scores_of(torch.ones(5, 2, 2), torch.ones(5).bool())
    assert scores == {"accuracy": 0, "text": 0, "image": 0, "group": 0}


def test_perfect_model_and_no_pairs() -> None:
    similarity = torch.eye(2).expand(5, 2, 2)
    assert scores_of(similarity, torch.ones(5).bool())["group"] == 100
    assert scores_of(similarity, torch.zeros(5).bool()) == {"accuracy": 100}


def test_means_over_items_categories_and_groups() -> None:
    right, wrong = torch.eye(2).expand(3, 2, 2), torch.zeros(1, 2, 2)
    rows = composition_rows(
        {
            "a": (right, torch.ones(3).bool()),
            "b": (wrong, torch.zeros(1).bool()),
            "empty": (wrong[:0], torch.zeros(0).bool()),
        }
    )
    assert {row.group for row in rows} == {"a", "b", "all"}
    assert overall(rows) == {"micro": 75, "macro": 50, "group": 100}
    assert by_place(rows)["accuracy", "b", "all"] == 0


def test_similarities_follow_the_items() -> None:
    images = dict(zip("pn", unit(2, 3), strict=True))
    captions = dict(zip(("yes", "no"), unit(2, 3, seed=1), strict=True))
    items = [CompositionItem("p", "yes", "no", "n"), CompositionItem("p", "yes", "no", None)]
    similarity, paired = item_similarities(items, images, captions)
    assert paired.tolist() == [True, False]
    torch.testing.assert_close(similarity[0, 1, 0], images["n"] @ captions["yes"])
    torch.testing.assert_close(similarity[1, 0, 1], images["p"] @ captions["no"])


def test_missing_image_is_named() -> None:
    with pytest.raises(VlalignError, match="image q "):
        item_similarities([CompositionItem("p", "c", "c", "q")], {"p": unit(3)}, {"c": unit(3)})


def test_reads_sugarcrepe_files(tmp_path: Path) -> None:
    path = tmp_path / "swap.json"
    item = {"filename": "007.png", "caption": "a", "negative_caption": "b"}
    path.write_text(json.dumps({"0": item, "1": item | {"negative_filename": "008.png"}}))
    assert [(i.key, i.negative_key) for i in read_category(path)] == [("007", None), ("007", "008")]
    path.write_text(json.dumps({"5": {"filename": "x.png", "caption": "a"}}))
    with pytest.raises(VlalignError, match=r"item 5 has no 'negative_caption'"):
        read_category(path)


def test_packed_pictures_are_found_by_their_paths_whatever_their_keys(tmp_path: Path) -> None:
    """Each is called like the running key of the other one."""
    names = {"000000001.png": "red", "000000000.png": "blue"}
    for name, colour in names.items():
        (tmp_path / name).write_bytes(picture(colour)[0])
    items = {name: {"filename": name, "caption": colour, "negative_caption": "no"} for name, colour in names.items()}
    write_json(tmp_path / "colours.json", items)
    source = SugarcrepeSource(source="sugarcrepe", annotations=".", images=".", names=("colours",))
    bring(source, tmp_path / "composition/test", base=tmp_path)
    verify_split(tmp_path / "composition/test", VerifyParams(), needs=("image",))
    model = encoder()
    categories, images, captions = Workbench(model, tmp_path).composition("test")
    assert [(item.key, item.caption) for item in categories["colours"]] == [("000000001", "blue"), ("000000000", "red")]
    for item in categories["colours"]:
        pixels = preprocess(model)([decode_image(picture(item.caption)[0])])
        torch.testing.assert_close(images[item.key], model.encode_image(pixels).embedding_ID[0].detach())
        assert captions.keys() >= {item.caption, item.negative_caption}


def test_a_packed_picture_that_is_missing_is_not_another_one(tmp_path: Path) -> None:
    item = {"filename": "000000000.png", "caption": "a", "negative_caption": "b"}
    path = write_json(tmp_path / "colours.json", {"0": item})
    (found,) = read_category(path, {"red.png": "000000000"})
    with pytest.raises(VlalignError, match=r"composition image 000000000\.png is not in the shards"):
        item_similarities([found], {"000000000": unit(3)}, {"a": unit(3), "b": unit(3)})
