"""Where messages and progress bars go: standard error, so that standard output stays for results."""

import os
import sys

from rich.console import Console

# Lines of a log file are searched, not read in a window: they are not folded.
WIDE = None if sys.stderr.isatty() or "COLUMNS" in os.environ else 1000

console = Console(stderr=True, width=WIDE)
