"""Secrets stay out of records, logs and messages: logins and signatures in addresses, and tokens of the environment."""

import logging
import os
import re
from urllib.parse import quote, urlsplit, urlunsplit

HIDDEN = "***"
# What ends the scheme of an address, however it is spelled: whole, as a path's normal form has it, or within JSON.
SCHEME = re.compile(r":(?:\\/|/){1,2}")
SIGNED = re.compile(r"(?i)([&;?](?:X-Amz-\w+|sig|signature|token|key|password|access_token)=)[^\s&;'\"<>)]+")
BEARER = re.compile(r"(?i)\b(bearer|authorization:?\s*basic)\s+[\w.~+/=-]{8,}")
QUERY = re.compile(r"(?<=[^\s?])\?[^\s'\"<>=?]+=[^\s)]*")
# Names of variables that hold secrets, and how short a value may be that is still told from ordinary words.
TOKEN = re.compile(r"(?i)TOKEN|SECRET|PASSW|_PASS$|_KEY|PAT$|CREDENTIAL|^VLALIGN_ADDRESS_")
SHORTEST = 8


def address(url: str) -> str:
    """An address without login, query and fragment, as it may be kept and shown."""
    try:
        parts = urlsplit(url)
    except ValueError:
        return f"an address that cannot be read ({HIDDEN})"
    return urlunsplit((parts.scheme, parts.netloc.rpartition("@")[2], parts.path, "", ""))


def redacted(text: str) -> str:
    """A message without what addresses in it, whoever wrote it, and the environment hold of secrets."""
    for name, value in os.environ.items():
        if TOKEN.search(name) and len(value.strip()) >= SHORTEST:
            text = text.replace(value.strip(), HIDDEN).replace(quote(value.strip(), safe=""), HIDDEN)
    text = SIGNED.sub(rf"\1{HIDDEN}", BEARER.sub(rf"\1 {HIDDEN}", text))
    return QUERY.sub(f"?{HIDDEN}", re.sub(r"\S+", lambda word: _shown(word[0]), text))


def _shown(word: str) -> str:
    """A word without login, query and fragment, if it holds an address.

    As much goes as could be a login: a password may hold what ends an address.
    """
    scheme = SCHEME.search(word)
    if scheme is None:
        return word
    host = word[max(scheme.end(), word.rfind("@") + 1) :]
    path = re.split("[?#]", host, maxsplit=1)[0]
    return word[: scheme.end()] + path + ("" if path == host else f"?{HIDDEN}")


def plain(text: str) -> str:
    """A message as a terminal may show it: what it quotes may hold codes that move the cursor or rename the window."""
    return "".join(letter if letter.isprintable() or letter in "\n\t" else ascii(letter)[1:-1] for letter in text)


class Redaction(logging.Filter):
    """Every message that a handler with this filter prints is redacted."""

    def filter(self, record: logging.LogRecord) -> bool:
        """See logging.Filter."""
        record.msg, record.args = plain(redacted(record.getMessage())), None
        return True
