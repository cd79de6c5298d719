"""What every source of shards is asked, whatever it is; the sources themselves are plug-ins."""

from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, ClassVar, Literal, Self

from pydantic import Field, field_validator

from vlalign.params.base import Count, Few, OneOf, Share, Strict
from vlalign.registry import Registered

if TYPE_CHECKING:
    from vlalign.data.packing.image_lists import Listing
    from vlalign.data.shards.fetch import RemoteFiles
    from vlalign.data.skipped import Skips

Names = Annotated[tuple[str, ...], Field(min_length=1)]


class Source(Strict, Registered):
    """Where the shards of a split come from.

    A source is a class in a module of `vlalign.data.sources` that derives from one of the three kinds below, each of
    which a rule of the workflow brings. Its fields are its params; the field `source` is a Literal of its name. Such
    modules are imported wherever params are read: what takes time to import, they import within methods.

    The class also says:
        path_keys: fields that hold a path, or several, counted from the folder of params.yaml.
        file_keys: those of them that name one file, on whose content the shards depend.
        how_keys: fields that change how it is brought, but not what comes.
    """

    path_keys: ClassVar[tuple[str, ...]] = ()
    file_keys: ClassVar[tuple[str, ...]] = ()
    how_keys: ClassVar[tuple[str, ...]] = ()

    def shown(self) -> dict[str, Any]:
        """What of it is recorded, as plain values: all but how it is brought, and no secrets."""
        return self.model_dump(mode="json", exclude=set(self.how_keys))

    def secrets(self) -> dict[str, str]:
        """Variables of the environment that are hidden in messages, with what `shown` leaves out."""
        return {}

    def inputs(self) -> tuple[str, ...]:
        """Paths of the files whose content the shards depend on."""
        return tuple(getattr(self, key) for key in self.file_keys)

    def located(self, base: Path) -> Self:
        """The same with its paths as they are seen from here; base: the folder that they count from."""
        if base == Path():
            return self
        given = {key: getattr(self, key) for key in self.path_keys if getattr(self, key) is not None}
        one = {key: str(base / path) for key, path in given.items() if isinstance(path, str)}
        several = {key: tuple(str(base / path) for path in given[key]) for key in given.keys() - one}
        return self.model_copy(update=one | several)

    def checks(self) -> Mapping[str, Callable[[], object]]:
        """By field: what raises VlalignError when the files that it names are not there."""
        return {}

    def lacks(self, need: Literal["captions", "classes"]) -> str:
        """Why none of its images has these, as a message; empty when they may have."""
        return ""

    def held_out(self, shares: Mapping[Any, float]) -> "tuple[dict[str, Source], Source]":
        """Sources of the splits that take these shares of its images, by the split's name, and of what is left.

        Raises ValueError when its images cannot be divided.
        """
        if shares:
            raise ValueError(f"hold_out: shards of `{self.name}` are not divided; give sources of their own")
        return {}, self


class FetchedSource(Source):
    """Shards that lie elsewhere and are downloaded."""

    how_keys: ClassVar = ("connections",)

    connections: Few = Field(default=4, description="Files that are fetched at once")

    def at(self, key: str) -> str:
        """The key in the params and what stands there, for messages."""
        return key

    def remote_files(self, extras: Sequence[str], *, key: str) -> "RemoteFiles":
        """The shards in order, and those of the extras, files of other kinds, that there are.

        Raises VlalignError when there is no such list, and when it lacks what is asked for.
        """
        raise NotImplementedError

    def is_offline(self) -> bool:
        """Whether nobody may be asked what there is."""
        return False

    def login(self, url: str) -> dict[str, str]:
        """Headers with a token or a login, for a request of one of its files."""
        return {}

    def refusal(self, url: str, status: int, *, key: str) -> str:
        """What to tell the user when a server answers with this status in place of a file."""
        return f"{self.at(key)}: {url} answers {status}; correct the address, or give one that needs no login"


class InPlaceSource(Source):
    """Shards on this disk that are read where they lie."""

    def shard_paths(self) -> list[Path]:
        """The shards in order; raises VlalignError when there are none, or one is missing or not whole."""
        raise NotImplementedError

    def expected(self, shard: Path) -> int | None:
        """How many samples a shard must have, where that is known."""
        return None


class PackedSource(Source):
    """Single files, which are packed into shards.

    `part` is the share of the images that is taken, as an interval of [0, 1): every image has its place there, which
    is a hash of its path.

    The class also says:
        bare: whether its images are of use with neither captions nor a class.
    """

    bare: ClassVar[bool] = False

    part: tuple[Share, Share] = (0.0, 1.0)
    shard_size: Count = Field(default=2000, description="Images of a shard")

    @field_validator("part")
    @classmethod
    def _rises(cls, part: tuple[float, float]) -> tuple[float, float]:
        if part[0] >= part[1]:
            raise ValueError("part must rise, such as [0, 0.8]")
        return part

    def listing(self, skips: "Skips") -> "Listing":
        """All of its images, whatever `part` says, each once and in an order that does not depend on the disk.

        skips: counts what belongs to no image. Raises VlalignError when the source is not as it should be.
        """
        raise NotImplementedError

    def files(self) -> Mapping[str, str]:
        """Further files of the split, text by name: names of classes, templates of prompts, hard negatives."""
        return {}

    def lacks(self, need: Literal["captions", "classes"]) -> str:
        """See Source."""
        return "it has no classes; give a folder of classes, or shards with .cls" if need == "classes" else ""

    def held_out(self, shares: Mapping[Any, float]) -> tuple[dict[str, Source], Source]:
        """See Source; the splits take the end of the images' places."""
        first, end = self.part
        found: dict[str, Source] = {}
        for split, share in shares.items():
            start = end - share * (self.part[1] - first)
            found[split] = self.model_copy(update={"part": (start, end)})
            end = start
        return found, self.model_copy(update={"part": (first, end)})


AnySource = Annotated[Source, OneOf("vlalign.data.sources", key="source")]
