"""The contract of a store as a test class, with the values and the clock to test it with.

A backend is tested by a subclass that overrides the fixture `store`; all tests are inherited::

    class TestMyStore(StoreContract):
        @pytest.fixture
        def store(self, clock): ...

Needs pytest; let it rewrite the asserts by `pytest.register_assert_rewrite` in a conftest.
"""

from __future__ import annotations

from trimtab_storage.testing._leases import LeaseContract
from trimtab_storage.testing._places import REMOTE_PLACES, TestedPlace, emulated_s3
from trimtab_storage.testing._points import PointContract
from trimtab_storage.testing._records import RecordContract
from trimtab_storage.testing._trials import TrialContract
from trimtab_storage.testing._values import (
    ManualClock,
    beaten,
    complete,
    latency_of,
    make_artifact,
    make_point,
    make_recipe,
)

__all__ = [
    "REMOTE_PLACES",
    "ManualClock",
    "StoreContract",
    "TestedPlace",
    "beaten",
    "complete",
    "emulated_s3",
    "latency_of",
    "make_artifact",
    "make_point",
    "make_recipe",
]


class StoreContract(LeaseContract, TrialContract, PointContract, RecordContract):
    """What every store must do; subclasses override the fixture `store`."""
