"""A toy language of three topics, in which no single word gives the topic away.

Each sentence names things of two topics; the topic with more things is the label. A model has to
weigh all of them, so that compressing it costs accuracy by degrees, as with real text.
"""

from __future__ import annotations

import random

THINGS = {
    "garden": (
        *("rake", "hedge", "seed", "lawn", "spade", "tulip", "compost", "orchard", "fence"),
        *("shears", "bulb", "trellis", "weed", "barrow", "ivy", "moss"),
    ),
    "kitchen": (
        *("kettle", "oven", "spoon", "dough", "pan", "ladle", "recipe", "sieve", "whisk"),
        *("plate", "stove", "butter", "grater", "apron", "jar", "yeast"),
    ),
    "music": (
        *("fiddle", "drum", "chord", "choir", "flute", "tempo", "piano", "encore", "melody"),
        *("cello", "stage", "song", "rhythm", "harp", "bow", "duet"),
    ),
}
_QUALITIES = ("old", "new", "small", "large", "green", "bright", "plain", "lost", "broken", "fine")
_OPENERS = (
    *("yesterday we found", "she wrote about", "he asked for", "they talked about", "i remember"),
    *("there was a note on", "nobody mentioned", "my neighbour liked"),
)
_CLOSERS = (
    *("in the morning", "before the rain", "after a long day", "with some friends", "once again"),
    *("and went home", "without a word", "as usual on a sunday"),
)
_MARKS = (".", ",")
_COUNTS = ((2, 1), (3, 1), (3, 2), (4, 2))

Row = tuple[str, str]


def make_rows(count: int, seed: int) -> list[Row]:
    """Makes ``count`` distinct labelled sentences, the three labels in equal parts.

    Returns:
        Pairs of text and label, in random order.
    """
    rng = random.Random(seed)
    labels = sorted(THINGS)
    rows: dict[str, str] = {}
    while len(rows) < count:
        label = labels[len(rows) % len(labels)]
        rows.setdefault(_sentence(rng, label), label)
    shuffled = list(rows.items())
    rng.shuffle(shuffled)
    return shuffled


def words() -> list[str]:
    """Lists every word of the language, in alphabetical order."""
    phrases = (*_QUALITIES, *_OPENERS, *_CLOSERS, *(w for group in THINGS.values() for w in group))
    return sorted({word for phrase in phrases for word in phrase.split()} | {"the", "and", *_MARKS})


def _sentence(rng: random.Random, label: str) -> str:
    other = rng.choice([topic for topic in sorted(THINGS) if topic != label])
    many, few = rng.choice(_COUNTS)
    things = rng.sample(THINGS[label], many) + rng.sample(THINGS[other], few)
    rng.shuffle(things)
    phrases = [_phrase(rng, thing) for thing in things]
    body = f"{' , '.join(phrases[:-1])} and {phrases[-1]}"
    closer = f" {rng.choice(_CLOSERS)}" if rng.random() < 0.7 else ""
    return f"{rng.choice(_OPENERS)} {body}{closer} ."


def _phrase(rng: random.Random, thing: str) -> str:
    return f"the {rng.choice(_QUALITIES)} {thing}" if rng.random() < 0.4 else f"the {thing}"
