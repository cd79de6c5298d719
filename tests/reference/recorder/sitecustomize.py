"""Python runs this at its start, with this folder on its path: at its end, the modules of vlalign that it has imported
are written into the folder that the environment names.
"""

import atexit
import json
import os
import sys
from pathlib import Path


def write(folder):
    imported = sorted(name for name in sys.modules if name.partition(".")[0] == "vlalign")
    if imported:
        Path(folder).mkdir(parents=True, exist_ok=True)
        Path(folder, f"{os.getpid()}.json").write_text(json.dumps({"arguments": sys.argv, "modules": imported}))


if "IMPORTS_GO_TO" in os.environ:
    atexit.register(write, os.environ["IMPORTS_GO_TO"])
