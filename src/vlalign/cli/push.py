"""`vlalign push`."""

from pathlib import Path
from typing import Annotated

import typer

from vlalign.errors import VlalignError


def push(
    run: Annotated[Path, typer.Argument(help="Folder of a trained and evaluated run.")],
    repository: Annotated[str, typer.Argument(help="Such as user/name; made if it does not exist.")],
    private: Annotated[bool, typer.Option(help="Make it a private one.")] = False,
) -> None:
    """Upload a run with its model card to the Hugging Face hub, where open_clip's `hf-hub:` finds it.

    Log in with `hf auth login` first.
    """
    from vlalign.models.export import push

    try:
        print(push(run, repository, private=private))
    except VlalignError:
        raise
    except Exception as error:  # of the hub, of its HTTP client, or of the network
        raise VlalignError(
            f"{repository} on the hub cannot be written ({error}); is there a connection, and did `hf auth login`?"
        ) from None
