"""A process that has imported the slow libraries already, and forks a child for each call of `vlalign`.

Tests run hundreds of commands, and most of the time of one is the import of torch, torchvision and open_clip. Nothing
of vlalign is imported here: every child imports the code of the repository that it runs in. Where a test kills
processes, or where the environment has other settings of the hub than this process had, the real command is used.
"""

import atexit
import contextlib
import importlib
import json
import os
import runpy
import signal
import socket
import sys
from pathlib import Path
from typing import NoReturn

LIBRARIES = (
    "torch",
    "torch.utils.data",
    "torchvision.transforms.v2",
    "open_clip",
    "timm",
    "safetensors.torch",
    "pyarrow.compute",
    "sklearn.linear_model",
    "scipy.stats",
    "typer",
    "rich.logging",
    "pydantic",
    "yaml",
    "grimp",
)
CLIENT = """#!{python} -IS
import json, os, socket, sys
os.umask(umask := os.umask(0))
told = json.dumps([sys.argv, os.getcwd(), dict(os.environ), umask]).encode()
with socket.socket(socket.AF_UNIX) as server:
    server.connect({path!r})
    socket.send_fds(server, [len(told).to_bytes(8, "big")], [0, 1, 2])
    server.sendall(told)
    code = server.recv(1)
sys.exit(code[0] if code else 1)
"""


def write_client(folder: Path, path: Path) -> None:
    """A `vlalign` that lets the server at `path` do the work."""
    folder.mkdir()
    (folder / "vlalign").write_text(CLIENT.format(python=sys.executable, path=str(path)))
    (folder / "vlalign").chmod(0o755)


def serve(path: str) -> None:
    for name in LIBRARIES:
        importlib.import_module(name)
    # Children that ended are nobody's concern.
    signal.signal(signal.SIGCHLD, signal.SIG_IGN)
    with socket.socket(socket.AF_UNIX) as listening:
        listening.bind(path)
        listening.listen(64)
        print("ready", flush=True)
        while True:
            client, _ = listening.accept()
            if os.fork() == 0:
                listening.close()
                attend(client)
            client.close()


def attend(client: socket.socket) -> NoReturn:
    """In a child: have the command done in a child of its own, which may become another program, and tell its end."""
    signal.signal(signal.SIGCHLD, signal.SIG_DFL)
    size, descriptors, _, _ = socket.recv_fds(client, 8, 3)
    told = b""
    while len(told) < int.from_bytes(size, "big"):
        told += client.recv(65536)
    worker = os.fork()
    if worker == 0:
        client.close()
        work(descriptors, *json.loads(told))
    for descriptor in descriptors:
        os.close(descriptor)
    status = os.waitstatus_to_exitcode(os.waitpid(worker, 0)[1])
    client.sendall(bytes([status if status >= 0 else 128 - status]))
    os._exit(0)


def work(
    descriptors: list[int], arguments: list[str], folder: str, environment: dict[str, str], umask: int
) -> NoReturn:
    """Be the command that the client was called as."""
    for number, descriptor in enumerate(descriptors):
        os.dup2(descriptor, number)
        os.close(descriptor)
    os.chdir(folder)
    os.umask(umask)
    os.environ.clear()
    os.environ.update(environment)
    sys.argv = arguments
    sys.path[:0] = [part for part in environment.get("PYTHONPATH", "").split(os.pathsep) if part]
    code = 1
    try:
        recorder = next((part for part in sys.path if (Path(part) / "sitecustomize.py").is_file()), None)
        if recorder is not None:
            runpy.run_path(str(Path(recorder) / "sitecustomize.py"))
        from vlalign.cli import main

        main()
        code = 0
    except SystemExit as error:
        code = error.code if isinstance(error.code, int) else int(error.code is not None)
    finally:
        with contextlib.suppress(Exception):
            atexit._run_exitfuncs()
        sys.stdout.flush()
        sys.stderr.flush()
        os._exit(code % 256)


if __name__ == "__main__":
    serve(sys.argv[1])
