from __future__ import annotations

from collections.abc import Iterator

import pytest

from trimtab_storage import Store
from trimtab_storage.testing import ManualClock, StoreContract


class TestSqliteStore(StoreContract):
    @pytest.fixture
    def store(self, clock: ManualClock, url: str) -> Iterator[Store]:
        with Store.open(url, controller=True, clock=clock) as opened:
            yield opened
