"""What is run: params.yaml as typed values.

Unknown keys, wrong types and impossible combinations are errors that name the key. Numbers are coerced, since YAML
reads `1e-3` as text. The workflow asks this module for the effective params of every run.
"""

import hashlib
import json
import re
from collections.abc import Iterator, Mapping
from functools import cached_property
from pathlib import Path
from typing import Annotated, Any, Literal

import yaml
from pydantic import BaseModel, ConfigDict, Field, ValidationError, field_validator, model_validator

from vlalign.errors import VlalignError

Name = Annotated[str, Field(pattern=r"^[a-z0-9]([a-z0-9._-]*[a-z0-9])?$")]
Count = Annotated[int, Field(ge=1)]
Positive = Annotated[float, Field(gt=0)]
NonNegative = Annotated[float, Field(ge=0)]
Share = Annotated[float, Field(ge=0, le=1)]
Seed = Annotated[int, Field(ge=0)]


class Strict(BaseModel):
    """Base of every part: unknown keys are errors, values do not change after loading."""

    model_config = ConfigDict(extra="forbid", frozen=True, allow_inf_nan=False)


class ScenesParams(Strict):
    """The embedded dataset: sizes, and how hard it is."""

    source: Literal["scenes"] = "scenes"
    seed: int = 0
    images: dict[Literal["train", "validation", "test"], Count] = Field(
        default={"train": 8000, "validation": 1000, "test": 2000}, description="Images of each split"
    )
    image_size: Annotated[int, Field(ge=32, le=512)] = Field(default=96, description="Side of a picture in pixels")
    captions: Count = Field(default=4, description="Captions of each image")
    # A cluttered scene has up to five groups of different classes, and hard negatives need one class more.
    classes: Annotated[int, Field(ge=6, le=28)] = Field(default=20, description="Object classes")
    simple_share: Share = Field(default=0.5, description="Share of simple scenes; the others are cluttered")
    single_share: Share = Field(
        default=0.0,
        description="Share of the simple training scenes that have one object; the others have two or three",
    )
    zeroshot_images: Count = Field(default=1000, description="Images of each zero-shot split")
    composition_items: Count = Field(default=250, description="Hard negatives of each category and split")

    @model_validator(mode="after")
    def _splits(self) -> "ScenesParams":
        missing = {"train", "validation", "test"} - set(self.images)
        if missing:
            raise ValueError(f"images must give a size for every split; missing: {', '.join(sorted(missing))}")
        return self


class ParserParams(Strict):
    """The constituency parser: trained here on trees of the dataset's grammar, or downloaded."""

    source: Literal["train", "download"] = "train"
    language: str = "en"
    package: str = Field(default="default", description="Stanza package to download")
    seed: int = 0
    trees: Annotated[int, Field(ge=50)] = Field(default=1200, description="Training trees (source: train)")
    epochs: Count = Field(default=5, description="Epochs of the constituency parser (source: train)")
    max_words: Count = Field(default=100, description="Longer captions are skipped and counted")
    max_skipped: Annotated[float, Field(ge=0, le=100)] = Field(
        default=10.0, description="Percent of captions that may be skipped before the step fails"
    )
    batch_size: Count = Field(default=200, description="Captions parsed at once")


class RegionsParams(Strict):
    """Candidate regions of every image, made once; each run chooses among them."""

    boxes: Count = Field(default=16, description="Random boxes per image (PowerCLIP-R)")
    seed: int = 0


class AnnotateParams(Strict):
    """Phrases and regions."""

    parser: ParserParams = ParserParams()
    regions: RegionsParams = RegionsParams()


class ModelParams(Strict):
    """The two towers."""

    tower: str | dict[str, Any] = Field(
        description="An open_clip model name, or a JSON file of an open_clip config, whose content is put in its place",
    )
    pooling: Literal["average", "default"] = Field(
        default="average", description="average: mean of patch tokens and of real word tokens; default: the tower's own"
    )
    pretrained: str | None = Field(
        default=None, description="Weights to start from: a tag of open_clip for this name, or a file"
    )
    lock_image: bool = Field(default=False, description="Do not train the image tower (LiT)")
    lock_text: bool = Field(default=False, description="Do not train the text tower")
    unlocked_image_groups: Annotated[int, Field(ge=0)] = Field(
        default=0, description="Groups of layers at the end of a locked image tower that are trained all the same"
    )
    unlocked_text_layers: Annotated[int, Field(ge=0)] = Field(
        default=0, description="Layers at the end of a locked text tower that are trained all the same"
    )

    @field_validator("tower", mode="before")
    @classmethod
    def _read_tower(cls, tower: Any) -> Any:
        if not (isinstance(tower, str) and tower.endswith(".json")):
            return tower
        try:
            return json.loads(Path(tower).read_text(encoding="utf-8"))
        except FileNotFoundError:
            raise ValueError("this file does not exist; give an open_clip model name or a JSON file") from None
        except json.JSONDecodeError as error:
            raise ValueError(f"this file is not JSON: {error}") from None


class TrainParams(Strict):
    """Optimisation: AdamW with linear warm-up and cosine decay."""

    steps: Count = 600
    batch_size: Annotated[int, Field(ge=2)] = 128
    learning_rate: Positive = 2e-3
    warmup: Share = Field(default=0.05, description="Share of the steps with a rising learning rate")
    weight_decay: NonNegative = 0.05
    betas: tuple[Share, Share] = (0.9, 0.98)
    epsilon: Positive = 1e-6
    clip_norm: Positive = Field(default=1.0, description="Largest gradient norm")
    accumulate: Count = Field(
        default=1, description="Parts that a process encodes its pairs in, one at a time; the loss is that of all pairs"
    )
    autocast: Literal["none", "bf16", "fp16"] = Field(
        default="none", description="Arithmetic of the towers; losses are fp32 in any case. fp16 scales the loss"
    )
    grad_checkpointing: bool = Field(
        default=False, description="Compute the towers' activations again in the backward pass instead of keeping them"
    )
    compile: bool = Field(default=False, description="torch.compile the towers; needs a C++ compiler on CPUs")


class RuntimeParams(Strict):
    """How runs are carried out. Nothing here changes weights, so that a change of it trains nothing again."""

    checkpoint_every: Count = Field(default=100, description="Steps between checkpoints")
    keep_last: Count = Field(default=2, description="How many of them are kept to resume from")
    keep_every: Count | None = Field(default=None, description="Keep the checkpoint of every so many steps for good")
    keep_best: bool = Field(default=False, description="Keep the checkpoint that is best on the validation split")
    validate_every: Count | None = Field(
        default=100, description="Steps between measurements on the validation split; null: none"
    )
    log_every: Count = Field(default=10, description="Steps between rows of history.csv")
    workers: Annotated[int, Field(ge=0)] = Field(
        default=0, description="Processes that load batches ahead, for each process that trains; 0: it loads itself"
    )
    trackers: tuple[Literal["dvclive", "tensorboard"], ...] = Field(
        default=(), description="Where the history is also written while a run trains, below logs/pretrain"
    )

    @model_validator(mode="after")
    def _best_needs_validation(self) -> "RuntimeParams":
        if self.keep_best and self.validate_every is None:
            raise ValueError("keep_best: the best checkpoint is found by validation; set validate_every")
        return self


class RegionChoice(Strict):
    """Which of an image's regions enter the powerset."""

    kinds: tuple[Literal["mask", "box"], ...] = Field(default=("mask",), min_length=1, description="In this order")
    count: Count = Field(default=6, description="At most this many, the first ones")


class PhraseChoice(Strict):
    """Which constituents of a caption are its phrases."""

    unit: Literal["phrases", "words"] = Field(
        default="phrases", description="words: every word by itself, without the parse (the paper's ablation)"
    )
    labels: tuple[str, ...] = Field(default=("NP", "PP", "VP", "S"), min_length=1)
    min_words: Count = 2
    count: Count = Field(default=12, description="At most this many: the shortest phrases, or the first words")
    normalise: bool = Field(default=True, description="Unit phrases; false: sums of unit words, as published")


class PowersetParams(Strict):
    """The powerset loss (PowerCLIP)."""

    weight: NonNegative = Field(default=0.0, description="λ of the total loss; 0 switches the term off")
    aggregator: Literal["exact", "nla", "sampled", "calibrated", "mean", "max"] = Field(
        default="nla", description="mean and max are controls without subsets; max is the single best region"
    )
    direction: Literal["both", "r2t", "t2r"] = Field(default="both", description="S, or one of its parts alone")
    tau: Positive = Field(default=1e-3, description="Temperature of both non-linear aggregators, at the last step")
    tau_start: Positive | None = Field(
        default=None, description="Temperature at the first step; it moves to tau geometrically. tau if left out"
    )
    zeta: Share = Field(default=0.75, description="Weight of log cosh (of tanh, in the gradient) in NLA-T2; 0: none")
    activation: Literal["softplus", "relu"] = Field(default="softplus", description="Of NLA-T1; relu: its limit τ = 0")
    cost: NonNegative | Literal["batch", "learnt"] = Field(
        default=0.0, description="b: what each chosen region costs; batch: the mean similarity of pairs; learnt: from 0"
    )
    empty_subset: bool = Field(default=True, description="Whether choosing no region at all counts, as published")
    samples: Annotated[int, Field(ge=2, multiple_of=2)] = Field(
        default=16, description="Subsets of `sampled` and `calibrated`"
    )
    loss: Literal["triplet", "cross-entropy"] = "triplet"
    margin: NonNegative = 0.2
    negatives: Literal["hardest", "semi-hard"] = "semi-hard"
    temperature: Positive = Field(default=15.0, description="Initial scale of S under cross-entropy; learnt")
    per_region: bool = Field(default=True, description="Divide S by the number of regions")
    centre: bool = Field(default=False, description="Centre regions and phrases over the batch")
    regions: RegionChoice = RegionChoice()
    phrases: PhraseChoice = PhraseChoice()

    @model_validator(mode="after")
    def _exact_is_small(self) -> "PowersetParams":
        if self.aggregator == "exact" and self.regions.count > 16:
            raise ValueError("aggregator: exact enumerates 2^R subsets; regions.count must be at most 16")
        return self


class CSParams(Strict):
    """The Cauchy-Schwarz divergence between both modalities' embeddings (CS-Aligner)."""

    weight: NonNegative = Field(default=0.0, description="Weight of D_CS in the total loss; 0 switches the term off")
    sigma: Positive | Literal["median"] | Annotated[tuple[Positive, ...], Field(min_length=1)] = Field(
        default="median", description="Kernel width: fixed, the median heuristic, or several kernels"
    )
    unbiased: bool = Field(default=True, description="Leave the diagonal out of the within-modality means")
    token_weight: NonNegative = Field(
        default=0.0, description="Weight of D_CS between each pair's patch tokens and word tokens"
    )


class ObjectiveParams(Strict):
    """total = InfoNCE + powerset.weight * its loss + cs.weight * D_CS + cs.token_weight * D_CS of tokens"""

    contrastive: NonNegative = Field(default=1.0, description="Weight of InfoNCE")
    powerset: PowersetParams = PowersetParams()
    cs: CSParams = CSParams()


class RunParams(Strict):
    """All that one run's weights depend on, beside data and seed."""

    model: ModelParams
    train: TrainParams = TrainParams()
    objective: ObjectiveParams = ObjectiveParams()


class Arm(Strict):
    """What an arm changes, and how many of the seeds of `runs` it is trained with."""

    most_seeds: Count | None = Field(default=None, description="The first so many seeds of `runs`; all if left out")
    model: dict[str, Any] = {}
    train: dict[str, Any] = {}
    objective: dict[str, Any] = {}

    def changes(self) -> dict[str, Any]:
        """Its part of a run's params."""
        return self.model_dump(exclude={"most_seeds"})


class Ablation(Strict):
    """A grid over one param of an arm."""

    name: Name
    arm: Name
    param: str = Field(description="Path of the param below an arm, such as objective.powerset.tau")
    values: tuple[Any, ...] = Field(min_length=1)
    seeds: Annotated[tuple[Seed, ...], Field(min_length=1)] | None = Field(
        default=None, description="Those of `runs` if left out"
    )
    set: dict[str, Any] = Field(default={}, description="Further changes to every run of this grid")

    def run_name(self, value: Any) -> str:
        """`tau-0.001`: the grid's name and the value, as the run's folder and DVC experiment are called."""
        number = isinstance(value, int | float) and not isinstance(value, bool)
        text = f"{value:.12g}" if number else json.dumps(value, ensure_ascii=False)
        return f"{self.name}-" + re.sub(r"[^\w.+-]+", "-", text).strip("-")


class Selection(Strict):
    """What `all` makes."""

    arms: tuple[Name, ...] = Field(min_length=1)
    seeds: tuple[Seed, ...] = Field(default=(0, 1, 2), min_length=1)
    ablations: tuple[Name, ...] = ()

    @model_validator(mode="after")
    def _nothing_twice(self) -> "Selection":
        for key in ("arms", "seeds", "ablations"):
            values = getattr(self, key)
            twice = [value for value in dict.fromkeys(values) if values.count(value) > 1]
            if twice:
                raise ValueError(f"{key}: {twice[0]!r} stands there more than once")
        return self


class EvaluationParams(Strict):
    """What is measured, and on which split."""

    split: Literal["validation", "test"] = "test"
    benchmarks: tuple[Literal["retrieval", "zeroshot", "composition", "grounding", "modality", "transfer"], ...] = (
        Field(default=("retrieval", "zeroshot", "composition", "grounding", "modality", "transfer"), min_length=1)
    )
    batch_size: Count = 250

    @model_validator(mode="after")
    def _transfer_needs_validation(self) -> "EvaluationParams":
        if self.split == "validation" and "transfer" in self.benchmarks:
            raise ValueError("benchmarks: transfer trains its classifier on validation; measure it on split: test")
        return self


class PrecisionParams(Strict):
    """How far each aggregator is from the exact powerset."""

    taus: tuple[Positive, ...] = Field(default=(1.0, 0.1, 0.01, 0.001), min_length=1)
    zetas: tuple[Share, ...] = Field(default=(0.0, 0.1, 0.25, 0.5, 0.75, 1.0), min_length=1)
    regions: tuple[Annotated[int, Field(ge=1, le=16)], ...] = Field(default=(4, 6, 8, 10, 12), min_length=1)
    samples: tuple[Annotated[int, Field(ge=2, multiple_of=2)], ...] = Field(default=(8, 16, 64), min_length=1)
    calibration_samples: Annotated[int, Field(ge=2, multiple_of=2)] = Field(
        default=16, description="Subsets that calibrate ζ"
    )
    pairs: Count = Field(default=64, description="Image-caption pairs that are averaged over")
    seed: int = 0


class ReportParams(Strict):
    """What the report compares with."""

    baseline: Name = "clip"
    control: Name = Field(default="linear", description="The arm without subsets")
    precision: PrecisionParams = PrecisionParams()


class Params(Strict):
    """The whole of params.yaml."""

    root: str = Field(default=".", description="Everything that the workflow writes lies below this folder")
    focus: Name = Field(description="The run whose metrics become metrics.json")
    runs: Selection
    dataset: ScenesParams = ScenesParams()
    annotate: AnnotateParams = AnnotateParams()
    model: ModelParams
    train: TrainParams = TrainParams()
    objective: ObjectiveParams = ObjectiveParams()
    runtime: RuntimeParams = RuntimeParams()
    arms: dict[Name, Arm] = Field(description="Changes to model, train and objective, by arm")
    ablations: tuple[Ablation, ...] = ()
    evaluation: EvaluationParams = EvaluationParams()
    report: ReportParams = ReportParams()

    @model_validator(mode="after")
    def _every_arm_is_valid(self) -> "Params":
        for arm in self.arms:
            self._run_params(arm)
        return self

    @model_validator(mode="after")
    def _names_exist(self) -> "Params":
        for key, wanted, known in self._references():
            for name in wanted:
                if name not in known:
                    raise ValueError(f"{key}: '{name}' is not one of {', '.join(sorted(known)) or 'none'}")
        return self

    def _references(self) -> Iterator[tuple[str, tuple[str, ...], set[str]]]:
        """(key, the names it gives, the names there are); the runs come last, since they need the arms to exist."""
        yield "runs.arms", self.runs.arms, set(self.arms)
        yield "runs.ablations", self.runs.ablations, {grid.name for grid in self.ablations}
        for grid in self.ablations:
            yield f"ablations.{grid.name}.arm", (grid.arm,), set(self.arms)
        for key in ("baseline", "control"):
            yield f"report.{key}", (getattr(self.report, key),), set(self.arms)
        yield "focus", (self.focus,), set(self.all_runs)

    @cached_property
    def all_runs(self) -> dict[str, "Run"]:
        """Every selected run by name: the arms, then the grids' values."""
        found = {
            name: Run(name, name, None, None, self.runs.seeds[: self.arms[name].most_seeds], self._run_params(name))
            for name in self.runs.arms
        }
        for grid in (grid for grid in self.ablations if grid.name in self.runs.ablations):
            for value in grid.values:
                name = grid.run_name(value)
                if name in found:
                    raise ValueError(f"ablations.{grid.name}: the run '{name}' exists twice")
                changes = (grid.set, nested(grid.param, value))
                params = self._run_params(grid.arm, *changes, where=f"ablations.{grid.name}")
                found[name] = Run(name, grid.arm, grid, value, grid.seeds or self.runs.seeds, params)
        return found

    def _run_params(self, arm: str, *changes: Mapping[str, Any], where: str = "") -> RunParams:
        base = {key: getattr(self, key).model_dump() for key in ("model", "train", "objective")}
        for change in (self.arms[arm].changes(), *changes):
            base = merged(base, change)
        try:
            return RunParams.model_validate(base)
        except ValidationError as error:
            raise ValueError(describe(error, prefix=where or f"arms.{arm}")) from None


class Run:
    """A name with its effective params: an arm, or one value of a grid."""

    def __init__(
        self, name: str, arm: str, grid: Ablation | None, value: Any, seeds: tuple[int, ...], params: RunParams
    ) -> None:
        self.name, self.arm, self.grid, self.value, self.seeds, self.params = name, arm, grid, value, seeds, params

    def config(self) -> dict[str, Any]:
        """What `vlalign pretrain` is told, as plain JSON values."""
        ablation = {"name": self.grid.name, "param": self.grid.param, "value": self.value} if self.grid else None
        params = relevant(self.params.model_dump(mode="json"))
        return {"run": self.name, "arm": self.arm, "ablation": ablation, "params": params}


# Params that mean nothing to an aggregator or a loss.
SMOOTH = ("tau", "tau_start", "zeta", "activation")
UNUSED = {
    "mean": (*SMOOTH, "samples", "empty_subset"),
    "max": (*SMOOTH, "samples", "empty_subset"),
    "exact": (*SMOOTH, "samples"),
    "sampled": SMOOTH,
    "calibrated": ("zeta",),
    "nla": ("samples",),
    "triplet": ("temperature",),
    "cross-entropy": ("margin", "negatives"),
}


def relevant(params: dict[str, Any]) -> dict[str, Any]:
    """The params of a run without those of terms that are switched off, so that changing these trains nothing again."""
    objective = {
        name: _relevant_term(term) if isinstance(term, dict) else term for name, term in params["objective"].items()
    }
    return {**params, "objective": objective}


def _relevant_term(term: dict[str, Any]) -> dict[str, Any]:
    weights = {key: value for key, value in term.items() if key.endswith("weight")}
    if not any(weights.values()):
        return weights
    unused = [name for key in ("aggregator", "loss") for name in UNUSED.get(term.get(key, ""), ())]
    return {key: value for key, value in term.items() if key not in unused}


def nested(path: str, value: Any) -> dict[str, Any]:
    """`a.b`, 1 -> {"a": {"b": 1}}"""
    for key in reversed(path.split(".")):
        value = {key: value}
    return value


def merged(base: Mapping[str, Any], change: Mapping[str, Any]) -> dict[str, Any]:
    """`base` with `change` laid over it, key by key."""
    result = dict(base)
    for key, value in change.items():
        both = isinstance(value, Mapping) and isinstance(result.get(key), Mapping)
        result[key] = merged(result[key], value) if both else value
    return result


def describe(error: ValidationError, *, prefix: str = "") -> str:
    """One line per mistake: the key's path, what is wrong, and the value that was given."""
    lines = []
    for item in error.errors(include_url=False):
        path = ".".join([prefix, *map(str, item["loc"])] if prefix else map(str, item["loc"]))
        message = item["msg"].removeprefix("Value error, ")
        if item["type"] == "extra_forbidden":
            message = "unknown key"
        shown = "" if isinstance(item["input"], dict) else f" (given: {item['input']!r})"
        lines.append(f"{path}: {message}{shown}" if path else message)
    return "\n".join(dict.fromkeys(lines))


def parse(config: Mapping[str, Any], *, source: str = "params.yaml") -> Params:
    """Typed params from plain values; raises VlalignError that names every key at fault."""
    try:
        return Params.model_validate(dict(config))
    except ValidationError as error:
        raise VlalignError(f"{source} is not valid:\n{describe(error)}") from None


def load(*paths: str | Path) -> Params:
    """Read params.yaml and the overlays after it; later files win key by key."""
    config: dict[str, Any] = {}
    for path in paths:
        try:
            config = merged(config, yaml.safe_load(Path(path).read_text(encoding="utf-8")) or {})
        except FileNotFoundError:
            raise VlalignError(f"{path} does not exist; give the path of a params file") from None
        except (yaml.YAMLError, AttributeError) as error:
            raise VlalignError(f"{path} is not a YAML mapping: {error}") from None
    return parse(config, source=" + ".join(map(str, paths)))


def digest(value: Any) -> str:
    """Short SHA-256 of plain values, the same for equal params."""
    return hashlib.sha256(json.dumps(value, sort_keys=True).encode()).hexdigest()[:16]


def schema() -> dict[str, Any]:
    """JSON Schema of params.yaml; workflow/schemas/params.schema.json is this."""
    return {"$schema": "https://json-schema.org/draft/2020-12/schema", **Params.model_json_schema()}
