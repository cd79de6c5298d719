"""One file from elsewhere: continued where it broke off, and under its final name only when its bytes are right.

A partial file lies beside the final one. Whatever the server sends is hashed on the disk before the file gets its name.
"""

import logging
import os
import shutil
import threading
import time
from collections.abc import Callable, Mapping
from pathlib import Path
from urllib.parse import urlsplit
from urllib.request import url2pathname

import requests
from tenacity import (
    RetryCallState,
    Retrying,
    retry_if_exception_type,
    sleep_using_event,
    stop_after_attempt,
    wait_exponential,
    wait_random,
)
from urllib3.exceptions import HTTPError, InvalidHeader
from urllib3.util import Retry

from vlalign.data.remote import RemoteFile, digest
from vlalign.errors import VlalignError
from vlalign.redact import address, redacted

logger = logging.getLogger(__name__)

CHUNK = 1 << 20
TIMEOUT = (10.0, 30.0)  # to connect, and between two pieces of an answer
ATTEMPTS = 8  # in a row that bring nothing new: with the pauses below, about two minutes
FIRST_PAUSE, LONGEST_PAUSE = 1.0, 60.0
LONGEST_ASKED = 900.0  # the hub counts requests over five minutes
WRONG = 2

BROKEN = (requests.ConnectionError, requests.Timeout, requests.exceptions.ChunkedEncodingError, HTTPError)


class BrokenError(Exception):
    """A transfer broke off; another attempt may bring the rest."""


class EndedError(Exception):
    """The run ends for a reason that another thread knows."""


class Transfers:
    """Fetches files into one folder, from several threads at once.

    headers: sent with each request. explain: what to tell the user when the server refuses a file with a status that no
    other attempt will change. advance: told the bytes that have arrived; negative when some are thrown away. ended:
    when set, all transfers end soon.
    """

    def __init__(
        self,
        directory: Path,
        *,
        headers: dict[str, str],
        explain: Callable[[RemoteFile, int], str],
        advance: Callable[[int], None],
        ended: threading.Event,
    ) -> None:
        self.directory = directory
        self.headers = headers
        self.explain = explain
        self.advance = advance
        self.ended = ended
        self._paused_until = 0.0

    def bring(self, file: RemoteFile) -> None:
        """Fetch one file, or the rest of it.

        Raises VlalignError when the server refuses the file, keeps breaking off or twice sends wrong bytes, and when
        the disk does not take it; all other transfers end then.
        """
        try:
            self._bring(file, self.directory / file.part)
        except EndedError:
            return
        except VlalignError:
            self.ended.set()
            raise
        except OSError as error:
            self.ended.set()
            raise VlalignError(
                f"{self.directory / file.name} cannot be written ({error}); make room or give another folder, "
                "and run again: what has arrived is kept"
            ) from error

    def _bring(self, file: RemoteFile, part: Path) -> None:
        self._wait()
        for _ in range(WRONG):
            part.touch()
            self.advance(_size(part))
            self._complete(file, part)
            found = digest(part, like=file.digest)
            if found == file.digest:
                os.replace(part, self.directory / file.name)
                return
            shown = address(file.url)
            logger.warning("%s has hash %s in place of %s; it is thrown away", shown, found, file.digest)
            self.advance(-_size(part))
            part.unlink()
        raise VlalignError(
            f"{file.shown} brought wrong bytes {WRONG} times: hash {found}, expected {file.digest}; "
            "the server's copy is damaged, or another version than the one whose hash was given"
        )

    def _complete(self, file: RemoteFile, part: Path) -> None:
        """Fetch the rest of a partial file, in as many attempts as it takes while each brings more."""
        furthest = _size(part)

        def forgive(state: RetryCallState) -> None:
            nonlocal furthest
            if _size(part) > furthest:
                furthest, state.attempt_number = _size(part), 1

        retrying = Retrying(
            retry=retry_if_exception_type(BrokenError),
            after=forgive,
            wait=wait_exponential(multiplier=FIRST_PAUSE, max=LONGEST_PAUSE) + wait_random(0, FIRST_PAUSE),
            stop=stop_after_attempt(ATTEMPTS),
            sleep=sleep_using_event(self.ended),
            before_sleep=_announce,
            reraise=True,
        )
        try:
            retrying(self._attempt, file, part)
        except BrokenError as error:
            raise VlalignError(
                f"{file.shown} {error}, {ATTEMPTS} times without anything new; what has arrived of it is kept: check "
                "the network and run again"
            ) from error

    def _attempt(self, file: RemoteFile, part: Path) -> None:
        self._wait()
        if urlsplit(file.url).scheme == "file":
            return self._copy(file, part)
        have = _size(part)
        if file.size is not None and have >= file.size:
            return
        # Compressed on the way, a file could not be continued.
        headers = {**self.headers, "Accept-Encoding": "identity"} | ({"Range": f"bytes={have}-"} if have else {})
        # Without any `auth`, requests would put what ~/.netrc says in the place of a token.
        auth = (lambda request: request) if self.headers else None
        try:
            with requests.get(file.url, headers=headers, auth=auth, stream=True, timeout=TIMEOUT) as response:
                self._check(file, response)
                if response.status_code != 416:
                    self._store(file, part, response)
                elif file.size is not None:
                    # The server's file ends before the one that was listed: what is here is of no use.
                    self.advance(-have)
                    os.truncate(part, 0)
        except BROKEN as error:
            raise BrokenError(f"broke off ({_reason(error)})") from error
        except (requests.RequestException, ValueError) as error:
            raise VlalignError(f"{file.shown} cannot be fetched ({error}); correct the address") from error
        if file.size is not None and _size(part) < file.size:
            raise BrokenError(f"ended after {_size(part)} of {file.size} bytes")

    def _wait(self) -> None:
        """Until the pause is over that a server has asked for; all threads share it."""
        while (left := self._paused_until - time.monotonic()) > 0 and not self.ended.wait(left):
            pass
        if self.ended.is_set():
            raise EndedError

    def _copy(self, file: RemoteFile, part: Path) -> None:
        source = Path(url2pathname(urlsplit(file.url).path))
        if not source.is_file():
            raise VlalignError(f"{file.shown} does not exist on this machine; correct the address")
        self.advance(-_size(part))
        shutil.copyfile(source, part)
        self.advance(_size(part))

    def _check(self, file: RemoteFile, response: requests.Response) -> None:
        status = response.status_code
        # 416: the server has nothing beyond what is here. Where no size is known the hash will tell if this is all.
        if status in (200, 206, 416):
            return
        if status not in (408, 425, 429) and status < 500:
            raise VlalignError(self.explain(file, status))
        if (pause := asked_pause(status, response.headers)) > LONGEST_ASKED:
            raise VlalignError(
                f"{file.shown} answers {status} and asks to wait for {pause:.0f} s; run again after that"
            )
        self._paused_until = max(self._paused_until, time.monotonic() + pause)
        raise BrokenError(f"answers {status} {response.reason}")

    def _store(self, file: RemoteFile, part: Path, response: requests.Response) -> None:
        continued = response.status_code == 206
        if not continued:
            self.advance(-_size(part))
        with open(part, "ab" if continued else "wb") as stream:
            while content := response.raw.read1(CHUNK, decode_content=False):
                if self.ended.is_set():
                    raise EndedError
                stream.write(content)
                self.advance(len(content))
                if file.size is not None and stream.tell() > file.size:
                    break
            # A name that vouches for the bytes must not reach the disk before them.
            stream.flush()
            os.fsync(stream.fileno())


def _size(path: Path) -> int:
    return path.stat().st_size


def asked_pause(status: int, headers: Mapping[str, str]) -> float:
    """Seconds that a server asks to wait: in Retry-After, or in RateLimit, as the hub writes it."""
    from huggingface_hub.utils import parse_ratelimit_headers

    limit = parse_ratelimit_headers(headers)
    if status == 429 and limit is not None and limit.remaining == 0:
        return limit.reset_in_seconds
    try:
        return Retry().parse_retry_after(headers.get("Retry-After", "0"))
    except InvalidHeader:
        return 0.0


def _reason(error: BaseException) -> str:
    """What the innermost error says: requests and urllib3 wrap each other's."""
    while error.args and isinstance(error.args[0], BaseException):
        error = error.args[0]
    return str(error.args[0] if error.args else error)


def _announce(state: RetryCallState) -> None:
    if state.outcome and state.next_action:
        file, pause = state.args[0], state.next_action.sleep
        reason = redacted(str(state.outcome.exception()))
        logger.warning("%s %s; another attempt in %.1f s", address(file.url), reason, pause)
