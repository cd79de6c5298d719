"""What was left out, counted by cause, with the first names of each."""

from collections.abc import Mapping
from typing import Any

NAMED = 10


class Skips:
    """Counts by cause, and the first names."""

    def __init__(self) -> None:
        self._counts: dict[str, int] = {}
        self._names: dict[str, list[str]] = {}

    def add(self, cause: str, name: str) -> None:
        """One more, by this cause; what UTF-8 cannot hold of the name, as file names may, is escaped."""
        self.merge({cause: {"count": 1, "first": [name.encode(errors="backslashreplace").decode()]}})

    def merge(self, other: Mapping[str, Mapping[str, Any]]) -> None:
        """All of another's, as `as_dict` gives them."""
        for cause, entry in other.items():
            self._counts[cause] = self._counts.get(cause, 0) + entry["count"]
            names = self._names.setdefault(cause, [])
            names += entry["first"][: NAMED - len(names)]

    @property
    def total(self) -> int:
        """How many there are."""
        return sum(self._counts.values())

    def as_dict(self) -> dict[str, dict[str, Any]]:
        """{cause: {"count": how many, "first": names}}, as manifests hold it."""
        return {
            cause: {"count": count, "first": list(self._names[cause])} for cause, count in sorted(self._counts.items())
        }

    def __str__(self) -> str:
        return "; ".join(f"{count} {cause}, first {self._names[cause][0]}" for cause, count in self._counts.items())
