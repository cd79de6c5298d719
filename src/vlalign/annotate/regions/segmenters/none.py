"""No segments."""

from typing import Literal

from vlalign.params.annotate import Segmenter


class NoSegments(Segmenter):
    """No segments are looked for: the data's own object masks are the only ones."""

    segmenter: Literal["none"] = "none"
