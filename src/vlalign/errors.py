"""The one exception that a user of the command line meets."""

from vlalign.redact import redacted


class VlalignError(Exception):
    """Something the user can mend: the message names the file or key and the remedy, and holds no secrets."""

    exit_code = 1

    def __init__(self, message: str) -> None:
        super().__init__(redacted(message))
