"""What one run's weights depend on, beside data and seed, and how it is carried out."""

from dataclasses import replace
from importlib import import_module
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Literal

from pydantic import Field, create_model, field_validator, model_validator

from vlalign.errors import VlalignError
from vlalign.files import read_object
from vlalign.params.base import Count, Many, NonNegative, PathText, Positive, Share, Strict
from vlalign.params.choices import Needs, TermParams, a_number_is_the_weight
from vlalign.registry import summary

# Of a tower's config.
LARGEST, MOST_NESTED = 10_000_000, 20
# Of ModelParams: weights of one tower alone.
PARTS = ("image_weights", "text_weights")
# What came later than runs: where it is left out, it is no part of them, and changes none.
LATER = {*PARTS, "start", "adapters", "lora"}


class AdapterParams(Strict):
    """Adapters, which map what frozen towers give into a joint space (CS-Aligner)."""

    kind: Literal["mlp", "transformer", "centred"] = Field(
        default="mlp",
        description="mlp: of the pooled features; transformer: over the tokens; centred: no training, each modality's "
        "mean is subtracted (GR-CLIP), and only the temperature is trained",
    )
    dimension: Count = Field(default=256, description="Channels of the joint space")
    hidden: Count = Field(default=512, description="Channels of the hidden layers")
    layers: Annotated[Count, Field(le=100)] = 1
    heads: Annotated[Count, Field(le=1_000)] = Field(default=4, description="Of attention, in a transformer")
    dropout: Share = 0.0
    sides: Literal["both", "text"] = Field(
        default="both",
        description="text: what the image tower gives stays as it is, and `dimension` is its width; a decoder of "
        "pictures then reads captions",
    )

    def relevant(self) -> dict[str, Any]:
        """As plain values, without `sides` where both are adapted, as they were before there was a choice."""
        plain = self.model_dump(mode="json")
        return plain if self.sides != "both" else {key: value for key, value in plain.items() if key != "sides"}

    @model_validator(mode="after")
    def _centred_are_both(self) -> "AdapterParams":
        if self.kind == "centred" and self.sides != "both":
            raise ValueError("sides: centred adapters subtract the mean of each modality; leave it out, or choose mlp")
        return self

    @model_validator(mode="after")
    def _heads_divide(self) -> "AdapterParams":
        if self.kind == "transformer" and self.hidden % self.heads:
            raise ValueError(f"hidden is {self.hidden}, which {self.heads} heads do not divide; change one of them")
        return self


class LoraParams(Strict):
    """Low-rank changes of the linear maps in a frozen text tower, by peft."""

    rank: Annotated[Count, Field(le=10_000)] = 8
    alpha: Annotated[Count, Field(le=1_000_000)] = Field(default=16, description="The change is scaled by alpha / rank")


class ModelParams(Strict):
    """The two towers."""

    tower: str | dict[str, Any] = Field(
        description="An open_clip model name, or a JSON file of an open_clip config, alone or as model_cfg beside "
        "preprocess_cfg, whose content is put in its place"
    )
    pooling: Literal["average", "default"] = Field(
        default="average", description="average: mean of patch tokens and of real word tokens; default: the tower's own"
    )
    pretrained: PathText | None = Field(
        default=None, description="Weights to start from: a tag of open_clip for this name, or a file"
    )
    image_weights: PathText | None = Field(
        default=None,
        description="Weights of the image tower alone: a name that begins with package:, or a file",
    )
    text_weights: PathText | None = Field(
        default=None,
        description="Weights of the text tower alone: a name that begins with package:, or a file",
    )
    lock_image: bool = Field(default=False, description="Do not train the image tower (LiT)")
    lock_text: bool = Field(default=False, description="Do not train the text tower")
    unlocked_image_groups: Annotated[int, Field(ge=0, le=1_000)] = Field(
        default=0, description="Groups of layers at the end of a locked image tower that are trained all the same"
    )
    unlocked_text_layers: Annotated[int, Field(ge=0, le=1_000)] = Field(
        default=0, description="Layers at the end of a locked text tower that are trained all the same"
    )
    start: Annotated[str, Field(max_length=200)] | None = Field(
        default=None, description="Run whose weights of the same seed this one starts from"
    )
    adapters: AdapterParams | None = Field(
        default=None, description="Freeze both towers, and train adapters on what they give"
    )
    lora: LoraParams | None = Field(
        default=None, description="With adapters: low-rank changes of the text tower, which then reads every caption"
    )

    def relevant(self) -> dict[str, Any]:
        """As plain values, without what is `LATER` and not used."""
        plain = self.model_dump(mode="json")
        if self.adapters is not None:
            plain["adapters"] = self.adapters.relevant()
        return {key: value for key, value in plain.items() if value is not None or key not in LATER}

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

    @model_validator(mode="after")
    def _adapters_are_of_frozen_towers(self) -> "ModelParams":
        if self.lora is not None and self.adapters is None:
            raise ValueError("lora: it goes with adapters; give `adapters`, {} has their defaults")
        others = [name for name in ("pretrained", *PARTS) if getattr(self, name) is not None]
        if self.start is not None and others:
            raise ValueError(f"start: weights are those of a run, or of `{others[0]}`, not both; leave one out")
        if self.adapters is not None and (self.unlocked_image_groups or self.unlocked_text_layers):
            raise ValueError("adapters: they are of frozen towers; leave unlocked_image_groups and -text_layers at 0")
        return self

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
    pairs: Annotated[Many, Field(ge=2)] | None = Field(
        default=None, description="The first so many training images alone come with their captions; all if left out"
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


class Terms(Strict):
    """total = the sum of weight times loss over the terms"""

    def terms(self) -> dict[str, TermParams]:
        """The params of every term by its name, in the order in which they are added."""
        return {name.replace("_", "-"): getattr(self, name) for name in type(self).model_fields}

    @property
    def needs(self) -> Needs:
        """What the terms that are used need beside pairs."""
        return Needs.of_all(term.needs() for term in self.terms().values() if term.is_used)

    def relevant(self) -> dict[str, Any]:
        """See TermParams.relevant. A term that is off, as it is by default, is left out: a new term changes no run."""
        off = {name: not field.get_default().is_used for name, field in type(self).model_fields.items()}
        terms = {name: getattr(self, name) for name in off}
        return {name: term.relevant() for name, term in terms.items() if term.is_used or not off[name]}


if TYPE_CHECKING:

    class ObjectiveParams(Terms):
        """Composed of the terms' own params."""

        def __getattr__(self, name: str) -> Any: ...
else:
    # A key for every term, with its defaults.
    KINDS = {name: kind.Params for name, kind in import_module("vlalign.training.term").known_terms().items()}
    KEYS = {
        name.replace("-", "_"): (a_number_is_the_weight(kind), Field(default=kind(), description=summary(kind)))
        for name, kind in KINDS.items()
    }
    ObjectiveParams = create_model("ObjectiveParams", __base__=Terms, __doc__=Terms.__doc__, **KEYS)


class RunParams(Strict):
    """All that one run's weights depend on, beside data and seed."""

    model: ModelParams
    train: TrainParams = TrainParams()
    objective: ObjectiveParams = ObjectiveParams()

    @property
    def needs(self) -> Needs:
        """What the run reads beside pairs."""
        needs = self.objective.needs
        transformer = self.model.adapters is not None and self.model.adapters.kind == "transformer"
        return replace(needs, rest=self.train.pairs is not None, tokens=needs.tokens or transformer)

    @model_validator(mode="after")
    def _terms_agree(self) -> "RunParams":
        if self.model.adapters is None:
            _ = self.needs
        elif self.needs.twins:
            raise ValueError(
                "model.adapters: frozen towers' features have no twins of captions; leave hard_negatives out"
            )
        elif self.needs.phrases or self.needs.regions:
            raise ValueError("model.adapters: frozen towers' features have no phrases or regions; leave that term out")
        elif self.train.augment:
            raise ValueError("train.augment: frozen towers' features are of whole pictures; leave it out with adapters")
        return self

    def relevant(self) -> dict[str, Any]:
        """As plain values, without the params of terms that are off, so that changing these trains nothing again."""
        plain = self.model_dump(mode="json", exclude={"objective", "model"})
        if self.train.pairs is None:
            del plain["train"]["pairs"]
        del plain["train"]["steps" if self.train.epochs is not None else "epochs"]
        return {"model": self.model.relevant(), **plain, "objective": self.objective.relevant()}
