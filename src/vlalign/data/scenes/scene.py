"""What is in a scene and where: sampled once, then drawn, described and altered without further random numbers."""

import itertools
import random
from dataclasses import dataclass, replace

# Class name -> OpenMoji character. No name starts with a vowel, so that every caption can say "a".
CLASSES = {
    "dog": "🐶", "car": "🚗", "tree": "🌲", "fish": "🐟", "house": "🏠", "balloon": "🎈", "penguin": "🐧",
    "guitar": "🎸", "cup": "☕", "mushroom": "🍄", "bicycle": "🚲", "rocket": "🚀", "butterfly": "🦋", "frog": "🐸",
    "key": "🔑", "cat": "🐱", "gift": "🎁", "banana": "🍌", "duck": "🦆", "turtle": "🐢", "cactus": "🌵",
    "panda": "🐼", "ball": "⚽", "clock": "⏰", "camera": "📷", "chair": "🪑", "carrot": "🥕", "crown": "👑",
}  # fmt: skip
PLURALS = {"fish": "fish", "butterfly": "butterflies", "cactus": "cacti"}
TINTS = {"red": (229, 57, 53), "green": (67, 160, 71), "blue": (30, 120, 229), "yellow": (253, 200, 30)}
BACKGROUNDS = {"white": (250, 250, 250), "pink": (252, 210, 220), "gray": (198, 200, 204), "cyan": (195, 238, 245)}
SIZES = ("large", "small")
INVERSE = {"left": "right", "right": "left", "above": "below", "below": "above"}
BASIC = {"left": "left", "right": "left", "above": "above", "below": "above"}
# Simple scenes are drawn with their relation along one axis; this is how far the objects stand from the middle.
OFFSET = 0.245
# Half of the simple scenes' objects keep their own colours: with tints everywhere, colour is all that is learnt.
NATURAL_SHARE = 0.5
Fact = tuple[object, ...]


@dataclass(frozen=True)
class Group:
    """Objects of one class and tint that a phrase names together; `instances` are their ids, from 1."""

    name: str
    tint: str | None
    size: str | None
    instances: tuple[int, ...]

    @property
    def count(self) -> int:
        """Number of objects."""
        return len(self.instances)


@dataclass(frozen=True)
class Scene:
    """Groups of objects with each object's size and centre (fractions of the picture's side)."""

    stratum: str
    groups: tuple[Group, ...]
    sizes: tuple[str, ...]
    centres: tuple[tuple[float, float], ...]
    background: str
    relation: str | None = None

    def objects(self) -> list[tuple[int, str, str | None, str, tuple[float, float]]]:
        """(instance id, class, tint, size, centre) in drawing order."""
        return [
            (instance, group.name, group.tint, self.sizes[instance - 1], self.centres[instance - 1])
            for group in self.groups
            for instance in group.instances
        ]

    def stated(self, mentioned: tuple[int, ...] | None = None) -> frozenset[Fact]:
        """What a full caption says that names these groups (all of them by default)."""
        groups = self.groups if mentioned is None else [self.groups[index] for index in mentioned]
        facts: set[Fact] = {(group.name, group.tint, group.size, group.count) for group in groups}
        if self.relation:
            first, second = self.groups[:2]
            if self.relation in ("right", "below"):
                first, second = second, first
            facts.add((first.name, first.tint, BASIC[self.relation], second.name, second.tint))
        return frozenset(facts)

    def truths(self) -> frozenset[Fact]:
        """All that a full caption could truly say: a caption fits this picture if what it states is among them."""
        facts: set[Fact] = set()
        for group in self.groups:
            sizes = {self.sizes[instance - 1] for instance in group.instances}
            for size in (None, *(sizes if len(sizes) == 1 else ())):
                facts.update((group.name, group.tint, size, count) for count in range(1, group.count + 1))
        for first, second in itertools.permutations(self.groups, 2):
            pairs = itertools.product(first.instances, second.instances)
            ends = [(self.centres[one - 1], self.centres[other - 1]) for one, other in pairs]
            for axis, relation in enumerate(("left", "above")):
                if any(one[axis] < other[axis] for one, other in ends):
                    facts.add((first.name, first.tint, relation, second.name, second.tint))
        return frozenset(facts)


def sample_scene(
    rng: random.Random, stratum: str, *, classes: int = 20, objects: int | None = None, twins: float = 0.25
) -> Scene:
    """Draw a scene of one stratum over the first `classes` classes.

    simple: one to three objects of different classes, in a relation if there are two or more. clutter: four to six
    objects in two to five groups of equal objects on a jittered grid; with probability `twins` two groups share their
    class and differ in tint. `objects` fixes the number of objects of a simple scene.
    """
    names = list(CLASSES)[:classes]
    if stratum == "simple":
        return _simple(rng, names, objects or rng.choices((1, 2, 3), (0.3, 0.55, 0.15))[0])
    return _clutter(rng, names, twins)


def _simple(rng: random.Random, names: list[str], count: int) -> Scene:
    # Three large objects would overlap.
    sizes = tuple("small" if count == 3 and rng.random() < 0.6 else rng.choice(SIZES) for _ in range(count))
    groups = tuple(
        Group(name, None if rng.random() < NATURAL_SHARE else rng.choice(list(TINTS)), size, (index + 1,))
        for index, (name, size) in enumerate(zip(rng.sample(names, count), sizes, strict=True))
    )
    relation = rng.choice(list(INVERSE)) if count > 1 else None
    centres = _simple_centres(rng, count, relation)
    return Scene("simple", groups, sizes, centres, rng.choice(list(BACKGROUNDS)), relation)


def _simple_centres(rng: random.Random, count: int, relation: str | None) -> tuple[tuple[float, float], ...]:
    def near(middle: float, spread: float) -> float:
        return middle + rng.uniform(-spread, spread)

    if relation is None:
        return ((near(0.5, 0.22), near(0.5, 0.22)),)
    across = 0.5 if count == 2 else 0.5 - OFFSET
    wobble = 0.14 if count == 2 else 0.02
    first = (near(0.5 - OFFSET, 0.03), near(across, wobble))
    second = (near(0.5 + OFFSET, 0.03), near(across, wobble))
    third = (near(0.5, 0.18), near(0.5 + OFFSET, 0.02))
    if relation in ("right", "below"):
        first, second = second, first
    centres = (first, second, third)[:count]
    return centres if relation in ("left", "right") else tuple((y, x) for x, y in centres)


def _clutter(rng: random.Random, names: list[str], twins: float) -> Scene:
    counts = _group_counts(rng)
    members = iter(range(1, sum(counts) + 1))
    groups = [
        Group(name, rng.choice(list(TINTS)), None, tuple(next(members) for _ in range(count)))
        for name, count in zip(rng.sample(names, len(counts)), counts, strict=True)
    ]
    if len(groups) > 2 and rng.random() < twins:
        one, other = rng.sample(range(len(groups)), 2)
        tint = rng.choice([tint for tint in TINTS if tint != groups[one].tint])
        groups[other] = replace(groups[other], name=groups[one].name, tint=tint)
    cells = rng.sample(range(9), sum(counts))
    centres = tuple(
        ((cell % 3 + 0.5) / 3 + rng.uniform(-1, 1) / 32, (cell // 3 + 0.5) / 3 + rng.uniform(-1, 1) / 32)
        for cell in cells
    )
    sizes = tuple(rng.choice(SIZES) for _ in cells)
    return Scene("clutter", tuple(groups), sizes, centres, rng.choice(list(BACKGROUNDS)))


def _group_counts(rng: random.Random) -> list[int]:
    """Sizes of two to five groups that make four to six objects."""
    while True:
        left = rng.randint(4, 6)
        counts: list[int] = []
        while left:
            counts.append(min(left, rng.choices((1, 2, 3), (0.55, 0.28, 0.17))[0]))
            left -= counts[-1]
        if 2 <= len(counts) <= 5:
            return counts
