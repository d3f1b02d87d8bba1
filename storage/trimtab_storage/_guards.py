"""What must hold before SQLite's write-ahead log may be trusted; pure decisions."""

from __future__ import annotations

import re
from pathlib import Path, PurePosixPath

NETWORK_FILE_SYSTEMS = frozenset({"nfs", "nfs4", "cifs", "smb3", "fuse.sshfs"})

MOUNTS = Path("/proc/mounts")


def needs_one_checkpointer(sqlite_version: tuple[int, ...]) -> bool:
    """Tells whether this SQLite has the WAL-reset fault (3.7.0 to 3.51.2).

    There two processes that checkpoint and write at the same moment can, very rarely, corrupt the
    file; where nobody writes beside the one that checkpoints they cannot. Some builds of these
    versions have it mended, which nothing tells.
    """
    return (3, 7, 0) <= sqlite_version <= (3, 51, 2)


def network_file_system(path: Path, mounts: str) -> str | None:
    """Names the network file system that an absolute path lies on, or None.

    Args:
        path: Where the database lies, with symbolic links resolved.
        mounts: The text of /proc/mounts; an empty text means that it cannot be told.
    """
    here = PurePosixPath(path)
    best, kind = -1, ""
    for line in mounts.splitlines():
        fields = line.split(" ")
        if len(fields) < 3:
            continue
        mount = PurePosixPath(_unescape(fields[1]))
        # A later mount on the same folder hides the earlier one.
        if here.is_relative_to(mount) and len(mount.parts) >= best:
            best, kind = len(mount.parts), fields[2]
    return kind if kind in NETWORK_FILE_SYSTEMS else None


def _unescape(field: str) -> str:
    return re.sub(r"\\([0-7]{3})", lambda match: chr(int(match.group(1), 8)), field)


def read_mounts() -> str:
    """Reads the mount table, or gives an empty text where there is none."""
    try:
        return MOUNTS.read_text(encoding="utf-8", errors="surrogateescape")
    except OSError:
        return ""
