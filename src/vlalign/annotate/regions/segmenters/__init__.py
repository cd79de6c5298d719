"""What finds the segments of pictures: one plug-in in each module."""

import vlalign.params  # noqa: F401  # it imports the modules of this package, and must be whole before one of them is
