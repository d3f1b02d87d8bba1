"""Fuzzes the spec's readers: does any text, however broken, end in anything but a clear error?

Specs are broken two ways: structured (a value, key or section is replaced, moved or removed) and
by bytes (flipped, cut, doubled, spliced). Every spec is loaded as a user would load it, and
whatever is said about it is also printed.
"""

from __future__ import annotations

import copy
import json
import random
import time
import traceback
from collections.abc import Callable, Iterator
from typing import Any

import yaml

from trimtab.spec import Spec, SpecErrors

BASE: dict[str, Any] = {
    "name": "reviews",
    "model": "./bert",
    "task": {
        "kind": "classification",
        "train": "data/train.tsv",
        "validation": {"dataset": "./folder", "split": "dev"},
        "text": ["sentence", "other"],
        "label": "label",
        "metric": "f1",
        "max_length": 128,
    },
    "finetune": {"epochs": 2, "lr": 5e-5, "batch_size": 32},
    "budget": {
        "flops": "40%",
        "latency": {"p95": "8 ms", "batch_size": 4, "device": "cpu", "lengths": [16, 64]},
    },
    "max_drop": "1 pt",
    "search": {
        "strategies": [{"fisher": {"calibration": [256, 512], "tuning": "scale"}}],
        "trials": 40,
        "time": "30 min",
        "seed": 0,
    },
    "workers": {"executor": "ray", "count": 2, "device": "cpu", "trial_timeout": "20 min"},
    "output": "runs/reviews",
}

_MAX_BYTES = 512 * 1024  # twice what a spec may have
_WORDS = (
    *("train", "time", "flops", "fisher", "ltp", "latency", "regression", "accuracy", "unlabeled"),
    *("throughput", "mean", "p50", "2x", "200/s", "8 ms", "lengths"),
    *("", " ", "~", "no", "0x1F", "1:30", "1e-3", "40 %", "-1 pt", "1e400 s", "9" * 60, "%", "é"),
    *("package:a/../b", "package:", "http://x/y", "a/b", "../..", "~nobody/x", "x" * 5000, "\n"),
    *("\x00", "\x1b[31m", "\ud800", "\u2028", "𝟘𝟙", "[[", "{{", "&a", "*a", "!!int 3", "<<"),
)
_VALUES: tuple[Any, ...] = (
    *(None, True, False, 0, 1, -1, 40, 0.4, 1e-300, 1e300, 2**31, 2**64, 10**39, -0.0),
    *([], {}, [[]], {"a": {}}, [None], {"fisher": None}, {"dataset": "a/b"}, {"path": "x.tsv"}),
    *_WORDS,
)
_BYTES = (
    b"[",
    b"{",
    b"- ",
    b": ",
    b"? ",
    b"&a ",
    b"*a",
    b"!t ",
    b"\t",
    b"\n",
    b"\xff",
    b"\0",
    b'"',
)


def measure(seed: int, count: int) -> dict[str, Any]:
    """Loads ``count`` broken specs.

    Returns:
        ``tracebacks`` (how many ended in anything but a :class:`SpecErrors`), ``first_traceback``
        (its text, or None), ``accepted``, and ``p50_ms``, ``p99_ms``, ``max_ms`` of one load.
    """
    rng = random.Random(seed)
    times: list[float] = []
    failures: list[str] = []
    accepted = 0
    for _ in range(count):
        content, form = broken_spec(rng)
        start = time.perf_counter()
        try:
            accepted += _load(content, form)
        except Exception:
            failures.append(f"{form}: {content[:2000]!r}\n{traceback.format_exc()}")
        times.append((time.perf_counter() - start) * 1000)
    times.sort()
    return {
        "seed": seed,
        "count": count,
        "tracebacks": len(failures),
        "first_traceback": failures[0] if failures else None,
        "accepted": accepted,
        "p50_ms": times[count // 2],
        "p99_ms": times[min(count - 1, count * 99 // 100)],
        "max_ms": times[-1],
    }


def _load(content: bytes, form: Any) -> bool:
    """Loads a spec and says what is wrong with it; tells whether it was accepted."""
    try:
        spec = Spec.loads(content, form=form, file="spec", folder="/nowhere")
    except SpecErrors as errors:
        str(errors).encode()
        return False
    if Spec.from_mapping(spec.to_plain()) != spec:
        raise AssertionError("a spec must read back from its plain values")
    return True


def broken_spec(rng: random.Random) -> tuple[bytes, str]:
    """Makes the text of one broken spec, and tells its form: ``yaml`` or ``json``."""
    form = rng.choice(("yaml", "yaml", "json"))
    data = copy.deepcopy(BASE)
    if rng.random() < 0.8:
        for _ in range(rng.choice((1, 1, 2, 3, 8))):
            _break_structure(rng, data)
    text = json.dumps(data, indent=1) if form == "json" else _dump_yaml(rng, data)
    content = text.encode("utf-8", "surrogatepass")
    if rng.random() < 0.4:
        for _ in range(rng.choice((1, 1, 2, 5))):
            content = rng.choice(_BYTE_FAULTS)(rng, content)[:_MAX_BYTES]
    return content, form


def _dump_yaml(rng: random.Random, data: Any) -> str:
    style = rng.choice((None, False, True))
    try:
        return yaml.safe_dump(data, default_flow_style=style, sort_keys=False)
    except UnicodeEncodeError:  # of lone surrogates, which JSON escapes
        return json.dumps(data)


def _break_structure(rng: random.Random, data: dict[str, Any]) -> None:
    places = list(_places(data))
    if not places:  # earlier faults removed everything
        return
    container, key = rng.choice(places)
    fault = rng.randrange(5)
    if fault == 0:
        del container[key]
    elif fault <= 2:
        container[key] = copy.deepcopy(rng.choice(_VALUES))
    elif fault == 3 and isinstance(container, dict):
        container[_misspelt(rng, str(key))] = container.pop(key)
    else:
        data[_misspelt(rng, rng.choice(_WORDS[:9]))] = copy.deepcopy(container[key])


def _places(node: Any) -> Iterator[tuple[Any, Any]]:
    items = list(node.items()) if isinstance(node, dict) else list(enumerate(node))
    for key, value in items:
        yield node, key
        if isinstance(value, dict | list):
            yield from _places(value)


def _misspelt(rng: random.Random, word: str) -> str:
    if not word or rng.random() < 0.2:
        return rng.choice(_WORDS)
    at = rng.randrange(len(word))
    middle = rng.choice(("", "x", word[at] * 2, word[at].upper()))
    return word[:at] + middle + word[at + 1 :]


def _flip(rng: random.Random, content: bytes) -> bytes:
    at = rng.randrange(len(content) + 1)
    return content[:at] + bytes([rng.randrange(256)]) + content[at + 1 :]


def _cut(rng: random.Random, content: bytes) -> bytes:
    first, last = sorted(rng.randrange(len(content) + 1) for _ in range(2))
    return content[:first] + content[last:] if rng.random() < 0.5 else content[:last]


def _insert(rng: random.Random, content: bytes) -> bytes:
    at = rng.randrange(len(content) + 1)
    repeats = rng.choice((1, 1, 2, 40, 400, 20_000))
    return content[:at] + rng.choice(_BYTES) * repeats + content[at:]


def _double(rng: random.Random, content: bytes) -> bytes:
    first, last = sorted(rng.randrange(len(content) + 1) for _ in range(2))
    return content[:last] + content[first:last] * rng.choice((1, 2, 50)) + content[last:]


_BYTE_FAULTS: tuple[Callable[[random.Random, bytes], bytes], ...] = (_flip, _cut, _insert, _double)


BENCHMARKS = [
    {
        "name": "spec-fuzz",
        "goal": 0,
        "unit": "tracebacks in 10,000 fuzzed specs",
        "better": "lower",
    },
    {
        "name": "spec-fuzz-slowest",
        "goal": 100,
        "unit": "ms for the slowest of 10,000 fuzzed specs",
        "better": "lower",
    },
]
COUNT = 10_000


def run(seed: int) -> dict[str, dict[str, Any]]:
    """Gives both figures of one fuzzing."""
    found = measure(seed=seed, count=COUNT)
    shared = {"baseline": "none: an absolute bound", "seeds": [seed], "rows": [found]}
    return {
        "spec-fuzz": {"figure": found["tracebacks"], **shared},
        "spec-fuzz-slowest": {"figure": found["max_ms"], **shared},
    }
