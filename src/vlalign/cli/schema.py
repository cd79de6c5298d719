"""`vlalign schema`."""

import json

from vlalign import params as parameters


def schema() -> None:
    """Print the JSON Schema of params.yaml."""
    print(json.dumps(parameters.schema(), indent=2, sort_keys=True))
