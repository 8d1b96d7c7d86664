"""A commit: the one state of a repository on Hugging Face's hub that a spec means, and what repositories are called."""

from __future__ import annotations

import re
from typing import Annotated

from pydantic import AfterValidator
from pydantic_core import PydanticCustomError

_COMMIT = re.compile("[0-9a-f]{40}")
#: What the hub calls a repository, as `owner/name`.
REPOSITORY = re.compile(r"[A-Za-z0-9][\w.-]{0,95}(/[A-Za-z0-9][\w.-]{0,95})?", re.ASCII)


def _a_commit(revision: str) -> str:
    if not _COMMIT.fullmatch(revision):
        raise PydanticCustomError(
            "revision", "a revision is the hash of a commit, 40 digits: a branch or tag can hold other data tomorrow"
        )
    return revision


#: The hash of a commit.
Commit = Annotated[str, AfterValidator(_a_commit)]
