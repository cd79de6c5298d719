"""Models of every kind, small and random, opened beside open_clip's own loader."""

import itertools
import json
from pathlib import Path

import open_clip
import pytest
import tiny_transformers
import torch
from fetching import empty_hub
from safetensors.torch import load_file, save, save_file

from vlalign import models
from vlalign.errors import VlalignError
from vlalign.models.opened import open_model
from vlalign.params.cards import EvaluatedModel
from vlalign.records import stamp

CONFIG = json.loads((Path(__file__).parents[2] / "config" / "towers" / "test.json").read_text())
VIT, TEXT = CONFIG["vision_cfg"], CONFIG["text_cfg"]
PLAIN = {**CONFIG, "vision_cfg": {key: value for key, value in VIT.items() if key != "pool_type"}}
QUICK = {**PLAIN, "quick_gelu": True}
PREPROCESS = {"mean": [0.5, 0.4, 0.3], "std": [0.2, 0.25, 0.3], "interpolation": "bilinear", "resize_mode": "squash"}
CAPTIONS = ["a dog", "two red cats above a green house", ""]
AUTHORS = "KMasaki/PowerCLIP-ViT-B-16-CC12M"


@pytest.fixture
def hub(monkeypatch, tmp_path):
    with empty_hub(monkeypatch, tmp_path / "cache") as server:
        yield server


def clip(config=PLAIN, seed=1):
    """open_clip's own model, its text parameters beside those of the whole."""
    torch.manual_seed(seed)
    return open_clip.CLIP(**config).eval()


def pictures(size=32):
    return torch.randn(3, 3, size, size, generator=torch.Generator().manual_seed(1))


@torch.no_grad()
def differences(opened, theirs, tokenizer=None):
    """The largest difference of an image embedding, and of a text embedding, from those of open_clip's model."""
    ids = (tokenizer or opened.encoder.tokenizer)(CAPTIONS)
    assert torch.equal(ids, opened.encoder.tokenizer(CAPTIONS))
    images = pictures(opened.encoder.image_size)
    ours = opened.encoder.encode_image(images).embedding_ID, opened.encoder.encode_text(ids).embedding_CD
    others = theirs.encode_image(images, normalize=True), theirs.encode_text(ids, normalize=True)
    return tuple((one - other).abs().max().item() for one, other in zip(ours, others, strict=True))


def write_folder(folder, config=PLAIN, *, weights="open_clip_model.safetensors", state=None):
    folder.mkdir()
    state = clip(config).state_dict() if state is None else state
    save_file(state, folder / weights) if weights.endswith("safetensors") else torch.save(state, folder / weights)
    content = {"model_cfg": config, "preprocess_cfg": PREPROCESS}
    (folder / "open_clip_config.json").write_text(json.dumps(content))
    return folder


def opened(folder=None, **options):
    return open_model(EvaluatedModel(folder=None if folder is None else str(folder), **options))


def refused(message, **options):
    with pytest.raises(VlalignError, match=f"(?s){message}"):
        open_model(EvaluatedModel(**options), key="models.mine")


KINDS = {
    "stock": PLAIN,
    "quick-gelu": QUICK,
    "image average": CONFIG,
    "text first": {**PLAIN, "text_cfg": {**TEXT, "pool_type": "first", "no_causal_mask": True}},
    "text last": {**PLAIN, "text_cfg": {**TEXT, "pool_type": "last"}},
    "text end": {**PLAIN, "text_cfg": {**TEXT, "pool_type": "eos", "eos_id": 49407}},
}


@pytest.mark.parametrize("weights", ["open_clip_model.safetensors", "open_clip_pytorch_model.bin", "epoch_3.pt"])
@pytest.mark.parametrize("kind", KINDS)
def test_a_folder_gives_what_open_clip_gives(tmp_path, kind, weights):
    """Whatever its towers pool; open_clip itself knows no `.pt` in a folder."""
    folder = write_folder(tmp_path / "model", KINDS[kind], weights=weights)
    found = opened(folder)
    if weights.endswith(".pt"):
        (folder / weights).rename(folder / "model.pth")
    theirs, _, _ = open_clip.create_model_and_transforms(f"local-dir:{folder}")
    assert differences(found, theirs.eval(), open_clip.get_tokenizer(f"local-dir:{folder}")) == (0, 0)
    assert found.pooling == "default"
    assert found.activation == ("quick-gelu" if kind == "quick-gelu" else "gelu")
    assert {key: found.encoder.preprocess[key] for key in PREPROCESS} == PREPROCESS
    assert not found.encoder.training


def test_weights_are_identified_by_their_file(tmp_path):
    folder = write_folder(tmp_path / "model")
    found, again = opened(folder), opened(folder, activation="gelu", pooling="default")
    assert found.weights == stamp(folder / "open_clip_model.safetensors")["sha256"]
    assert found.drawn is found.commit is None
    assert found.identity() == again.identity()
    others = [
        opened(folder, pooling="average"),
        opened(folder, activation="quick-gelu"),
        opened(write_folder(tmp_path / "other", state=clip(seed=2).state_dict())),
    ]
    identities = [json.dumps(one.identity(), sort_keys=True) for one in (found, *others)]
    assert len(set(identities)) == 4
    config = json.loads((folder / "open_clip_config.json").read_text())
    config["preprocess_cfg"]["mean"][0] = 0.6
    (folder / "open_clip_config.json").write_text(json.dumps(config))
    assert opened(folder).identity() not in [one.identity() for one in (found, *others)]


def test_a_run_is_opened_as_it_was_trained(tmp_path):
    torch.manual_seed(0)
    models.save(models.create(CONFIG, pooling="average"), tmp_path / "run")
    found = open_model(EvaluatedModel(folder="run"), base=tmp_path)
    assert (found.pooling, found.activation) == ("average", "gelu")
    plain = models.load(tmp_path / "run")
    ids = plain.tokenizer(CAPTIONS)
    with torch.no_grad():
        assert torch.equal(found.encoder.encode_text(ids).embedding_CD, plain.encode_text(ids).embedding_CD)
    says = r"models\.mine\.{} is {}, but \S+open_clip_config\.json says {}; correct it, or leave it out"
    refused(says.format("pooling", "default", "average"), folder=str(tmp_path / "run"), pooling="default")
    refused(says.format("activation", "quick-gelu", "gelu"), folder=str(tmp_path / "run"), activation="quick-gelu")


def test_a_text_tower_of_transformers_is_opened_from_its_folder(tmp_path):
    name = tiny_transformers.write(tmp_path / "bert", "bert")
    text = {"hf_model_name": name, "hf_tokenizer_name": name, "hf_proj_type": "linear", "context_length": 16}
    towers = {**PLAIN, "text_cfg": {**text, "hf_model_pretrained": False}}
    models.save(models.create(towers, pooling="default"), tmp_path / "run")
    found, theirs = opened(tmp_path / "run"), open_clip.create_model(f"local-dir:{tmp_path / 'run'}").eval()
    assert differences(found, theirs, open_clip.get_tokenizer(f"local-dir:{tmp_path / 'run'}")) == (0, 0)
    (tmp_path / "run").rename(tmp_path / "moved")
    assert opened(tmp_path / "moved").identity() == found.identity()
    vocabulary = (tmp_path / "moved" / "tokenizer.json").read_text()
    (tmp_path / "moved" / "tokenizer.json").write_text(vocabulary.replace('"skate":', '"skata":'))
    assert opened(tmp_path / "moved").identity() != found.identity()


def test_average_pooling_that_a_fork_names_is_stated_not_guessed(tmp_path):
    fork = {**PLAIN, "text_cfg": {**TEXT, "pool_type": "avg"}}
    folder = write_folder(tmp_path / "fork", fork, state=clip().state_dict())
    refused(
        r"text_cfg\.pool_type is 'avg', and open_clip knows argmax.*average of all tokens but the padding, set pooling",
        folder=str(folder),
    )
    stock = opened(write_folder(tmp_path / "stock"), pooling="average").encoder
    ids = stock.tokenizer(CAPTIONS)
    with torch.no_grad():
        found = opened(folder, pooling="average").encoder.encode_text(ids).embedding_CD
        assert torch.equal(found, stock.encode_text(ids).embedding_CD)


def test_several_files_of_weights_are_not_chosen_from(tmp_path):
    folder = write_folder(tmp_path / "model", weights="epoch_1.pt")
    torch.save({}, folder / "epoch_2.pt")
    refused(r"model holds several files of weights \(epoch_1\.pt, epoch_2\.pt\); keep one", folder=str(folder))
    save_file(clip().state_dict(), folder / "model.safetensors")
    assert opened(folder).weights == stamp(folder / "model.safetensors")["sha256"]


# Files as open_clip's trainer leaves them, from one process or several, and plain ones.
@pytest.mark.parametrize("form", ["trainer", "trainer, several", "state", "safetensors", "custom text"])
@pytest.mark.parametrize("quick", [False, True])
def test_a_file_of_weights_is_read_as_open_clip_reads_it(tmp_path, form, quick):
    model = clip(QUICK if quick else PLAIN)
    state, path = model.state_dict(), tmp_path / "epoch_2.pt"
    if form == "custom text":
        state = open_clip.model.convert_to_custom_text_state_dict(state)
    if form.startswith("trainer"):
        optimizer = torch.optim.AdamW(model.parameters())
        model.encode_text(torch.zeros(1, TEXT["context_length"], dtype=torch.long)).sum().backward()
        optimizer.step()
        state = {f"module.{name}": value for name, value in state.items()} if "several" in form else state
        state = {"epoch": 2, "name": "mine", "state_dict": state, "optimizer": optimizer.state_dict()}
    if form == "safetensors":
        path = path.with_suffix(".safetensors")
        save_file(state, path)
    else:
        torch.save(state, path)
    activation = "quick-gelu" if quick else "gelu"
    (tmp_path / "mine.json").write_text(json.dumps(PLAIN))
    spec = EvaluatedModel(tower="mine.json", pretrained=path.name, activation=activation, pooling="default")
    found = open_model(spec, base=tmp_path)
    assert differences(found, model.eval()) == (0, 0)
    assert (found.weights, found.activation) == (stamp(path)["sha256"], activation)
    assert found.source == f"towers of a config, {path.name}"


def test_a_config_with_preprocessing_and_pooling_speaks_for_a_file(tmp_path):
    torch.manual_seed(0)
    encoder = models.create(CONFIG, pooling="average")
    encoder.set_preprocessing(PREPROCESS)
    models.save(encoder, tmp_path)
    tower, weights = str(tmp_path / "open_clip_config.json"), str(tmp_path / "model.safetensors")
    found = open_model(EvaluatedModel(tower=tower, pretrained=weights))
    assert (found.pooling, found.activation) == ("average", "gelu")
    assert found.encoder.preprocess == encoder.preprocess
    refused(
        "pooling is default, but models.mine.tower says average", tower=tower, pretrained=weights, pooling="default"
    )


def test_what_a_file_of_weights_does_not_say_has_to_be_stated(tmp_path):
    path = tmp_path / "epoch_1.pt"
    torch.save(clip().state_dict(), path)
    told = {"tower": PLAIN, "pretrained": str(path)}
    start = r"models\.mine\.pretrained: \S+epoch_1\.pt does not say with which {} its towers were trained.*set "
    activation, pooling = r"models\.mine\.activation \(gelu or quick-gelu\)", r"models\.mine\.pooling \(average or def"
    by_hand = r".*, by hand --activation and --pooling"
    refused(start.format("activation and pooling") + f"{activation} and {pooling}{by_hand}", **told)
    refused(start.format("activation") + activation, **told, pooling="default")
    refused(start.format("pooling") + pooling, **told, activation="gelu")
    refused(start.format("pooling") + pooling, **{**told, "tower": QUICK})
    says = r"models\.mine\.activation is gelu, but models\.mine\.tower says quick-gelu"
    refused(says, **{**told, "tower": QUICK}, activation="gelu", pooling="default")
    refused(says, tower="ViT-B-32-quickgelu", pretrained=str(path), activation="gelu", pooling="default")
    refused(says, tower="ViT-B-32-quickgelu", activation="gelu")
    refused("mine.tower: '3' is not an open_clip model", tower={"model_cfg": 3})
    refused("mine.tower: the config has no `vision_cfg`", tower={**PLAIN, "vision_cfg": 3})
    refused("mine.tower: hf-hub:a/b has weights of its own; give it as models.mine.hub or", tower="hf-hub:a/b")


@pytest.mark.parametrize(
    ("config", "message"),
    [
        (
            {**PLAIN, "vision_cfg": {**PLAIN["vision_cfg"], "image_size": 64}},
            "pictures of 32 pixels, this one takes 64",
        ),
        ({**PLAIN, "text_cfg": {**TEXT, "context_length": 77}}, "a tower for 28 tokens, this one takes 77"),
        ({**PLAIN, "embed_dim": 24}, "cannot be loaded into these towers .*size mismatch"),
    ],
)
@pytest.mark.parametrize("suffix", [".pt", ".safetensors"])
def test_weights_of_other_towers_are_refused_and_nothing_is_resized(tmp_path, config, message, suffix):
    folder = write_folder(tmp_path / "model", config, weights=f"weights{suffix}", state=clip().state_dict())
    refused(message, folder=str(folder))
    weights = str(folder / f"weights{suffix}")
    refused(message, tower=config, pretrained=weights, activation="gelu", pooling="default")


class Harm:
    def __reduce__(self):
        return Path.touch, (Path(self.mark),)


@pytest.mark.parametrize("place", ["bin", "checkpoint"])
def test_a_pickle_that_would_run_code_is_refused(tmp_path, place):
    harm = Harm()
    harm.mark = str(tmp_path / "ran")
    state = clip().state_dict()
    content = {"state_dict": state, "args": harm} if place == "checkpoint" else {**state, "harm": harm}
    folder = write_folder(tmp_path / "model", weights="open_clip_pytorch_model.bin", state=content)
    told = {"folder": str(folder)}
    if place == "checkpoint":
        weights = str(folder / "open_clip_pytorch_model.bin")
        told = {"tower": PLAIN, "pretrained": weights, "activation": "gelu", "pooling": "default"}
    refused("cannot be loaded as weights.*holds more than tensors and plain values, which would run code", **told)
    assert not (tmp_path / "ran").exists()


def test_damage_and_strange_files_are_named(tmp_path):
    (tmp_path / "weights.pt").write_bytes(b"nothing")
    (tmp_path / "weights.npz").write_bytes(b"nothing")
    torch.save({"state_dict": {"a": 1}}, tmp_path / "empty.pt")
    told = {"tower": PLAIN, "activation": "gelu", "pooling": "default"}
    refused(r"weights\.pt cannot be loaded as weights", **told, pretrained=str(tmp_path / "weights.pt"))
    refused(
        r"empty\.pt cannot be loaded as weights \(it holds no tensors\)", **told, pretrained=str(tmp_path / "empty.pt")
    )
    refused(r"weights\.npz is no file of weights that is read here", **told, pretrained=str(tmp_path / "weights.npz"))
    missing = {"tower": "ViT-B-16", "pretrained": "laion2c"}
    refused(r"models\.mine\.pretrained: 'laion2c' is neither a file .*: openai.*laion2b_s34b_b88k", **missing)
    refused(r"models\.mine\.tower: 'ViT-Absent' is not an open_clip model", tower="ViT-Absent")
    refused(r"models\.mine\.tower lacks text_cfg", tower={"embed_dim": 4, "vision_cfg": {}})
    refused(r"absent\.json does not exist", tower="absent.json")
    refused(r"is no folder of a model: it has no open_clip_config\.json", folder=str(tmp_path))
    (tmp_path / "weights.pt").unlink(), (tmp_path / "empty.pt").unlink()
    (tmp_path / "open_clip_config.json").write_text(json.dumps({"model_cfg": PLAIN}))
    refused(r"model\.safetensors does not exist, nor another file of weights", folder=str(tmp_path))


def test_code_that_comes_with_a_model_is_refused(tmp_path):
    folder = write_folder(tmp_path / "model")
    asks = {**PLAIN, "text_cfg": {**TEXT, "trust_remote_code": True}}
    (folder / "open_clip_config.json").write_text(json.dumps({"model_cfg": asks}))
    refused(r"open_clip_config\.json asks for `trust_remote_code`", folder=str(folder))
    refused(r"models\.mine\.tower asks for `trust_remote_code`", tower=asks)


def test_random_weights_are_those_of_their_seed(tmp_path):
    before = torch.random.get_rng_state()
    one, again, other = (open_model(EvaluatedModel(tower=PLAIN, seed=seed)) for seed in (3, 3, 4))
    assert torch.equal(torch.random.get_rng_state(), before)
    assert one.weights is None
    assert one.identity() == again.identity() != other.identity()
    first, second, third = (model.encoder.clip.visual.proj for model in (one, again, other))
    assert torch.equal(first, second)
    assert not torch.equal(first, third)
    assert one.drawn != open_model(EvaluatedModel(tower=QUICK, seed=3)).drawn
    assert open_model(EvaluatedModel(tower=PLAIN, activation="quick-gelu")).activation == "quick-gelu"
    assert one.source == "towers of a config, random weights of seed 3"


def test_towers_whose_activations_are_their_own_have_none_to_state(tmp_path):
    name = tiny_transformers.write(tmp_path / "bert", "bert")
    text = {"hf_model_name": name, "hf_tokenizer_name": name, "hf_proj_type": "linear", "context_length": 16}
    vision = {"timm_model_name": "test_vit", "timm_model_pretrained": True, "image_size": 160}
    tower = {"embed_dim": 16, "vision_cfg": vision, "text_cfg": text}
    # Random means random: nothing of timm's or transformers' is fetched.
    found = open_model(EvaluatedModel(tower=tower))
    assert found.activation is None
    refused(
        r"models\.mine\.activation: the towers of timm and transformers have their own", tower=tower, activation="gelu"
    )
    path = tmp_path / "weights.pt"
    torch.save(found.encoder.clip.state_dict(), path)
    again = open_model(EvaluatedModel(tower=tower, pretrained=str(path), pooling="default"))
    assert differences(again, found.encoder.clip) == (0, 0)


TAG = {"mean": (0.5, 0.5, 0.5), "std": (0.25, 0.25, 0.25), "resize_mode": "squash"}


@pytest.fixture
def tiny_tower(tmp_path, monkeypatch):
    """An open_clip name with two tags, of which the weights are on this disk."""
    for name, config in (("tiny", PLAIN), ("tiny-quickgelu", QUICK)):
        monkeypatch.setitem(open_clip.factory._MODEL_CONFIGS, name, config)
        torch.save(clip(config).state_dict(), tmp_path / f"{name}.pt")
        tags = {"plain": {"file": str(tmp_path / f"{name}.pt"), **TAG}}
        tags["quick"] = {**tags["plain"], "quick_gelu": True}
        monkeypatch.setitem(open_clip.pretrained._PRETRAINED, name, tags)


@pytest.mark.parametrize(("name", "tag"), [("tiny", "plain"), ("tiny-quickgelu", "quick")])
def test_a_tag_says_all_that_open_clip_knows_of_it(tiny_tower, name, tag):
    found = open_model(EvaluatedModel(tower=name, pretrained=tag))
    theirs, _, transform = open_clip.create_model_and_transforms(name, tag)
    assert differences(found, theirs.eval(), open_clip.get_tokenizer(name)) == (0, 0)
    assert found.encoder.preprocess["resize_mode"] == "squash"
    assert tuple(transform.transforms[-1].mean) == tuple(found.encoder.preprocess["mean"]) == TAG["mean"]
    assert (found.source, found.pooling) == (f"{name}, {tag}", "default")


def test_what_contradicts_a_tag_is_refused(tiny_tower):
    says = r"models\.mine\.{} is {}, but open_clip's tag {} says {}"
    refused(
        says.format("activation", "quick-gelu", "plain", "gelu"),
        tower="tiny",
        pretrained="plain",
        activation="quick-gelu",
    )
    refused(says.format("pooling", "average", "plain", "default"), tower="tiny", pretrained="plain", pooling="average")
    refused(
        "quick is of towers with quick-gelu, which tiny has not: give tiny-quickgelu", tower="tiny", pretrained="quick"
    )
    refused(
        "of tiny-quickgelu with gelu, this one has quick-gelu; give tiny", tower="tiny-quickgelu", pretrained="plain"
    )
    stated = open_model(EvaluatedModel(tower="tiny", pretrained="quick", activation="quick-gelu"))
    theirs = open_clip.create_model("tiny", "quick", force_quick_gelu=True).eval()
    assert differences(stated, theirs) == (0, 0)


def test_a_tag_that_cannot_be_downloaded_says_what_to_give_instead(hub, tiny_tower, monkeypatch):
    monkeypatch.setitem(open_clip.pretrained._PRETRAINED["tiny"], "plain", {"hf_hub": "no/one/"})
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_OFFLINE", True)
    message = "open_clip's tag plain cannot be downloaded.*give the file, with models.mine.activation: gelu and"
    refused(message, tower="tiny", pretrained="plain")


def authors_files(state=None):
    """As a fork of open_clip pushes: the config of open_clip, weights twice, a tokenizer that no tower asks for."""
    state = clip().state_dict() if state is None else state
    config = {"model_cfg": PLAIN, "preprocess_cfg": PREPROCESS}
    return {
        "open_clip_config.json": json.dumps(config).encode(),
        "open_clip_model.safetensors": save(state),
        "open_clip_pytorch_model.bin": b"a pickle that nobody needs",
        "tokenizer.json": b"{}",
        "vocab.json": b"{}",
        "README.md": b"# PowerCLIP\n",
        "samples/one.json": b"{}",
    }


def test_a_repository_of_the_authors_layout_is_pinned_and_only_what_is_needed_is_fetched(hub, tmp_path):
    first = hub.commit(authors_files(), repository=AUTHORS, small=("open_clip_config.json",))
    spec = EvaluatedModel(hub=AUTHORS, pooling="average")
    found = open_model(spec)
    assert set(hub.asked()) == {"open_clip_config.json", "open_clip_model.safetensors"}
    assert (found.commit, found.pooling, found.activation) == (first, "average", "gelu")
    assert found.source == f"{AUTHORS} of the Hugging Face hub at {first}"
    local = opened(write_folder(tmp_path / "model"), pooling="average")
    assert found.identity() | {"weights": ""} == local.identity() | {"weights": ""}
    ids = local.encoder.tokenizer(CAPTIONS)
    with torch.no_grad():
        ours, theirs = found.encoder(pictures(), ids), local.encoder(pictures(), ids)
        mean = found.encoder.encode_image(pictures()).patches_IVD.mean(1)
    assert torch.equal(ours[0].embedding_ID, theirs[0].embedding_ID)
    assert torch.equal(ours[1].embedding_CD, theirs[1].embedding_CD)
    assert torch.allclose(ours[0].embedding_ID, mean / mean.norm(dim=1, keepdim=True), atol=1e-6)

    second = hub.commit(authors_files(clip(seed=2).state_dict()), repository=AUTHORS)
    assert open_model(spec).commit == second
    pinned = open_model(spec.model_copy(update={"revision": first}))
    assert pinned.identity() == found.identity()
    assert pinned.weights == stamp(next((tmp_path / "cache").rglob(f"{first}/*.safetensors")))["sha256"]


def test_what_was_fetched_is_opened_without_a_network(hub, monkeypatch):
    hub.commit(authors_files(), repository=AUTHORS)
    online = open_model(EvaluatedModel(hub=AUTHORS))
    asked = len(hub.requests)
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_OFFLINE", True)
    offline = open_model(EvaluatedModel(hub=AUTHORS))
    assert (offline.commit, offline.identity()) == (online.commit, online.identity())
    refused(r"models\.mine\.hub: model repository a/b at main was not fetched before, and HF_HUB_OFFLINE", hub="a/b")
    assert len(hub.requests) == asked


def test_a_repository_with_pickled_weights_and_a_tower_of_transformers_is_opened(hub, tmp_path):
    name = tiny_transformers.write(tmp_path / "bert", "bert")
    text = {"hf_model_name": name, "hf_tokenizer_name": name, "hf_proj_type": "linear", "context_length": 16}
    towers = {**PLAIN, "text_cfg": {**text, "hf_model_pretrained": False}}
    models.save(models.create(towers, pooling="default"), tmp_path / "run")
    local = opened(tmp_path / "run")
    torch.save(load_file(tmp_path / "run" / "model.safetensors"), tmp_path / "run" / "open_clip_pytorch_model.bin")
    (tmp_path / "run" / "model.safetensors").unlink()
    files = {path.name: path.read_bytes() for path in (tmp_path / "run").iterdir()}
    hub.commit(files, repository="someone/bert", small=("config.json",))
    found = open_model(EvaluatedModel(hub="someone/bert"))
    assert differences(found, local.encoder.clip) == (0, 0)
    assert set(hub.asked()) == set(files)


@pytest.mark.parametrize("fault", ["gated", 401, 403])
def test_a_repository_that_may_not_be_read_says_what_to_do(hub, fault):
    hub.commit(authors_files(), repository=AUTHORS)
    hub.faults = {"open_clip_config.json": itertools.repeat(fault)}
    page = f"a licence to be accepted: do so at {hub.url}/{AUTHORS}, then run `hf auth login` or set HF_TOKEN"
    refused(
        rf"models\.mine\.hub: model repository {AUTHORS} at main: the hub does not let you read it.*{page}", hub=AUTHORS
    )


def test_repositories_that_are_no_model_are_named(hub):
    refused(r"models\.mine\.hub: model repository no/one at main: the hub does not let you read it", hub="no/one")
    files = authors_files()
    hub.commit(files, repository=AUTHORS)
    refused(f"{AUTHORS} at v9: there is no such branch, tag or commit", hub=AUTHORS, revision="v9")
    hub.commit({"config.json": b"{}", "model.safetensors": b""}, repository="a/transformers")
    refused("a/transformers at main has no open_clip_config.json, so it is no model of open_clip", hub="a/transformers")
    only = {name: content for name, content in files.items() if "open_clip_config" in name or name == "README.md"}
    hub.commit(only, repository="a/config")
    refused("a/config at main has no weights, but README.md, open_clip_config.json", hub="a/config")


def test_weights_that_arrive_damaged_are_noticed(hub):
    hub.commit(authors_files(), repository=AUTHORS)
    hub.faults = {"open_clip_model.safetensors": itertools.repeat("wrong")}
    refused(f"{AUTHORS} at main: open_clip_model.safetensors is not what the hub lists", hub=AUTHORS)


def test_a_hub_that_is_out_of_reach_is_named(hub, monkeypatch):
    monkeypatch.setenv("HF_ENDPOINT", "http://127.0.0.1:1")
    refused(
        r"a/b at main: the hub at http://127\.0\.0\.1:1 does not list its files .*check the name, the net", hub="a/b"
    )
