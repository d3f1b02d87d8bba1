"""Words of the spec that are known, but not built in this version.

They are kept apart from misspelt words, so that somebody who read about them is told the truth.
Building one means: take its word out of here, and put it into the model.
"""

from __future__ import annotations

from collections.abc import Iterable

from trimtab.spec._words import did_you_mean, listing, show
from trimtab.spec.errors import FieldError

PLANNED_WORDS = {
    "kind": frozenset({"regression", "language-modeling"}),
    "metric": frozenset({"pearson", "spearman", "perplexity"}),
    "strategy": frozenset({"int8"}),
}


def check_word(concept: str, word: str, built: Iterable[str]) -> str:
    """Refuses a word that this version does not have, planned or not.

    Args:
        concept: one of ``PLANNED_WORDS``.
        word: what the spec says.
        built: what this version has.

    Raises:
        FieldError: naming what is available.
    """
    available = tuple(built)
    if word in available:
        return word
    if word in PLANNED_WORDS[concept]:
        raise FieldError(
            f"must be a {concept} of this version ({listing(available)}), "
            f"but `{word}` is not built yet"
        )
    raise FieldError(
        f"must be one of {listing(available)}, but got {show(word)}", did_you_mean(word, available)
    )
