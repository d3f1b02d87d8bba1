"""Chance: one seed a test, which is printed and can be put in again."""

from __future__ import annotations

import os
import random

import pytest


@pytest.fixture
def seed() -> int:
    """The seed of a random test; `TRIMTAB_SEED` puts in the one that a failed test printed."""
    given = os.environ.get("TRIMTAB_SEED")
    drawn = random.randrange(2**32) if given is None else int(given)
    print(f"seed {drawn}")
    return drawn


@pytest.fixture
def rng(seed: int) -> random.Random:
    """Chance that comes from that seed."""
    return random.Random(seed)
