"""What counts as the name of something on the hub, and how it is fetched or found in its cache."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any, Literal

from trimtab_workers._quiet import quiet_hub
from trimtab_workers._words import one_line

_ID = re.compile(r"(?P<name>\w[\w.-]*/\w[\w.-]*)(?:@(?P<revision>[0-9a-f]{7,40}))?", re.ASCII)

AWAY = frozenset({"ConnectError", "ConnectionError", "TimeoutException"})

Kind = Literal["model", "dataset"]


class HubError(Exception):
    """Something is not to be had from the hub; the message is one line, without its name."""


def hub_id(reference: str) -> tuple[str, str | None] | None:
    """Takes `OWNER/NAME[@REVISION]` apart into name and revision; None when it is not one.

    URLs, paths with more than one slash and paths that begin with a dot never are.
    """
    match = _ID.fullmatch(reference)
    return (match["name"], match["revision"]) if match else None


def fetch_snapshot(
    repository: str,
    revision: str | None,
    *,
    kind: Kind = "model",
    patterns: list[str] | None = None,
    only_cached: bool = False,
) -> Path:
    """Gives a folder with a repository's files, from the hub or, where that is away, its cache.

    Args:
        repository: `OWNER/NAME`.
        revision: A commit, which may be shortened; else the main branch is meant.
        kind: What the repository holds.
        patterns: Which files are wanted; None for all.
        only_cached: Whether the hub is known to be away.

    Raises:
        HubError: The hub does not deliver, and the cache has no such revision either.
    """
    from huggingface_hub import constants, snapshot_download
    from huggingface_hub.errors import LocalEntryNotFoundError

    options: dict[str, Any] = {"allow_patterns": patterns, "local_files_only": only_cached}
    full = full_revision(repository, revision, kind)
    try:
        with quiet_hub():
            return Path(snapshot_download(repository, repo_type=kind, revision=full, **options))
    except LocalEntryNotFoundError as error:
        away = "no connection" if only_cached else one_line(error)
        raise HubError(
            f"the {kind} is not in the cache {constants.HF_HUB_CACHE}, or not as a whole, and the "
            f"hub cannot be asked ({away}); fetch it once with a network, or name a local folder"
        ) from error
    except Exception as error:  # the hub's client lets pass what its transport raises
        raise HubError(f"the hub did not deliver the {kind} ({one_line(error)})") from error


def is_away(error: BaseException | None) -> bool:
    """Tells whether the hub was not reached; what is raised then depends on the layer that did."""
    return any(kind.__name__ in AWAY for kind in type(error).__mro__)


def full_revision(repository: str, revision: str | None, kind: Kind) -> str | None:
    """Completes a shortened commit from the cache, whose folders are named by full ones."""
    from huggingface_hub import constants
    from huggingface_hub.file_download import repo_folder_name

    if revision is None:
        return None
    name = repo_folder_name(repo_id=repository, repo_type=kind)
    found = list(Path(constants.HF_HUB_CACHE, name, "snapshots").glob(f"{revision}*"))
    return found[0].name if len(found) == 1 else revision
