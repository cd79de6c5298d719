"""Nothing that came with a model runs, and nobody is asked whether it may."""

import json

import pytest
import tiny_transformers
from tiny_sam import save_tiny
from training_runs import TOWER
from transformers import AutoConfig, AutoTokenizer

import vlalign
from vlalign import models
from vlalign.annotate.regions.sam_masks import load as load_sam
from vlalign.errors import VlalignError
from vlalign.foreign import no_foreign_code

CODE = """
from pathlib import Path
Path({mark!r}).touch()
from transformers import BertConfig, BertModel, PreTrainedTokenizerFast
class Config(BertConfig):
    model_type = "stranger"
class Model(BertModel):
    config_class = Config
class Tokenizer(PreTrainedTokenizerFast):
    pass
"""
AUTO = {"AutoConfig": "stranger.Config", "AutoModel": "stranger.Model", "AutoTokenizer": ["stranger.Tokenizer", None]}


@pytest.fixture
def mark(tmp_path, monkeypatch):
    """The file that foreign code would make; a question on the terminal is an error of the test."""
    monkeypatch.setattr("builtins.input", lambda *_: pytest.fail("somebody was asked"))
    return tmp_path / "ran"


@pytest.fixture
def stranger(tmp_path, mark):
    """A text tower of Hugging Face whose classes lie in a file beside it."""
    folder = tmp_path / "stranger"
    tiny_transformers.write(folder, "bert")
    (folder / "stranger.py").write_text(CODE.format(mark=str(mark)))
    for name in ("config.json", "tokenizer_config.json"):
        content = json.loads((folder / name).read_text())
        content |= {"auto_map": AUTO, "model_type": "stranger", "tokenizer_class": "Tokenizer"}
        (folder / name).write_text(json.dumps(content))
    return folder


def write_model(folder, text):
    """A model folder of a run, whose config has another text tower."""
    models.save(models.create(TOWER, pooling="average"), folder)
    config = json.loads((folder / "open_clip_config.json").read_text())
    config["model_cfg"]["text_cfg"] |= text
    (folder / "open_clip_config.json").write_text(json.dumps(config))
    return folder


def test_the_code_would_run_if_it_were_let(stranger, mark):
    """Otherwise the other tests could not fail."""
    AutoConfig.from_pretrained(stranger, trust_remote_code=True)
    assert mark.exists()


@pytest.mark.parametrize(
    "options",
    [{"trust_remote_code": True}, {"trust_remote_code": False}, {"revision": "x"}, {"bpe_path": "/etc/passwd"}, ["x"]],
)
def test_options_of_tokenizers_are_known_ones(tmp_path, stranger, mark, options):
    text = {"hf_tokenizer_name": str(stranger), "tokenizer_kwargs": options}
    folder = write_model(tmp_path / "model", text)
    with pytest.raises(VlalignError, match=r"open_clip_config\.json.*(trust_remote_code|tokenizer_kwargs)"):
        vlalign.load(folder)
    assert not mark.exists()


@pytest.mark.parametrize("key", ["hf_tokenizer_name", "hf_model_name"])
def test_classes_beside_a_model_are_not_loaded(tmp_path, stranger, mark, key):
    folder = write_model(tmp_path / "model", {key: str(stranger), "hf_model_pretrained": False})
    with pytest.raises(VlalignError, match=r"cannot be loaded|cannot make these towers"):
        vlalign.load(folder)
    tower = {**TOWER, "text_cfg": {**TOWER["text_cfg"], key: str(stranger), "hf_model_pretrained": False}}
    with pytest.raises(VlalignError, match=r"model\.tower"):
        models.create(tower, pooling="average")
    assert not mark.exists()


def test_trust_is_refused_at_any_depth(tmp_path, mark):
    folder = write_model(tmp_path / "model", {"more": [{"deep": {"trust_remote_code": 1}}]})
    with pytest.raises(VlalignError, match=r"open_clip_config\.json asks for `trust_remote_code`"):
        vlalign.load(folder)
    with pytest.raises(VlalignError, match=r"model\.tower asks for `trust_remote_code`"):
        models.create({**TOWER, "trust_remote_code": True}, pooling="average")


@pytest.mark.parametrize("name", ["config.json", "tokenizer_config.json"])
def test_trust_is_refused_in_the_files_beside_the_config(tmp_path, name):
    folder = write_model(tmp_path / "model", {})
    (folder / name).write_text('{"trust_remote_code": true}')
    with pytest.raises(VlalignError, match=rf"{name} asks for `trust_remote_code`"):
        vlalign.load(folder)


def test_a_segmenter_brings_no_code(tmp_path, mark):
    folder = save_tiny("Sam2", tmp_path / "sam")
    (folder / "stranger.py").write_text(CODE.format(mark=str(mark)))
    config = json.loads((folder / "config.json").read_text())
    config |= {"auto_map": AUTO | {"AutoModelForMaskGeneration": "stranger.Model"}, "model_type": "stranger"}
    (folder / "config.json").write_text(json.dumps(config))
    with pytest.raises(VlalignError, match="cannot be loaded as a SAM"):
        load_sam(str(folder), "main")
    assert not mark.exists()


def test_not_even_a_caller_that_trusts_runs_it(stranger, mark):
    with no_foreign_code():
        for kind in (AutoConfig, AutoTokenizer):
            with pytest.raises(ValueError, match="never runs"):
                kind.from_pretrained(stranger, trust_remote_code=True)
    assert not mark.exists()
