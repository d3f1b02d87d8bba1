"""A study's data and model must stay what they were: results of others do not compare."""

from __future__ import annotations

from collections.abc import Mapping

from trimtab.errors import StudyChangedError
from trimtab_workers.jobs import Survey


def check_unchanged(study: str, known: Mapping[str, str], survey: Survey) -> dict[str, str]:
    """Compares what was found now with the fingerprint that a study has so far.

    Returns:
        The fingerprint with what was found added.

    Raises:
        StudyChangedError: naming what has other contents.
    """
    now = {"model": survey.model_fingerprint, "data": survey.data_fingerprint}
    changed = [name for name in now if name in known and known[name] != now[name]]
    if changed:
        raise StudyChangedError(study, [f"the contents of the {name} files" for name in changed])
    return {**known, **now}
