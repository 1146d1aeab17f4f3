"""Snapshots of hub repositories at a pinned commit: the only code here that reaches a network for a model.

A snapshot that is in the library's cache needs no network. A token for gated repositories comes from the environment
variable HF_TOKEN and from nowhere else.
"""

import os
import re
from collections.abc import Sequence
from pathlib import Path

from huggingface_hub import snapshot_download
from huggingface_hub.errors import (
    EntryNotFoundError,
    GatedRepoError,
    HfHubHTTPError,
    HFValidationError,
    LocalEntryNotFoundError,
    OfflineModeIsEnabled,
    RepositoryNotFoundError,
    RevisionNotFoundError,
)

from rlhf.core.errors import UserError

MODEL_FILES = ("*.safetensors", "*.json", "*.model", "*.jinja", "merges.txt", "vocab.txt", "LICENSE*")
TOKENIZER_FILES = ("*.json", "*.model", "*.jinja", "merges.txt", "vocab.txt")

_COMMIT = re.compile(r"[0-9a-f]{40}")
_OFFLINE = "without a network, put the model's files in a folder and set base.source=path, base.path=<folder>"


def fetch(repo: str, revision: str, *, files: Sequence[str] = MODEL_FILES) -> Path:
    """Fetch the top-level files of model `repo` at commit `revision` that match `files`; return their folder.

    Pickled weights and code are never downloaded. The library itself tries again, for about half a minute, where a
    connection fails or the hub is busy.

    Raises:
        UserError: one line: the revision is not a commit or is unknown, the repository is missing, gated or private,
            a file is missing, or there is no network (with what to do then).
    """
    if not _COMMIT.fullmatch(revision):
        raise UserError(
            f"base.revision: found {revision!r}; a commit of 40 hex digits is needed, because a branch or tag can "
            "move and the same parameters would then give another model"
        )
    try:
        return _download(repo, revision, files)
    except Exception as error:  # the library's own, its HTTP client's, and sockets'
        raise _explain(error, repo, revision) from error


def _download(repo: str, revision: str, files: Sequence[str]) -> Path:
    token = os.environ.get("HF_TOKEN") or False  # False: no token that some login left on this machine
    folder = snapshot_download(
        repo, revision=revision, allow_patterns=list(files), ignore_patterns=["*/*"], token=token
    )
    found = [item for item in Path(folder).glob("*") if item.is_file()]
    if not found:
        raise UserError(f"{repo}@{revision}: none of {', '.join(files)} is in the repository")
    return Path(folder)


def _explain(error: Exception, repo: str, revision: str) -> Exception:
    """Turn the library's error into one line for the user; other errors stay as they are."""
    response = getattr(error, "response", None)
    status = getattr(response, "status_code", None)
    file = str(getattr(response, "url", "")).rsplit("/", 1)[-1] or "a file"
    broken = isinstance(error, OSError) or type(error).__module__.startswith("httpx")
    reasons = (
        (isinstance(error, HFValidationError), "base.repo must be a name like 'openai-community/gpt2'"),
        (
            isinstance(error, RevisionNotFoundError),
            "the repository has no such commit; take one from its list of commits for base.revision",
        ),
        (
            isinstance(error, GatedRepoError) or status == 403,
            "gated; accept its terms on the hub, then set HF_TOKEN to a token of that account",
        ),
        (
            isinstance(error, RepositoryNotFoundError) or status == 401,
            "no such repository, or a private one; check base.repo, or set HF_TOKEN",
        ),
        (
            isinstance(error, OfflineModeIsEnabled | LocalEntryNotFoundError),
            f"not in the local cache, and the hub is not reached; {_OFFLINE}",
        ),
        (isinstance(error, EntryNotFoundError), f"{file} is listed in the repository, but the hub does not have it"),
        (isinstance(error, HfHubHTTPError), f"the hub answered with status {status}; try again later, or {_OFFLINE}"),
        (broken, f"the connection failed ({type(error).__name__}); {_OFFLINE}"),
    )
    reason = next((text for applies, text in reasons if applies), None)
    return error if reason is None else UserError(f"{repo}@{revision}: {reason}")
