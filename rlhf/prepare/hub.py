"""Read rows of a dataset on a hub, at a pinned commit, through `datasets`."""

import os
from collections.abc import Iterator
from typing import Any

from rlhf.core.errors import UserError
from rlhf.prepare.params import HubParams
from rlhf.prepare.readers import READABLE
from rlhf.prepare.rows import BadRow, RawRow

_OFFLINE = (
    "without a network, download the files elsewhere, put them in a folder and set data.source=files, "
    "data.path=<folder>"
)
# Names of error classes, of the library and of the client below it.
_UNREACHED = {"OfflineModeIsEnabled", "LocalEntryNotFoundError", "ConnectionError", "ConnectError", "TimeoutException"}
_EMPTY = {"DataFilesNotFoundError", "EmptyDatasetError"}
_ABSENT = {"DatasetNotFoundError", "RepositoryNotFoundError"}
_OTHER = {"DatasetsError", "HfHubHTTPError", "FileNotFoundError", "HFValidationError"}


def hub_rows(hub: HubParams) -> Iterator[RawRow | BadRow]:
    """Yield every row of the split, in order. `origin` is repo@commit/split:row, rows from 1.

    Files go through the hub client's own cache, so what was fetched once needs no network. They are then read as a
    local folder: with a data_dir, `datasets` itself does not find again offline what it has cached.

    Raises:
        UserError: one line: no network, no such dataset or commit, a file is missing or cannot be read, no such split.
    """
    rows = _load(hub)
    label = f"{hub.repo}@{(hub.revision or '')[:12]}/{hub.split}"
    for number, values in enumerate(rows, start=1):
        yield RawRow(f"{label}:{number}", values)


def _load(hub: HubParams) -> Any:
    import datasets
    from huggingface_hub import snapshot_download

    token = os.environ.get("HF_TOKEN") or False  # False: no token that some login left on this machine
    under = f"{hub.data_dir}/" if hub.data_dir else ""
    wanted = ["README.md", *(f"{under}*{ending}{zipped}" for ending in READABLE for zipped in ("", ".gz"))]
    try:
        folder = snapshot_download(
            str(hub.repo), repo_type="dataset", revision=hub.revision, allow_patterns=wanted, token=token
        )
        return datasets.load_dataset(folder, data_dir=hub.data_dir, split=hub.split)
    except Exception as error:  # the library's own, its HTTP client's and sockets': sorted in `_reason`
        reason = _reason(error, hub)
        if reason is None:
            raise
        raise UserError(f"{hub.repo}@{hub.revision}: {reason}") from error


def _reason(error: Exception, hub: HubParams) -> str | None:
    """One line for an error of the library; None for errors that are not about the dataset.

    The library wraps what its client reports, so the whole chain of causes is looked at.
    """
    text = " ".join(str(error).split())[:300]
    names = {kind.__name__ for link in _chain(error) for kind in type(link).__mro__}
    reasons = (
        (
            "RevisionNotFoundError" in names or text.startswith("Revision "),
            "the dataset has no such commit; take one from its list of commits for data.hub.revision",
        ),
        (
            "GatedRepoError" in names,
            "gated; accept its terms on the hub, then set HF_TOKEN to a token of that account",
        ),
        ("RemoteEntryNotFoundError" in names, f"a file is listed in the repository, but the hub lacks it: {text}"),
        (bool(names & _UNREACHED), f"not in the local cache, and the hub is not reached; {_OFFLINE}"),
        (bool(names & _EMPTY), f"no data files in data.hub.data_dir ({hub.data_dir})"),
        (bool(names & _ABSENT), "no such dataset, or a private one; check data.hub.repo, or set HF_TOKEN"),
        (isinstance(error, ValueError) and "split" in text.lower(), f"data.hub.split: {text}"),
        (bool(names & _OTHER), f"cannot be read: {text}"),
    )
    return next((reason for applies, reason in reasons if applies), None)


def _chain(error: BaseException | None) -> Iterator[BaseException]:
    while error is not None:
        yield error
        error = error.__cause__ or error.__context__
