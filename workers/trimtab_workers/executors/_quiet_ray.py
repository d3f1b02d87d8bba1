"""Imports Ray guarded and quiet; the other modules take `ray` from here."""

from __future__ import annotations

import os
import sys

# No reports to Ray's makers.
os.environ.setdefault("RAY_USAGE_STATS_ENABLED", "0")
# Ray reads these when it is first imported. If the caller has done so, his settings hold; Ray then
# turns authentication on by itself when it starts a cluster.
if "ray" not in sys.modules:
    # Ray listens on all interfaces, and whoever may talk to it may run code.
    os.environ.setdefault("RAY_AUTH_MODE", "token")
    # Else Ray prints the death of every worker to stdout, where our data goes.
    os.environ.setdefault("RAY_DEDUP_LOGS_SKIP_REGEX", ".")

import ray  # noqa: E402  (the environment comes first)

__all__ = ["ray"]
