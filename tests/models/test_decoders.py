"""Language models of the Llama family as text towers, small and random."""

import itertools
import json
from pathlib import Path

import pytest
import tiny_transformers
import torch
from fetching import point_at
from hub_server import HubServer
from huggingface_hub import constants
from transformers import AutoTokenizer, LlamaConfig, LlamaModel

from vlalign import models
from vlalign.errors import VlalignError

TOWERS = Path(__file__).parents[2] / "config" / "towers"
CONFIG = json.loads((TOWERS / "test.json").read_text())
RECIPE = json.loads((TOWERS / "vit-l-14-llama-3-8b.json").read_text())
LLAMA = RECIPE["text_cfg"]["hf_model_name"]
CAPTIONS = ["a red dog", "", "a red dog above a table", "far more words than the context of this tower has room for"]


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    """Weights in half precision, as they are published."""
    path = tmp_path_factory.mktemp("llama")
    tiny_transformers.write(path, "llama")
    torch.manual_seed(0)
    LlamaModel(LlamaConfig.from_pretrained(path)).bfloat16().save_pretrained(path)
    return path


def config(name, **text):
    told = {**RECIPE["text_cfg"], "hf_model_name": str(name), "context_length": 16, **text}
    return {"embed_dim": tiny_transformers.SHAPE["hidden_size"], "vision_cfg": CONFIG["vision_cfg"], "text_cfg": told}


def test_the_embedding_is_the_mean_over_the_words_of_the_model_alone(folder):
    encoder = models.create(config(folder), pooling="default").eval()
    tokenizer, plain = AutoTokenizer.from_pretrained(folder), LlamaModel.from_pretrained(folder).float().eval()
    with torch.no_grad():
        found = encoder.tower_text(encoder.tokenizer(CAPTIONS))
        for row, caption in enumerate(CAPTIONS):
            ids = torch.tensor([tokenizer(caption)["input_ids"][:16]])
            states_LW = plain(input_ids=ids).last_hidden_state[0]
            torch.testing.assert_close(found.pooled_NW[row], states_LW.mean(0), rtol=0, atol=1e-5)
            torch.testing.assert_close(found.tokens_NLW[row, : len(states_LW)], states_LW, rtol=0, atol=1e-5)
            assert found.mask_NL[row].sum() == len(states_LW)
    assert {value.dtype for value in encoder.clip.text.parameters()} == {torch.float32}


def test_a_folder_gives_the_same_tower_again(folder, tmp_path):
    encoder = models.create(config(folder), pooling="default").eval()
    models.save(encoder, tmp_path)
    with torch.no_grad():
        first, again = (one.encode_text(one.tokenizer(CAPTIONS)) for one in (encoder, models.load(tmp_path)))
    assert torch.equal(first.embedding_CD, again.embedding_CD)
    assert torch.equal(first.mask_CL, again.mask_CL)


@pytest.mark.parametrize(
    ("options", "problem"),
    [
        ({}, "has no token for padding"),
        ({"pad_token": "<|none of its tokens|>"}, "has a padding token that the tower does not know"),
    ],
)
def test_padding_that_the_tower_does_not_know_is_refused(tmp_path, options, problem):
    name = tiny_transformers.write(tmp_path, "llama")
    told = json.loads((tmp_path / "config.json").read_text()) | {"vocab_size": len(AutoTokenizer.from_pretrained(name))}
    (tmp_path / "config.json").write_text(json.dumps(told))
    with pytest.raises(
        VlalignError, match=rf"the tokenizer {problem}; name one .* text_cfg\.tokenizer_kwargs\.pad_token"
    ):
        models.create(config(name, hf_model_pretrained=False, tokenizer_kwargs=options), pooling="default")


@pytest.mark.parametrize("fault", ["gated", 401])
def test_a_model_whose_licence_was_not_accepted_says_what_to_do(monkeypatch, fault):
    with HubServer() as hub:
        point_at(hub, monkeypatch)
        # transformers asks the hub that was named when it was imported.
        template = constants.HUGGINGFACE_CO_URL_TEMPLATE.replace(constants.ENDPOINT, hub.url)
        monkeypatch.setattr(constants, "HUGGINGFACE_CO_URL_TEMPLATE", template)
        monkeypatch.setattr(constants, "ENDPOINT", hub.url)
        hub.commit({"config.json": b"{}"}, repository=LLAMA)
        hub.faults = {"config.json": itertools.repeat(fault)}
        with pytest.raises(VlalignError) as raised:
            models.create({**RECIPE, "vision_cfg": CONFIG["vision_cfg"]}, pooling="default")
    told = str(raised.value)
    assert told.startswith(
        f"model.tower: text_cfg.hf_model_name: model repository {LLAMA} at main: the hub does not let"
    )
    assert f"do so at {hub.url}/{LLAMA}, then run `hf auth login`" in told
