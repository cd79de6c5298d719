import json
import re
import time
from pathlib import Path

import jsonschema
import pytest
import yaml

from vlalign import params
from vlalign.errors import VlalignError

ROOT = Path(__file__).parents[1]
DEFAULTS = yaml.safe_load((ROOT / "params.yaml").read_text())
# All but the cards of benchmarks, which are no params.
OVERLAYS = sorted(
    path for path in (ROOT / "config").rglob("*.yaml") if ROOT / "config" / "benchmarks" not in path.parents
)
SCHEMA = ROOT / "workflow" / "schemas" / "params.schema.json"


@pytest.fixture(autouse=True)
def _repository(monkeypatch):
    """Towers are named relative to the repository."""
    monkeypatch.chdir(ROOT)


def parse(path=None, value=None):
    """The defaults with one key changed."""
    return params.parse(params.merged(DEFAULTS, params.nested(path, value)) if path else DEFAULTS)


def configs(loaded):
    return {name: run.config() for name, run in loaded.all_runs.items()}


def test_defaults_load():
    loaded = params.load("params.yaml")
    assert list(loaded.all_runs)[: len(loaded.runs.arms)] == list(loaded.runs.arms)
    assert loaded.focus in loaded.all_runs
    assert isinstance(loaded.model.tower, dict), "a tower's file is read when the params are"


@pytest.mark.parametrize("overlay", OVERLAYS, ids=lambda path: str(path.relative_to(ROOT / "config")))
def test_overlays_load(overlay):
    loaded = params.load("params.yaml", overlay)
    assert loaded.root != DEFAULTS["root"], "every overlay writes to a folder of its own"


@pytest.mark.parametrize(
    ("path", "value", "named"),
    [
        ("train.stepz", 3, "train.stepz: unknown key"),
        ("objective.powerset.regions.numbr", 3, "objective.powerset.regions.numbr: unknown key"),
        ("objective.powerset.tau", 0, "objective.powerset.tau"),
        ("objective.powerset.tau", -0.1, "objective.powerset.tau"),
        ("objective.powerset.zeta", 1.5, "objective.powerset.zeta"),
        ("objective.powerset.regions.count", 0, "objective.powerset.regions.count"),
        ("objective.powerset.samples", 3, "objective.powerset.samples"),
        ("train.steps", 10**32, "train.steps"),
        ("train.batch_size", 10**7, "train.batch_size"),
        ("train.epochs", 10**7, "train.epochs"),
        ("runtime.parts", 10**5, "runtime.parts"),
        ("runtime.workers", 10**4, "runtime.workers"),
        ("datasets.scenes.images.train", 10**10, "datasets.scenes.images.train"),
        ("datasets.scenes.seed", -1, "datasets.scenes.seed"),
        ("annotate.parser.seed", 2**32, "annotate.parser.seed"),
        ("runs.seeds", [2**63], "runs.seeds.0"),
        ("evaluation.batch_size", 10**10000, "(given: a number of thousands of digits)"),
        ("model", {"tower": {"text_cfg": {"width": 10**12}}}, "text_cfg.width must be at most 10,000,000"),
        ("model", {"tower": {"embed_dim": float("inf")}}, "model.tower: embed_dim must be at most"),
        ("root", "", "root: "),
        ("root", "a\0b", "root: "),
        ("objective.powerset", {"aggregator": "exact", "regions": {"count": 17}}, "regions.count must be at most 16"),
        ("objective.cs.sigma", "mean", "objective.cs.sigma"),
        ("train.steps", "many", "train.steps"),
        ("train.steps", 1.5, "train.steps"),
        ("train.betas", [0.9], "train.betas"),
        ("annotate.parser.long_captions", "drop", "annotate.parser.long_captions"),
        ("annotate.parser.device", "gpu", "annotate.parser.device"),
        ("train", [1], "train"),
        ("train.augment", {"scale": [1.0, 0.5]}, "train.augment: scale must be two numbers above 0"),
        ("datasets.mine", {"train": {"source": "folder", "folder": "x"}}, "datasets.mine: validation: give its source"),
        ("datasets.mine", {"validation": {"source": "folder", "folder": "x"}}, "datasets.mine.train: Field required"),
        ("datasets.scenes.images", {"train": 3, "dev": 3}, "datasets.scenes.images"),
        ("model.tower", "config/towers/absent.json", "model.tower: this file does not exist"),
        ("model.tower", "params.json", "model.tower"),
        ("runs.arms", ["clip", "absent"], "runs.arms: 'absent'"),
        ("runs.ablations", ["absent"], "runs.ablations: 'absent'"),
        ("runs.seeds", [], "runs.seeds"),
        ("focus", "absent", "focus: 'absent'"),
        ("arms.clip", {"objective": {"powersets": {}}}, "arms.clip.objective.powersets: unknown key"),
        ("arms.powerclip", {"objective": {"powerset": {"tau": -1}}}, "arms.powerclip.objective.powerset.tau"),
        ("evaluation.split", "train", "evaluation.split"),
        ("evaluation", {"split": "validation", "benchmarks": ["transfer"]}, "benchmarks: transfer cannot be measured"),
        ("dataset", "absent", "dataset: 'absent'"),
        ("dataset", "a" * 101, "dataset: String should have at most 100 characters"),
        ("datasets.a/b", {}, "datasets.a/b"),
        (f"arms.{'a' * 101}", {}, "String should have at most 100 characters"),
        ("models.b", {"hub": "a/b", "tower": "ViT-B-32"}, "models.b: give one of `folder`, `hub` and `tower`"),
        ("evaluation.suites", ["zeroshot16"], "there is no suite 'zeroshot16'"),
    ],
    ids=lambda value: f"{value!s:.40}" if not isinstance(value, int) else hex(value)[:12],
)
def test_mistakes_name_the_key(path, value, named):
    with pytest.raises(VlalignError, match=re.escape(named)):
        parse(path, value)


def test_a_method_that_no_suite_has_published_is_named():
    report = {"published": {"powerclip": "PowerCLIP-S (SAM masks)"}}
    assert parse("report", report).report.published["powerclip"], "no suite is asked for"
    with pytest.raises(
        VlalignError, match=r"powerclip: no suite has numbers of .*; nearest: PowerCLIP-S \(SAM 2 masks\)"
    ):
        params.parse({**DEFAULTS, "report": report, "evaluation": {"suites": ["retrieval3"]}})


@pytest.mark.parametrize(
    ("change", "named"),
    [
        ({"arm": "absent"}, "ablations.grid.arm: 'absent'"),
        ({"param": "objective.powerset.tua"}, "ablations.grid.objective.powerset.tua: unknown key"),
        ({"values": [0.1, -1]}, "ablations.grid.objective.powerset.tau"),
        ({"values": [0.1, 1e-1]}, "ablations.grid: the run 'grid-0.1' exists twice"),
        ({"values": []}, "ablations.0.values"),
        ({"set": {"trian": {}}}, "ablations.grid.trian: unknown key"),
    ],
)
def test_mistakes_in_a_grid_name_it(change, named):
    grid = {"name": "grid", "arm": "powerclip", "param": "objective.powerset.tau", "values": [0.1], **change}
    with pytest.raises(VlalignError, match=re.escape(named)):
        params.parse({**DEFAULTS, "runs": {**DEFAULTS["runs"], "ablations": ["grid"]}, "ablations": [grid]})


CLASSES = {"source": "folder", "folder": "pets"}
TABLE = {"source": "table", "table": "a.csv"}


@pytest.mark.parametrize(
    ("data", "message"),
    [
        ({"train": CLASSES}, "train: a folder of classes has no captions; set `labels: captions`"),
        ({"validation": CLASSES}, "validation: a folder of classes has no captions"),
        ({"test": CLASSES}, "test: a folder of classes has no captions"),
        ({"unpaired": {"captions": CLASSES}}, "unpaired.captions: a folder of classes has no captions"),
        ({"zeroshot": {"test": TABLE}}, "zeroshot.test: it has no classes; give a folder of classes"),
        ({"zeroshot": {"validation": {**CLASSES, "labels": "captions"}}}, "zeroshot.validation: it has no classes"),
    ],
)
def test_captions_and_classes_come_from_where_they_are(data, message):
    mine = dict.fromkeys(("train", "validation", "test"), TABLE)
    assert parse("datasets.mine", {**mine, "zeroshot": {"test": CLASSES}, "unpaired": {"images": CLASSES}})
    assert parse("datasets.mine", {**mine, "train": {**CLASSES, "labels": "captions"}})
    with pytest.raises(VlalignError, match=re.escape(f"datasets.mine: {message}")):
        parse("datasets.mine", {**mine, **data})


def test_a_single_caption_column_needs_no_list():
    mine = {split: {**TABLE, "caption_columns": "title"} for split in ("train", "validation", "test")}
    assert parse("datasets.mine", mine).datasets["mine"].train.caption_columns == ("title",)
    validator = jsonschema.Draft202012Validator(params.schema())
    assert not list(validator.iter_errors(params.merged(DEFAULTS, {"datasets": {"mine": mine}})))
    for wrong in ([], 3):
        with pytest.raises(VlalignError, match=r"datasets\.mine\.train\.caption_columns"):
            parse("datasets.mine", {**mine, "train": {**TABLE, "caption_columns": wrong}})


def test_a_root_that_cannot_be_written_to_is_named_and_not_made(tmp_path):
    (tmp_path / "file").write_text("")
    for root, reason in (("file", "is no folder"), ("file/below", "is no folder"), ("x" * 300, "File name too long")):
        with pytest.raises(VlalignError, match=rf"^root: .*{reason}"):
            params.check_root(parse("root", str(tmp_path / root)))
    params.check_root(parse("root", str(tmp_path / "new" / "deep")))
    assert [path.name for path in tmp_path.iterdir()] == ["file"]


@pytest.mark.parametrize("value", ["x" * 97, "长" * 40])
def test_names_of_runs_are_short_enough_for_every_disk(value):
    grid = params.Ablation(name="tau", arm="powerclip", param="objective.powerset.tau", values=(value,))
    assert grid.run_name("x" * 96) == "tau-" + "x" * 96
    with pytest.raises(ValueError, match=r"ablations\.tau: a run's name holds its value, .* at most 100"):
        grid.run_name(value)


def test_more_runs_than_anyone_trains_are_an_error_and_no_hang():
    start = time.perf_counter()
    with pytest.raises(VlalignError, match="runs: 160,011 runs, each seed one of them; at most 10,000 can be"):
        parse("runs.seeds", list(range(10_000)))
    grid = {"name": "grid", "arm": "powerclip", "param": "objective.powerset.tau", "values": list(range(1, 90_000))}
    with pytest.raises(VlalignError, match="runs: 450,075 runs"):
        params.parse({**DEFAULTS, "runs": {**DEFAULTS["runs"], "ablations": ["grid"]}, "ablations": [grid]})
    assert time.perf_counter() - start < 10


def test_of_many_mistakes_the_first_are_told():
    with pytest.raises(VlalignError) as caught:
        parse("runs.arms", [f"Arm {number}" for number in range(1000)])
    assert len(str(caught.value).splitlines()) == 22
    assert str(caught.value).endswith("and 981 more")


def test_of_a_long_value_the_beginning_is_shown():
    with pytest.raises(VlalignError, match=r"\(given: 'x{100,200}\.\.\.\)"):
        parse("train.steps", "x" * 10_000)


@pytest.mark.parametrize(
    ("content", "reason"),
    [
        ("{}".encode("utf-16"), "is not valid JSON (it is not text in UTF-8)"),
        (b"[" * 100_000, "is not valid JSON (it is nested too deeply)"),
        (b'{"vision_cfg": ' + b'{"a": ' * 30 + b"1" + b"}" * 31, "vision_cfg is nested too deeply"),
        (b'{"embed_dim": 4, "embed_dim": 8}', "is not valid JSON (the key 'embed_dim' stands there twice)"),
        (b"[]", "holds no JSON object, but a list; correct it, or give an open_clip model name"),
        (None, "is no file"),
    ],
)
def test_a_tower_that_cannot_be_read_is_named_with_its_key(tmp_path, content, reason):
    tower = tmp_path / "tower.json"
    tower.mkdir() if content is None else tower.write_bytes(content)
    with pytest.raises(VlalignError, match=re.escape(reason)) as caught:
        parse("model.tower", str(tower))
    assert "\nmodel.tower: " in str(caught.value)
    assert "tower.json" in str(caught.value)


def test_a_missing_key_is_named():
    with pytest.raises(VlalignError, match="model: Field required"):
        params.parse({key: value for key, value in DEFAULTS.items() if key != "model"})


def test_all_mistakes_are_told_at_once():
    changed = params.merged(DEFAULTS, {"train": {"steps": 0, "batch_size": 1}})
    with pytest.raises(VlalignError, match=r"(?s)train\.steps.*train\.batch_size"):
        params.parse(changed)


@pytest.mark.parametrize(
    ("content", "message"), [(None, "does not exist"), ("a: [", "not a YAML"), ("- 1", "not a YAML")]
)
def test_a_params_file_that_cannot_be_read_is_named(tmp_path, content, message):
    path = tmp_path / "odd.yaml"
    if content is not None:
        path.write_text(content)
    with pytest.raises(VlalignError, match=rf"odd\.yaml.*{message}"):
        params.load("params.yaml", path)


def test_numbers_that_yaml_reads_as_text_are_numbers():
    assert yaml.safe_load("1e-3") == "1e-3"
    assert parse("train.learning_rate", "1e-3").train.learning_rate == 0.001
    assert parse("objective.cs.sigma", "5e-1").objective.cs.sigma == 0.5
    assert (
        parse("arms.powerclip.objective.powerset.tau", "1e-2").all_runs["powerclip"].params.objective.powerset.tau
        == 0.01
    )


def test_the_median_heuristic_and_several_kernels_are_kept():
    assert parse("objective.cs.sigma", "median").objective.cs.sigma == "median"
    assert parse("objective.cs.sigma", [0.5, "1e0"]).objective.cs.sigma == (0.5, 1.0)


def test_runs_of_a_grid_are_named_by_their_values():
    grid = params.Ablation(name="tau", arm="powerclip", param="objective.powerset.tau", values=(1, 0.001, "sum"))
    assert [grid.run_name(value) for value in grid.values] == ["tau-1", "tau-0.001", "tau-sum"]
    assert "tau-0.001" in parse().all_runs


def test_a_grid_lays_its_value_and_set_over_its_arm():
    runs = parse().all_runs
    ours, arm = runs["regions-4"].params.model_dump(), runs["powerclip"].params.model_dump()
    regions = {"kinds": ("mask", "box"), "count": 4, "order": "first"}
    assert ours["objective"]["powerset"]["regions"] == regions
    assert ours["train"]["steps"] < arm["train"]["steps"]
    ours["objective"]["powerset"]["regions"] = arm["objective"]["powerset"]["regions"]
    ours["train"]["steps"] = arm["train"]["steps"]
    assert ours == arm
    assert runs["regions-4"].config()["ablation"] == {
        "name": "regions",
        "param": "objective.powerset.regions.count",
        "value": 4,
    }


def test_changing_one_value_of_a_grid_changes_one_run():
    grids = json.loads(json.dumps(DEFAULTS["ablations"]))
    assert grids[0]["values"][2] == 0.01
    grids[0]["values"][2] = 0.02
    before, after = configs(parse()), configs(parse("ablations", grids))
    assert set(before) - set(after) == {"tau-0.01"}
    assert set(after) - set(before) == {"tau-0.02"}
    assert all(after[name] == before[name] for name in set(after) & set(before))


def test_a_grid_over_what_means_nothing_to_its_arm_is_an_error():
    grid = {"name": "tau", "arm": "powerclip", "param": "objective.powerset.tau", "values": [0.1, 0.01]}
    with pytest.raises(VlalignError, match=r"ablations.tau: objective.powerset.tau means nothing to the arm powerclip"):
        params.parse({**DEFAULTS, "runs": {**DEFAULTS["runs"], "ablations": ["tau"]}, "ablations": [grid]})


def test_a_default_changes_only_the_runs_that_use_it():
    def changed(path, value):
        before, after = configs(parse()), configs(parse(path, value))
        return {name for name in before if before[name] != after[name]}

    others = {name for name in parse().all_runs if name.startswith("zeta-")}
    published = {"powerclip-nla", "powerclip-literal"}
    adapted = {"clip-cs", "clip-tokens", "frozen-cs", "frozen-few-unpaired"}
    assert changed("objective.powerset.tau", 0.002) == published | others
    assert changed("objective.cs.sigma", 0.7) == {"cs", "powerclip-cs"} | adapted
    assert changed("objective.powerset.margin", 0.3) == {"powerclip-literal"}, "no other has a triplet"


def test_an_arm_that_is_not_run_need_not_fit_what_others_share():
    shared = {"objective": {"powerset": {"weight": 0.2}}, "focus": "clip"}
    with pytest.raises(VlalignError, match=r"arms.clip-nce: model.adapters: .* have no phrases or regions"):
        params.parse(params.merged(DEFAULTS, shared))
    runs = {"runs": {"arms": ["clip"], "ablations": []}}
    assert set(params.parse(params.merged(DEFAULTS, shared, runs)).all_runs) == {"clip"}
    with pytest.raises(VlalignError, match=r"arms.clip-cs.model.adapters.hiden: unknown key; nearest: hidden"):
        parse("arms.clip-cs.model", {"adapters": {"hiden": 3}})


def test_a_term_is_off_when_all_of_its_weights_are_zero():
    def cs(**changes):
        return parse("arms.clip.objective", {"cs": changes}).all_runs["clip"].config()["params"]["objective"].get("cs")

    assert cs() is None, "so that a run does not change with the terms that there are"
    assert cs(token_weight=0.5)["sigma"] == list(parse().objective.cs.sigma)


@pytest.mark.parametrize(
    ("aggregator", "own"),
    [
        ("nla", {"tau", "tau_start", "zeta", "activation", "empty_subset"}),
        ("calibrated", {"tau", "tau_start", "activation", "empty_subset", "samples"}),
        ("sampled", {"samples", "empty_subset"}),
        ("exact", {"empty_subset"}),
        ("max", set()),
        ("holder", {"norm_order"}),
        ("prefix", {"size_exponent"}),
        ("logmean", {"softness"}),
    ],
)
def test_a_run_has_the_params_of_its_aggregator_alone(aggregator, own):
    every = {"tau", "tau_start", "zeta", "activation", "samples", "empty_subset"}
    every |= {"norm_order", "size_exponent", "softness"}
    loaded = parse("arms.powerclip.objective.powerset.aggregator", aggregator)
    powerset = loaded.all_runs["powerclip"].config()["params"]["objective"]["powerset"]
    assert set(powerset) & every == own
    left_out = every - own | {"margin", "negatives", "warmup", "decay", "learnt_order", "of_subsets"}
    assert set(type(loaded.objective.powerset).model_fields) - set(powerset) == left_out


def test_what_no_arm_may_say():
    for path, value, named in (
        ("runs.seeds", [0, 0], "runs: seeds: 0 stands there more than once"),
        ("report.control", "nobody", "report.control: 'nobody' is not one of"),
        ("arms.spare", {"objective": {"powerset": {"foo": 1}}}, r"arms\.spare\.objective\.powerset\.foo: unknown key"),
        ("objective.powerset.weight", float("inf"), "finite"),
    ):
        with pytest.raises(VlalignError, match=named):
            parse(path, value)


@pytest.mark.parametrize(
    ("figures", "named"),
    [
        ([{"figure": "embeddings", "points": 0}], r"report\.figures\.0\.points: Input should be greater"),
        (["training", "no-such"], r"report\.figures\.1: .*'no-such'.* expected tags: 'ablation', 'confusions'"),
        (["training", {"figure": "training"}], r"report\.figures: training\.svg would be drawn more than once"),
        ([{"figure": "ablation", "grids": ["nu"]}], r"report\.figures: the ablation nu is not one of runs\.ablations"),
    ],
)
def test_mistakes_about_figures_are_named(figures, named):
    with pytest.raises(VlalignError, match=named):
        parse("report.figures", figures)


def test_what_is_drawn_is_known_before_anything_is_measured():
    def names(**changes):
        figures = params.parse(params.merged(DEFAULTS, changes)).figures
        return [name for figure in figures for name in figure.names()]

    measured = {"evaluation": {"benchmarks": ["retrieval"]}}
    every = names(runs={"ablations": ["tau", "zeta"]})
    ablations, illustrated = ["ablation-tau", "ablation-zeta"], ["confusions", "differing-sets", "embeddings"]
    illustrated += ["hard-negatives", "retrieval-examples-captions", "retrieval-examples-pictures", "similarity"]
    assert sorted(every) == sorted(
        [*ablations, *illustrated, "differences", "grounding", "precision-r2t", "precision-t2r", "training"]
    )
    gone = set(every) - set(names(runs={"ablations": ["tau", "zeta"]}, **measured))
    assert gone == {"confusions", "differing-sets", "grounding", "hard-negatives"}, (
        "what nothing is measured for is not drawn"
    )
    assert names(report={"figures": ["training", "ablation"]}, runs={"ablations": []}) == ["training"]
    with pytest.raises(VlalignError, match="grounding shows the benchmark grounding, which is not measured"):
        names(report={"figures": ["grounding"]}, **measured)


def test_the_focus_changes_no_run():
    assert configs(parse("focus", "clip")) == configs(parse())


def test_a_tower_given_by_name_or_by_content_is_kept():
    assert parse("model.tower", "ViT-B-16").model.tower == "ViT-B-16"
    assert params.parse({**DEFAULTS, "model": {"tower": {"embed_dim": 8}}}).model.tower == {"embed_dim": 8}


def test_the_config_of_a_run_is_plain_json():
    config = parse().all_runs["powerclip-cs"].config()
    assert json.loads(json.dumps(config)) == config
    assert params.RunParams.model_validate(config["params"]) == parse().all_runs["powerclip-cs"].params


def test_the_digest_depends_on_values_alone():
    assert params.digest({"a": 1, "b": [2]}) == params.digest({"b": [2], "a": 1})
    assert params.digest({"a": 1}) != params.digest({"a": 2})


def test_the_schema_on_disk_is_current():
    assert json.loads(SCHEMA.read_text()) == params.schema(), (
        "run: vlalign schema > workflow/schemas/params.schema.json"
    )


def test_the_schema_accepts_the_defaults_and_refuses_typos():
    validator = jsonschema.Draft202012Validator(params.schema())
    validator.check_schema(params.schema())
    assert not list(validator.iter_errors(DEFAULTS))
    assert list(validator.iter_errors(params.merged(DEFAULTS, {"train": {"stepz": 3}})))


def test_an_arm_may_have_fewer_seeds_than_the_others():
    runs = parse("arms.clip.most_seeds", 2).all_runs
    assert runs["clip"].seeds == parse().runs.seeds[:2]
    assert runs["powerclip"].seeds == parse().runs.seeds


def test_a_key_that_no_arm_has_is_named():
    with pytest.raises(VlalignError, match=r"arms\.clip\.steps: unknown key"):
        parse("arms.clip.steps", 3)


def test_a_name_that_is_nearly_right_gives_the_nearest():
    with pytest.raises(VlalignError, match=r"evaluation\.benchmarks\.0: .*nearest: retrieval \(given: 'retreival'\)"):
        parse("evaluation.benchmarks", ["retreival"])


@pytest.mark.parametrize(
    ("path", "value", "message"),
    [
        ("datasets.benchmarks", {}, "keeps a folder `benchmarks` of its own below data"),
        ("models.clip", {"tower": "ViT-B-32"}, "models: clip is the name of a run too"),
        ("models.m", {"tower": "ViT-B-32", "hub": "a/b"}, "models.m: give one of `folder`, `hub` and `tower`"),
        ("models.m", {"folder": "m", "pretrained": "w.pt"}, "models.m: pretrained: weights need a `tower`"),
        ("report.published", {"other": "CLIP"}, "report.published: other is neither a run nor one of `models`"),
        ("evaluation.suites", ["zeroshot71"], "there is no suite 'zeroshot71' .* nearest: zeroshot17"),
        ("evaluation.suites", ["retrieval3", "pets", "retrieval3"], "suites: retrieval3 stands there twice"),
    ],
)
def test_what_is_wrong_with_models_and_suites_is_named(path, value, message):
    with pytest.raises(VlalignError, match=message):
        parse(path, value)
