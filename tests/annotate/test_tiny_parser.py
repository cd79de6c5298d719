import hashlib
import random

import numpy as np
import pytest
import torch

from vlalign.annotate.phrases.parser import CaptionParser
from vlalign.annotate.phrases.tiny_parser import train_on_trees
from vlalign.data.scenes.grammar import sample_trees, text
from vlalign.records import read_record

FILES = ["en/constituency/tiny.pt", "en/pos/tiny.pt", "en/pretrain/tiny.pt"]


@pytest.fixture(scope="module")
def trees():
    return sample_trees(60, seed=5)


def tensors(value, name=""):
    if isinstance(value, torch.Tensor):
        yield name, value
    elif isinstance(value, dict):
        for key, item in value.items():
            yield from tensors(item, f"{name}/{key}")


def test_the_manifest_describes_the_folder_and_its_quality(model_dir):
    manifest = read_record(model_dir / "manifest.json")
    assert manifest["source"] == "train"
    assert manifest["language"] == "en"
    assert manifest["packages"] == {"pos": "tiny", "constituency": "tiny"}
    assert sorted(manifest["files"]) == FILES
    for name, expected in manifest["files"].items():
        assert hashlib.sha256((model_dir / name).read_bytes()).hexdigest() == expected["sha256"]
    assert manifest["held_out"]["trees"] == 34
    assert manifest["held_out"]["labelled_f1"] > 40
    assert manifest["held_out"]["tag_accuracy"] > 95


def test_it_parses_unseen_captions_of_its_grammar(model_dir):
    captions = [text(tree) for tree in sample_trees(50, seed=99)]
    parses = list(CaptionParser(model_dir).parse(captions))
    assert not any(parse.skipped for parse in parses)
    assert [" ".join(word.text for word in parse.words) for parse in parses] == captions


@pytest.mark.slow
def test_equal_seeds_give_equal_files_and_others_do_not(trees, tmp_path):
    for name, seed in (("first", 1), ("second", 1), ("third", 2)):
        train_on_trees(trees, tmp_path / name, seed=seed, epochs=1)
    for name in [*FILES, "manifest.json", "resources.json"]:
        first, second = ((tmp_path / folder / name).read_bytes() for folder in ("first", "second"))
        assert first == second, name
    first, third = (torch.load(tmp_path / folder / FILES[0], weights_only=True) for folder in ("first", "third"))
    pairs = list(zip(tensors(first), tensors(third), strict=True))
    assert pairs
    assert any(a.shape != b.shape or not torch.equal(a, b) for (_, a), (_, b) in pairs)


def test_training_is_quiet_and_leaves_no_trace(trees, tmp_path, capfd, caplog):
    torch.manual_seed(3), random.seed(3), np.random.seed(3)
    before = torch.get_rng_state(), random.getstate(), np.random.get_state()[1].tolist(), torch.get_num_threads()
    capfd.readouterr()
    train_on_trees(trees, tmp_path, seed=1, epochs=1)
    assert capfd.readouterr() == ("", "")
    assert not [record for record in caplog.records if record.name.startswith("stanza")]
    assert torch.equal(before[0], torch.get_rng_state())
    assert before[1:] == (random.getstate(), np.random.get_state()[1].tolist(), torch.get_num_threads())
    assert {path.relative_to(tmp_path).as_posix() for path in tmp_path.rglob("*") if path.is_file()} == {
        *FILES,
        "manifest.json",
        "resources.json",
    }


def test_the_files_name_no_folder_of_this_machine(model_dir, tmp_path_factory):
    for name in FILES:
        content = (model_dir / name).read_bytes()
        assert b"/tmp" not in content
        assert str(tmp_path_factory.getbasetemp()).encode() not in content


def test_training_needs_no_network(trees, tmp_path, no_network):
    train_on_trees(trees, tmp_path, seed=1, epochs=1)
    assert (tmp_path / "manifest.json").is_file()
