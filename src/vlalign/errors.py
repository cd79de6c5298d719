"""The one exception that a user of the command line meets."""


class VlalignError(Exception):
    """Something the user can mend: the message names the file or key and the remedy."""

    exit_code = 1
