import json
import shutil

import open_clip
import pytest
import tiny_transformers
import torch
import yaml
from annotated_scenes import write_annotated
from training_runs import TOWER, run_config, train_below
from typer.testing import CliRunner

import vlalign
from vlalign.cli import app
from vlalign.errors import VlalignError
from vlalign.evaluation.benchmark import MetricRow
from vlalign.evaluation.metrics import Measurement, write_metrics
from vlalign.files import read_json, write_json, write_text
from vlalign.models.export import export_model
from vlalign.records import check_record, read_record, stamp, write_record
from vlalign.reporting.card import has_card, model_card, write_card
from vlalign.training.data.inputs import Inputs

METRICS = {
    "retrieval": Measurement(
        rows=[MetricRow(benchmark="retrieval", metric="image_to_text_r1", value=43.21, chance=2.0)]
    ),
    "modality": Measurement(rows=[MetricRow(benchmark="modality", metric="mean_distance", value=0.1234)]),
}


@pytest.fixture(scope="module")
def trained(tmp_path_factory):
    """A run with a text tower of Hugging Face, whose tokenizer is on disk, and one with CLIP's."""
    root = tmp_path_factory.mktemp("runs")
    write_annotated(root, images=12)
    inputs = Inputs(root / "split", root / "phrases", root / "regions")
    name = tiny_transformers.write(root / "bert", "bert")
    text = {"hf_model_name": name, "hf_model_pretrained": False, "hf_proj_type": "linear", "context_length": 16}
    text["tokenizer_kwargs"] = {"clean": "lower"}
    for output, tower in (("clip", TOWER), ("bert", {**TOWER, "text_cfg": text})):
        config = run_config(steps=2, batch_size=4)
        config["params"]["model"] = {"tower": tower}
        train_below(root, config, inputs, output=output)
        write_metrics(root / output / "metrics", METRICS, {}, measured={})
    return root


def test_the_card_says_what_the_run_is_and_what_was_measured(trained):
    write_card(trained / "clip")
    card = (trained / "clip" / "README.md").read_text()
    assert card.startswith("---\ntags:\n- clip\n")
    assert "1 × InfoNCE + 1 × the powerset loss of PowerCLIP (sampled) + 0.1 × the Cauchy-Schwarz divergence" in card
    assert "| Image → text R@1 | 43.2 | 2.0 |" in card
    assert "| Modality gap | 0.123 |  |" in card
    assert "In percent, but for Modality gap (distance)." in card
    assert "2 steps of 4 pairs" in card


def test_the_hub_is_told_of_open_clip_only_where_it_gives_what_was_measured(trained):
    write_card(trained / "clip")
    other = (trained / "clip" / "README.md").read_text()
    assert "its text embeddings are others, so use vlalign's" in other
    assert front_matter(other) == {
        "tags": ["clip", "vlalign", "powerclip"],
        "library_name": "vlalign",
        "license": "other",
    }
    assert "open_clip.create_model" not in other
    write_card(trained / "bert")
    same = (trained / "bert" / "README.md").read_text()
    assert "open_clip gives the same embeddings" in same
    assert "open_clip.create_model" in same
    hub = {"library_name": "open_clip", "pipeline_tag": "zero-shot-image-classification"}
    assert front_matter(same) == front_matter(other) | hub


def test_an_exported_run_that_was_measured_offers_open_clip(trained, tmp_path):
    assert "`vlalign export-model` writes a folder for which it does" in card_of(trained / "clip")
    export_model(trained / "clip", tmp_path / "run")
    write_metrics(tmp_path / "run" / "metrics", METRICS, {}, measured={})
    card = card_of(tmp_path / "run")
    assert front_matter(card)["library_name"] == "open_clip"
    assert "open_clip gives the same embeddings" in card
    assert "mean of projected patch and word tokens" in card
    assert "| Image → text R@1 | 43.2 | 2.0 |" in card


def test_what_retrieval_loses_in_open_clip_stands_in_the_card(trained, tmp_path):
    run = shutil.copytree(trained / "clip", tmp_path / "run")
    assert "Loaded by open_clip" not in card_of(run)
    values = {"image_to_text_r1": 44.04, "text_to_image_r1": 41.0, "image_to_text_r1_in_open_clip": 7.0}
    values["text_to_image_r1_in_open_clip"] = 5.25
    rows = [MetricRow(benchmark="retrieval", metric=metric, value=value) for metric, value in values.items()]
    write_metrics(run / "metrics", {"retrieval": Measurement(rows=rows)}, {}, measured={})
    told = "this folder has an R@1 of 7.0 in place of 44.0 (image to text) and 5.2 in place of 41.0 (text to image)."
    assert f"Loaded by open_clip, {told}" in card_of(run)


def card_of(run):
    write_card(run)
    return (run / "README.md").read_text()


def test_how_far_open_clip_is_off_stands_in_the_card_if_the_run_knows(trained, tmp_path):
    run = shutil.copytree(trained / "clip", tmp_path / "run")
    config = json.loads((run / "open_clip_config.json").read_text())
    config["vlalign"] |= {"cosine_in_open_clip": {"image": 1.0, "text": 0.3141}}
    (run / "open_clip_config.json").write_text(json.dumps(config))
    write_card(run)
    assert "does not hold there. Cosine in open clip: image 1, text 0.314." in (run / "README.md").read_text()
    del config["vlalign"]["same_in_open_clip"], config["vlalign"]["cosine_in_open_clip"]
    (run / "open_clip_config.json").write_text(json.dumps(config))
    write_card(run)
    unknown = (run / "README.md").read_text()
    assert "whether its embeddings are others was not recorded" in unknown
    assert front_matter(unknown)["library_name"] == "vlalign"


def test_what_could_not_be_measured_stands_in_the_card(trained, tmp_path):
    run = shutil.copytree(trained / "clip", tmp_path / "run")
    shutil.rmtree(run / "metrics")
    write_metrics(run / "metrics", {"modality": Measurement(not_measured="it needs 4 images")}, {}, measured={})
    write_card(run)
    assert "Not measured: modality, since it needs 4 images." in (run / "README.md").read_text()


@pytest.mark.parametrize(
    ("file", "content", "message"),
    [
        ("run.json", [], "is no record: it holds list, not an object; delete the run and train it again"),
        (
            "run.json",
            {"run": "x"},
            "is not the record of a run; delete the run.*\narm: Field required",
        ),
        ("run.json", {"params": {"model": 3}}, "its params are not valid; delete the run.*\nmodel"),
        ("open_clip_config.json", [], "has no `model_cfg` as a run has"),
        ("open_clip_config.json", {"model_cfg": {}}, "has no `model_cfg` as a run has; delete the run"),
        ("open_clip_config.json", {"vlalign": {"same_in_open_clip": 3}}, "`same_in_open_clip` is no mapping"),
    ],
)
def test_damaged_files_of_a_run_are_named(trained, tmp_path, file, content, message):
    run = shutil.copytree(trained / "clip", tmp_path / "run")
    if isinstance(content, dict) and not {"run", "model_cfg"} & set(content):
        content = (read_record if file == "run.json" else read_json)(run / file) | content
    (write_record if file == "run.json" and isinstance(content, dict) else write_json)(run / file, content)
    with pytest.raises(VlalignError, match=f"(?s){file}.*{message}"):
        has_card(run)


@pytest.mark.parametrize(
    ("old", "new", "message"),
    [
        ('"seed": 0', '"seed": 1', "was changed or damaged after it was written"),
        ('"$sha256"', '"sha256"', r"has no key `\$sha256`"),
    ],
)
def test_a_record_of_a_run_that_was_changed_by_hand_is_refused(trained, tmp_path, old, new, message):
    run = shutil.copytree(trained / "clip", tmp_path / "run")
    text = (run / "run.json").read_text()
    assert old in text
    write_text(run / "run.json", text.replace(old, new))
    with pytest.raises(VlalignError, match=rf"run\.json {message}.*; delete the run and train it again"):
        has_card(run)


def test_the_evaluation_vouches_for_the_card_too(trained, tmp_path):
    run = shutil.copytree(trained / "clip", tmp_path / "run")
    write_card(run)
    record = check_record(run / "metrics" / "evaluation.json")
    assert set(record["files"]) == {"items.safetensors", *(f"{benchmark}.json" for benchmark in METRICS)}
    assert record["card"] == stamp(run / "README.md")
    write_card(run)
    assert read_record(run / "metrics" / "evaluation.json") == record


def test_metrics_that_were_changed_by_hand_have_no_card(trained, tmp_path):
    run = shutil.copytree(trained / "clip", tmp_path / "run")
    write_json(run / "metrics" / "modality.json", {"rows": []})
    with pytest.raises(VlalignError, match=r"modality\.json is not the file that .*evaluation\.json describes"):
        write_card(run)


def front_matter(card):
    return yaml.safe_load(card.split("---\n")[1])


def test_a_run_that_was_not_measured_has_no_card(trained, tmp_path):
    shutil.copytree(trained / "clip", tmp_path / "run")
    shutil.rmtree(tmp_path / "run" / "metrics")
    with pytest.raises(VlalignError, match="evaluate the run first"):
        write_card(tmp_path / "run")


@pytest.fixture
def hub(tmp_path, monkeypatch):
    """In place of the network: the repository is a folder."""

    def commit(_, repository, operations, **options):
        for operation in operations:
            target = tmp_path / repository / operation.path_in_repo
            target.parent.mkdir(parents=True, exist_ok=True)
            shutil.copy(operation.path_or_fileobj, target)

    monkeypatch.setattr("huggingface_hub.HfApi.create_repo", lambda _, name, **options: f"hub/{name}")
    monkeypatch.setattr("huggingface_hub.HfApi.create_commit", commit)
    return tmp_path


def test_a_pushed_run_is_a_repository_that_open_clip_and_vlalign_load(trained, hub):
    write_card(trained / "bert")
    printed = CliRunner().invoke(app, ["push", str(trained / "bert"), "user/name"])
    assert printed.output.strip() == "hub/user/name"
    repository = hub / "user" / "name"
    names = {path.name for path in repository.iterdir()}
    assert names >= {"README.md", "open_clip_model.safetensors", "open_clip_config.json", "tokenizer.json", "run.json"}
    assert "# Model card for test-seed-0" in (repository / "README.md").read_text()

    encoder, again = vlalign.load(trained / "bert"), vlalign.load(repository)
    tokens = encoder.tokenizer(["a red dog"])
    theirs = open_clip.create_model_and_transforms(f"local-dir:{repository}")[0].eval()
    with torch.no_grad():
        expected = encoder.encode_text(tokens).embedding_CD
        assert torch.equal(again.encode_text(tokens).embedding_CD, expected)
        assert torch.allclose(theirs.encode_text(tokens, normalize=True), expected, atol=1e-5)


def test_what_is_no_measured_run_is_not_pushed(hub, tmp_path):
    result = CliRunner().invoke(app, ["push", str(tmp_path), "user/name"])
    assert "lacks run.json, model.safetensors, open_clip_config.json, README.md" in str(result.exception)


def test_the_card_needs_a_run(tmp_path):
    with pytest.raises(VlalignError, match=r"run\.json does not exist"):
        model_card(tmp_path)
    assert not has_card(tmp_path)
