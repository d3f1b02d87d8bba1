"""Prices of heads and filters, as a study's events keep them: for steps that count in time."""

from __future__ import annotations

from trimtab.controller._session import Session
from trimtab_storage import Reader

KIND = "prices"


def remember(session: Session, prices: str) -> None:
    """Writes down what units cost now, if that is not what they did."""
    if known_prices(session.store, session.study.id) != prices:
        session.store.log_event(session.study.id, KIND, {"prices": prices})


def known_prices(reader: Reader, study_id: int) -> str | None:
    """Gives what units cost in a study's last run with a latency budget; None if it had none."""
    events = reader.events(study_id, kind=KIND)
    return str(events[-1].data["prices"]) if events else None
