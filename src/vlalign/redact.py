"""Secrets stay out of records, logs and messages: logins and signatures in addresses, and tokens of the environment."""

import logging
import os
import re
from urllib.parse import urlsplit, urlunsplit

HIDDEN = "***"
LOGIN = re.compile(r"(?<=://)[^/\s@'\"]*@")
QUERY = re.compile(r"(?<=[\w/])\?[^\s'\"<>=?]+=[^\s'\"<>)\]]*")
# Names of variables that hold tokens, and how short a value may be that is still told from ordinary words.
TOKEN, SHORTEST = re.compile(r"(TOKEN|SECRET|PASSWORD|API_KEY)$"), 8


def address(url: str) -> str:
    """An address without login, query and fragment, as it may be kept and shown."""
    parts = urlsplit(url)
    return urlunsplit((parts.scheme, parts.netloc.rpartition("@")[2], parts.path, "", ""))


def redacted(text: str) -> str:
    """A message without what addresses in it, whoever wrote it, and the environment hold of secrets."""
    for name, value in os.environ.items():
        if TOKEN.search(name) and len(value) >= SHORTEST:
            text = text.replace(value, HIDDEN)
    return QUERY.sub(f"?{HIDDEN}", LOGIN.sub("", text))


class Redaction(logging.Filter):
    """Every message that a handler with this filter prints is redacted."""

    def filter(self, record: logging.LogRecord) -> bool:
        """See logging.Filter."""
        record.msg, record.args = redacted(record.getMessage()), None
        return True
