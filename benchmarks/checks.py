"""What it costs that every file is checked: the share of a workflow's CPU time that goes into hashes and records.

    python benchmarks/checks.py                                  # the demo
    python benchmarks/checks.py --overlay config/test.yaml

The workflow runs once, in a folder of its own, with the functions that check timed in every process that it starts.
"""

import argparse
import json
import os
import resource
import subprocess
import tempfile
import time
from pathlib import Path

# Every function that reads or hashes for a check alone; of nested ones the outermost counts.
CHECKS = {
    "vlalign.records": ("stamp", "check_file", "check_record", "read_record", "write_record"),
    "vlalign.data.arrow": ("read_metadata", "is_whole"),
    "vlalign.data.shards.index": ("short_digest",),
    "vlalign.files": ("is_whole_archive",),
    "vlalign.previous": ("set_aside", "forget", "take_back"),
    "vlalign.freshness": ("digest",),
    "vlalign.check": ("dangling_links",),
}
PATCH = """
import atexit, functools, importlib.abc, importlib.machinery, json, os, sys, time

CHECKS, FOLDER = json.loads(os.environ["VLALIGN_CHECKS"]), os.environ["VLALIGN_CHECKS_FOLDER"]
spent, depth = [0.0], [0]

def timed(function):
    @functools.wraps(function)
    def call(*args, **kwargs):
        start, depth[0] = time.process_time(), depth[0] + 1
        try:
            return function(*args, **kwargs)
        finally:
            depth[0] -= 1
            if depth[0] == 0:
                spent[0] += time.process_time() - start
    return call

class Finder(importlib.abc.MetaPathFinder):
    def find_spec(self, name, path, target=None):
        if name not in CHECKS:
            return None
        spec = importlib.machinery.PathFinder.find_spec(name, path)
        run = spec.loader.exec_module
        def exec_module(module):
            run(module)
            for function in CHECKS[name]:
                setattr(module, function, timed(getattr(module, function)))
        spec.loader.exec_module = exec_module
        return spec

sys.meta_path.insert(0, Finder())

@atexit.register
def write():
    if spent[0]:
        with open(os.path.join(FOLDER, f"{os.getpid()}-{time.time_ns()}"), "w") as stream:
            stream.write(str(spent[0]))
"""


def main() -> None:
    """Print both times and their ratio."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--overlay", default="config/demo.yaml")
    parser.add_argument("--cores", default="2")
    options = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        places = {name: Path(folder, name) for name in ("patch", "times", "root")}
        for place in places.values():
            place.mkdir()
        (places["patch"] / "sitecustomize.py").write_text(PATCH)
        environment = {
            **os.environ,
            "PYTHONPATH": os.pathsep.join([str(places["patch"]), os.environ.get("PYTHONPATH", "")]),
            "VLALIGN_CHECKS": json.dumps(CHECKS),
            "VLALIGN_CHECKS_FOLDER": str(places["times"]),
        }
        command = ["snakemake", "--cores", options.cores, "--quiet", "all", "--configfile", options.overlay]
        started = time.perf_counter()
        subprocess.run([*command, "--config", f"root={places['root']}", "--", "all"], env=environment, check=True)
        wall, used = time.perf_counter() - started, resource.getrusage(resource.RUSAGE_CHILDREN)
        spent = sum(float(path.read_text()) for path in places["times"].iterdir())
    total = used.ru_utime + used.ru_stime
    print(f"{options.overlay}: {wall:.0f} s, {total:.0f} s of CPU, {spent:.2f} s of it for checks: {spent / total:.2%}")


if __name__ == "__main__":
    main()
