"""What one run's weights depend on, beside data and seed, and how it is carried out."""

from pathlib import Path
from typing import Annotated, Any, Literal

from pydantic import Field, field_validator, model_validator

from vlalign.errors import VlalignError
from vlalign.files import read_object
from vlalign.params.base import Count, Few, Many, NonNegative, PathText, Positive, Samples, Share, Strict

# Of a tower's config.
LARGEST, MOST_NESTED = 10_000_000, 20


class ModelParams(Strict):
    """The two towers."""

    tower: str | dict[str, Any] = Field(
        description="An open_clip model name, or a JSON file of an open_clip config, whose content is put in its place",
    )
    pooling: Literal["average", "default"] = Field(
        default="average", description="average: mean of patch tokens and of real word tokens; default: the tower's own"
    )
    pretrained: PathText | None = Field(
        default=None, description="Weights to start from: a tag of open_clip for this name, or a file"
    )
    lock_image: bool = Field(default=False, description="Do not train the image tower (LiT)")
    lock_text: bool = Field(default=False, description="Do not train the text tower")
    unlocked_image_groups: Annotated[int, Field(ge=0, le=1_000)] = Field(
        default=0, description="Groups of layers at the end of a locked image tower that are trained all the same"
    )
    unlocked_text_layers: Annotated[int, Field(ge=0, le=1_000)] = Field(
        default=0, description="Layers at the end of a locked text tower that are trained all the same"
    )

    @field_validator("tower", mode="before")
    @classmethod
    def _read_tower(cls, tower: Any) -> Any:
        if not (isinstance(tower, str) and tower.endswith(".json")):
            return tower
        try:
            if not Path(tower).exists():
                raise ValueError("this file does not exist; give an open_clip model name or a JSON file")
            return read_object(tower, remedy="correct it, or give an open_clip model name")
        except VlalignError as error:
            raise ValueError(str(error)) from None
        except OSError as error:
            raise ValueError(f"this file cannot be read ({error.strerror})") from None

    @field_validator("tower")
    @classmethod
    def _tower_is_sane(cls, tower: str | dict[str, Any]) -> str | dict[str, Any]:
        _check_numbers(tower)
        return tower


def _check_numbers(config: Any, *keys: str) -> None:
    """Raises ValueError for a number that no part of a tower has, and for nesting that none needs."""
    if len(keys) > MOST_NESTED:
        raise ValueError(f"{keys[0]} is nested too deeply; give an open_clip config")
    if isinstance(config, int | float) and not abs(config) <= LARGEST:
        raise ValueError(f"{'.'.join(keys)} must be at most {LARGEST:,}")
    below = config.items() if isinstance(config, dict) else enumerate(config) if isinstance(config, list) else ()
    for key, value in below:
        _check_numbers(value, *keys, str(key))


class AugmentParams(Strict):
    """Another part of every picture in every epoch; masks of regions move with it."""

    scale: tuple[Share, Share] = Field(default=(0.9, 1.0), description="Share of the picture's area that is cut out")
    ratio: tuple[Positive, Positive] = Field(default=(0.75, 1.3333), description="Width through height of the cut")
    flip: Share = Field(default=0.0, description="Probability of a mirror image, which captions with sides contradict")

    @model_validator(mode="after")
    def _ranges_rise(self) -> "AugmentParams":
        for name in ("scale", "ratio"):
            low, high = getattr(self, name)
            if not 0 < low <= high:
                raise ValueError(f"{name} must be two numbers above 0, the second no smaller")
        return self


class TrainParams(Strict):
    """Optimisation: AdamW with linear warm-up and cosine decay."""

    steps: Many = 600
    epochs: Count | None = Field(
        default=None, description="In place of steps: how often every training image is seen, incomplete batches apart"
    )
    batch_size: Annotated[Count, Field(ge=2)] = 128
    learning_rate: Positive = 2e-3
    warmup: Share = Field(default=0.05, description="Share of the steps with a rising learning rate")
    weight_decay: NonNegative = 0.05
    betas: tuple[Share, Share] = (0.9, 0.98)
    epsilon: Positive = 1e-6
    clip_norm: Positive = Field(default=1.0, description="Largest gradient norm")
    augment: AugmentParams | None = Field(
        default=None, description="How pictures are cut; the middle in every epoch if left out"
    )
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

    checkpoint_every: Many = Field(default=100, description="Steps between checkpoints")
    keep_last: Count = Field(default=2, description="How many of them are kept to resume from")
    keep_every: Many | None = Field(default=None, description="Keep the checkpoint of every so many steps for good")
    keep_best: bool = Field(default=False, description="Keep the checkpoint that is best on the validation split")
    validate_every: Many | None = Field(
        default=100, description="Steps between measurements on the validation split; null: none"
    )
    log_every: Many = Field(default=10, description="Steps between rows of history.csv")
    workers: Annotated[int, Field(ge=0, le=1_000)] = Field(
        default=0, description="Processes that load batches ahead, for each process that trains; 0: it loads itself"
    )
    cache_mib: Annotated[int, Field(ge=0, le=100_000_000)] = Field(
        default=2048, description="Decoded pictures and captions are kept in memory if they take no more than this"
    )
    parts: Annotated[Count, Field(le=10_000)] = Field(
        default=1, description="Jobs that verify and annotate the training split, each a part of its shards"
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

    kinds: tuple[Literal["mask", "box"], ...] = Field(
        default=("mask",), min_length=1, description="Random boxes, new in every epoch, fill up what masks leave"
    )
    count: Few = Field(default=6, description="At most this many masks; with boxes exactly this many regions")
    order: Literal["first", "random"] = Field(
        default="first", description="Which masks: the first of the segmenter's order, or others in every epoch"
    )


class PhraseChoice(Strict):
    """Which constituents of a caption are its phrases."""

    unit: Literal["phrases", "words"] = Field(
        default="phrases", description="words: every word by itself, without the parse (the paper's ablation)"
    )
    labels: tuple[str, ...] = Field(default=("NP", "PP", "VP", "S"), min_length=1)
    min_words: Few = 2
    count: Few = Field(default=12, description="At most this many: the shortest phrases, or the first words")
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
    samples: Samples = Field(default=16, description="Subsets of `sampled` and `calibrated`")
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


class UnpairedChoice(Strict):
    """How many images and captions without a partner join the distributions of every batch."""

    images: Annotated[int, Field(ge=0, le=1_000_000)] = 0
    captions: Annotated[int, Field(ge=0, le=1_000_000)] = 0


class CSParams(Strict):
    """The Cauchy-Schwarz divergence between both modalities' embeddings (CS-Aligner)."""

    weight: NonNegative = Field(default=0.0, description="Weight of D_CS in the total loss; 0 switches the term off")
    sigma: Positive | Literal["median"] | Annotated[tuple[Positive, ...], Field(min_length=1)] = Field(
        default="median", description="Kernel width: fixed, the median heuristic, or several kernels"
    )
    unbiased: bool = Field(default=True, description="Leave the diagonal out of the within-modality means")
    captions: Literal["one", "all"] = Field(
        default="one", description="all: the other captions of a batch's images join the distribution of texts"
    )
    unpaired: UnpairedChoice = UnpairedChoice()
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
    train = params["train"]
    unused = "epochs" if train["epochs"] is None else "steps"
    return {**params, "train": {k: v for k, v in train.items() if k != unused}, "objective": objective}


def _relevant_term(term: dict[str, Any]) -> dict[str, Any]:
    weights = {key: value for key, value in term.items() if key.endswith("weight")}
    if not any(weights.values()):
        return weights
    unused = [name for key in ("aggregator", "loss") for name in UNUSED.get(term.get(key, ""), ())]
    if "token_weight" in term and not term["weight"]:
        unused += ["captions", "unpaired"]
    return {key: value for key, value in term.items() if key not in unused}
