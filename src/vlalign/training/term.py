"""What a term of the loss is. Every term is one module of `vlalign.training.terms`, which holds its params, what it
needs, what it computes, and how its numbers are called.

Modules of terms are imported wherever params are read, so they import torch in the functions that use it.
"""

from collections.abc import Callable, Mapping
from typing import TYPE_CHECKING, Any, ClassVar, Generic, NamedTuple, TypeVar

from vlalign.params.choices import TermParams
from vlalign.registry import Registered, plugins

if TYPE_CHECKING:
    import torch
    from torch import Tensor

    from vlalign.models import ImageFeatures, TextFeatures
    from vlalign.objectives.distributed import Group
    from vlalign.training.data.batches import Batch

PACKAGE = "vlalign.training.terms"


class Step(NamedTuple):
    """What a term knows of a step: random generators by name, equal in all processes, and how far training is: 0 at the
    first step, 1 at the last.
    """

    random: "Callable[[str], torch.Generator]"
    progress: float = 1.0


class Pairs(NamedTuple):
    """Embeddings of a batch: image i belongs to caption i. Those without a partner are None where there are none, and
    so are twins of captions and the bool mask of those that have one (`vlalign.annotate.phrases.twins`).
    """

    image_ID: "Tensor"
    text_CD: "Tensor"
    logit_scale: "Tensor"
    more_images_ED: "Tensor | None" = None
    more_texts_ED: "Tensor | None" = None
    twins_CD: "Tensor | None" = None
    twin_mask: "Tensor | None" = None

    def images(self) -> "Tensor":
        """All embeddings of images, with those without a partner."""
        import torch

        return self.image_ID if self.more_images_ED is None else torch.cat((self.image_ID, self.more_images_ED))

    def texts(self) -> "Tensor":
        """All embeddings of captions, with those without a partner."""
        import torch

        return self.text_CD if self.more_texts_ED is None else torch.cat((self.text_CD, self.more_texts_ED))


OwnParams = TypeVar("OwnParams", bound=TermParams)


class Term(Registered, Generic[OwnParams]):
    """One term of the total loss, for one run.

    Args:
        params: as the run has them.
        group: processes that hold a part of every batch each, with the number of pairs of each, so that it serves for
            rows that belong to pairs; others need `plain(group)`. See `vlalign.objectives.distributed`.
    """

    demanded = ("losses",)
    # Its params; `weight` among them.
    Params: ClassVar[type[TermParams]] = TermParams
    # Terms are added, and shown, by rank and then by name.
    rank: ClassVar[int] = 100
    # Whether it is computed, and shown, even where it does not train.
    is_watched: ClassVar[bool] = False
    # What a figure calls each of its numbers in the history: its losses, and its statistics.
    labels: ClassVar[Mapping[str, str]] = {}
    # What a model card says of a run that it trained: a tag, and a reference as BibTeX.
    tag: ClassVar[str] = ""
    citation: ClassVar[str] = ""

    def __init__(self, params: OwnParams, *, group: "Group" = None) -> None:
        self.params, self.group = params, group

    @classmethod
    def weights(cls, params: TermParams) -> dict[str, float]:
        """The losses that it adds, by their name in the history, with their weights once these have risen."""
        return {cls.name.replace("-", "_"): params.weight}

    @classmethod
    def describe(cls, params: TermParams) -> dict[str, float]:
        """What a model card calls its losses, with their weights."""
        return {cls.name: params.weight}

    def learnt(self) -> dict[str, float]:
        """Numbers that are trained with it, with their values at the start; `features` has them by their names."""
        return {}

    def features(self, image: "ImageFeatures", text: "TextFeatures", batch: "Batch") -> "dict[str, Tensor]":
        """What it needs of every pair beside the embeddings; nothing in it may depend on other pairs of the batch, of
        which only a part may be at hand. Rows belong to pairs.
        """
        return {}

    def losses(self, pairs: Pairs, features: "Mapping[str, Tensor]", step: Step) -> "dict[str, Tensor]":
        """Scalars by the names of `weights`; those of a weight of 0 may be left out."""
        raise NotImplementedError

    def statistics(self, pairs: Pairs, features: "Mapping[str, Tensor]", step: Step) -> dict[str, float]:
        """What else the history shows of this process's pairs, by column."""
        return {}


def known_terms() -> dict[str, type[Term[Any]]]:
    """All terms by name, in the order in which they are added."""
    found: dict[str, type[Term[Any]]] = plugins(Term, PACKAGE)
    return dict(sorted(found.items(), key=lambda item: (item[1].rank, item[0])))
