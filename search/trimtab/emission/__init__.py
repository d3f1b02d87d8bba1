"""Checkpoints: written in one piece, verified in a fresh process, loaded with one call."""

from __future__ import annotations

from ._emit import Emission, emit_checkpoint
from ._latency import LatencyCheck, LatencyMissedError, emit_what_holds
from ._manifest import CheckpointError, check_files, read_manifest
from ._place import check_target
from ._unchanged import check_unchanged

__all__ = [
    "CheckpointError",
    "Emission",
    "LatencyCheck",
    "LatencyMissedError",
    "check_files",
    "check_target",
    "check_unchanged",
    "emit_checkpoint",
    "emit_what_holds",
    "read_manifest",
]
