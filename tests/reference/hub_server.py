"""A hub on this machine: the endpoints that huggingface_hub 2.4 and plain downloads call, with faults on request.

A fault is a word, or the status that is answered in place of the file. `faults[path]` gives one to each request for the
content of this file, in order, until it is used up.
"""

import collections
import hashlib
import http.server
import json
import re
import socket
import struct
import sys
import threading
import time
from dataclasses import dataclass
from urllib.parse import parse_qs, quote, unquote, urlsplit

REPOSITORY = "someone/pictures"
PAGE = 3
POURED = 60_000_000
FLIPPED = bytes(255 - value for value in range(256))
ERROR_CODES = {"gated": (403, "GatedRepo"), 401: (401, "RepoNotFound"), 404: (404, "EntryNotFound")}


@dataclass(frozen=True)
class Request:
    """What was asked for. path: of the file in the repository or below /files, or of the API's endpoint."""

    kind: str
    path: str
    range: str | None
    token: str | None
    time: float


def sha256(content):
    return hashlib.sha256(content).hexdigest()


def blob_sha1(content):
    return hashlib.sha1(b"blob %d\0" % len(content) + content).hexdigest()


class HubServer:
    """Two servers, as the hub has them: one that lists and resolves, one that large files are redirected to.

    `files` are those at plain addresses, below /files.
    """

    def __init__(self):
        self.commits = {}
        self.branches = {}
        self.small = set()
        self.files = {}
        self.faults = {}
        self.api_faults = iter(())
        self.pause = 0
        self.poured = 0
        self.requests = []
        self.stalled, self.released = threading.Event(), threading.Event()
        self._servers = [self._start(), self._start()]
        self.url, self.storage = (f"http://127.0.0.1:{server.server_address[1]}" for server in self._servers)

    def _start(self):
        server = Server(("127.0.0.1", 0), Handler)
        server.hub = self
        threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.01}, daemon=True).start()
        return server

    def __enter__(self):
        return self

    def __exit__(self, *_):
        self.released.set()
        for server in self._servers:
            server.shutdown()
            server.server_close()

    def commit(self, files, *, repository=REPOSITORY, branch="main", small=()):
        """Put files into the repository; those named in `small` are kept in git, without LFS."""
        listed = [repository, *((name, sha256(content)) for name, content in files.items())]
        commit = blob_sha1(json.dumps(listed).encode())
        self.commits[commit] = dict(files)
        self.branches[repository, branch] = commit
        self.small |= set(small)
        return commit

    def asked(self, kind="file"):
        """Paths of the files that were asked for, once for each time."""
        return collections.Counter(request.path for request in self.requests if request.kind == kind)

    def ranges(self, path):
        return [request.range for request in self.requests if (request.kind, request.path) == ("file", path)]


class Server(http.server.ThreadingHTTPServer):
    daemon_threads = True

    def shutdown_request(self, request):
        """Without the orderly end that is usual, so that a handler may ask for a reset."""
        self.close_request(request)

    def handle_error(self, request, client_address):
        """Clients that go away are no news."""
        if not isinstance(sys.exception(), ConnectionError):
            super().handle_error(request, client_address)


class Handler(http.server.BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    disable_nagle_algorithm = True

    def log_message(self, *_):
        pass

    def do_HEAD(self):
        self.do_GET()

    def do_GET(self):
        self.hub = self.server.hub
        parts = urlsplit(self.path)
        self.query = {key: values[0] for key, values in parse_qs(parts.query).items()}
        for pattern, answer in (
            (r"/api/(?:datasets|models)/([\w.-]+/[\w.-]+)/(revision|tree)/([^/]+)", self.list),
            (r"(?:/datasets)?/([\w.-]+/[\w.-]+)/resolve/([^/]+)/(.+)", self.resolve),
            (r"/stored/([0-9a-f]{64})", self.stored),
            (r"/files/(.+)", self.plain),
        ):
            if match := re.fullmatch(pattern, parts.path):
                return answer(*map(unquote, match.groups()))
        return self.send(404)

    def note(self, kind, path):
        headers = (self.headers["Range"], self.headers["Authorization"])
        self.hub.requests.append(Request(kind, path, *headers, time.monotonic()))

    def list(self, repository, kind, revision):
        self.note(kind, revision)
        fault = next(self.hub.api_faults, None)
        commit = self.hub.branches.get((repository, revision), revision)
        if fault == "stall":
            self.hub.stalled.set()
            self.hub.released.wait(60)
            self.refuse(404)
        elif fault == "page":
            self.send(200, b"<html>log in</html>", type="text/html")
        elif fault is not None:
            self.refuse(fault)
        elif repository not in {known for known, _ in self.hub.branches} | {REPOSITORY}:
            self.refuse(401)
        elif commit not in self.hub.commits:
            self.send(404, **{"X-Error-Code": "RevisionNotFound"})
        elif kind == "revision":
            self.send_json({"id": repository, "sha": commit})
        else:
            self.send_page(commit, int(self.query.get("cursor", 0)))

    def send_page(self, commit, start):
        """Some entries of the tree, folders among them, and where the next ones are."""
        files = self.hub.commits[commit]
        folders = sorted({path.rpartition("/")[0] for path in files} - {""})
        entries = [{"type": "directory", "oid": "0" * 40, "size": 0, "path": path} for path in folders]
        entries += [self.entry(path, content) for path, content in files.items()]
        url = f"{self.hub.url}{urlsplit(self.path).path}?recursive=true&cursor={start + PAGE}"
        link = {"Link": f'<{url}>; rel="next"'} if start + PAGE < len(entries) else {}
        self.send_json(entries[start : start + PAGE], **link)

    def entry(self, path, content):
        entry = {"type": "file", "path": path, "size": len(content), "oid": blob_sha1(content)}
        if path not in self.hub.small:
            entry["lfs"] = {"oid": sha256(content), "size": len(content), "pointerSize": 130}
        return entry

    def resolve(self, repository, commit, path):
        """What a file is (HEAD), and its content; large ones are redirected to the storage by HEAD already."""
        commit = self.hub.branches.get((repository, commit), commit)
        if repository not in {known for known, _ in self.hub.branches}:
            return self.refuse(401)
        if commit not in self.hub.commits:
            return self.send(404, **{"X-Error-Code": "RevisionNotFound"})
        if path not in self.hub.commits[commit]:
            return self.refuse(404)
        content, small = self.hub.commits[commit][path], path in self.hub.small
        told = {"X-Repo-Commit": commit, "X-Linked-Size": len(content)}
        if self.command == "HEAD" and small:
            return self.send(200, **told, ETag=f'"{blob_sha1(content)}"')
        self.note("file", path)
        fault = next(self.hub.faults.get(path, iter(())), None)
        if isinstance(fault, int) or fault in ERROR_CODES:
            return self.refuse(fault)
        if small:
            return self.send_content(content, fault)
        location = f"{self.hub.storage}/stored/{sha256(content)}?fault={quote(str(fault or ''))}"
        return self.send(302, Location=location, **told, **{"X-Linked-ETag": f'"{sha256(content)}"'})

    def stored(self, digest):
        self.note("stored", digest)
        contents = (content for files in self.hub.commits.values() for content in files.values())
        self.send_content(next(content for content in contents if sha256(content) == digest), self.query.get("fault"))

    def plain(self, path):
        self.note("file", path)
        fault = next(self.hub.faults.get(path, iter(())), None)
        if isinstance(fault, int):
            self.refuse(fault)
        elif fault == "loop":
            self.send(302, Location=self.path)
        elif fault == "to a file":
            self.send(302, Location="file:///etc/hostname")
        elif fault == "page":
            self.send(200, b"<html>log in</html>", type="text/html")
        elif path not in self.hub.files:
            self.send(404)
        else:
            self.send_content(self.hub.files[path], fault)

    def refuse(self, fault):
        status, code = ERROR_CODES.get(fault, (fault, ""))
        pause = {"Retry-After": self.hub.pause} if status in (429, 503) else {}
        self.send(status, **({"X-Error-Code": code} if code else {}), **pause)

    def send_json(self, value, **headers):
        self.send(200, json.dumps(value).encode(), type="application/json", **headers)

    def send(self, status, body=b"", *, type="application/octet-stream", **headers):
        self.send_response(status)
        for name, value in {"Content-Type": type, "Content-Length": len(body), **headers}.items():
            self.send_header(name, str(value))
        self.end_headers()
        if self.command != "HEAD":
            self.wfile.write(body)

    def send_content(self, content, fault):
        if fault == "silence":
            return self.reset()
        if fault in ("endless", "trickle"):
            return self.pour(content, pause=0.0 if fault == "endless" else 0.02)
        match = re.fullmatch(r"bytes=(\d+)-", self.headers["Range"] or "")
        start = int(match[1]) if match and fault != "no range" else 0
        if start and (start >= len(content) or fault == "shortened"):
            return self.send(416, **{"Content-Range": f"bytes */{len(content)}"})
        changed = {"wrong": lambda: content.translate(FLIPPED), "long": lambda: content + content}
        body = changed.get(fault, lambda: content)()[start:]
        sent = body[: len(body) // 2] if fault in ("drop", "truncated", "short", "stall") else body
        self.send_response(206 if match and fault != "no range" else 200)
        self.send_header("Content-Length", str(len(sent if fault == "short" else body)))
        if match and fault != "no range":
            self.send_header("Content-Range", f"bytes {start}-{start + len(body) - 1}/{len(content)}")
        self.end_headers()
        self.wfile.write(sent)
        if fault == "stall":
            self.hub.stalled.set()
            self.hub.released.wait(60)
        if fault == "drop":
            self.reset()
        if len(sent) < len(body):
            self.close_connection = True
        return None

    def pour(self, content, *, pause):
        """Send the content again and again, until the other side has had enough or much has gone."""
        self.send_response(200)
        self.end_headers()
        self.close_connection = True
        while self.hub.poured < POURED:
            self.wfile.write(content if not pause else content[:1000])
            self.hub.poured += len(content)
            self.hub.stalled.set()
            time.sleep(pause)

    def reset(self):
        """End the connection as a crash does, not in good order."""
        self.connection.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
        self.close_connection = True
