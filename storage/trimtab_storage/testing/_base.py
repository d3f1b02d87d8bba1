"""The fixtures that all parts of the contract share."""

from __future__ import annotations

import pytest

from trimtab_storage.rows import Lease, StudyRow
from trimtab_storage.store import Store
from trimtab_storage.testing._values import TTL_S, ManualClock


class ContractFixtures:
    """An empty store with one leased study; subclasses override `store`."""

    @pytest.fixture
    def clock(self) -> ManualClock:
        """The clock that the store must go by."""
        return ManualClock()

    @pytest.fixture
    def store(self, clock: ManualClock) -> Store:
        """An empty, writable store on that clock."""
        raise TypeError("override the fixture `store` with one that opens the store to test")

    @pytest.fixture
    def study(self, store: Store) -> StudyRow:
        """A new study."""
        return store.create_study("reviews", {"seed": 0}, {"model": "m"}, {"max_drop": 0.01})

    @pytest.fixture
    def lease(self, store: Store, study: StudyRow) -> Lease:
        """The lease on that study."""
        return store.acquire(study.id, "one", TTL_S)
