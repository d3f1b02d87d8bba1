"""Watching a forward pass from outside: when each part of each layer began and ended."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import torch

if TYPE_CHECKING:
    from trimtab_strategies.elastic import ElasticLayer, TrimtabForSequenceClassification

Clock = Callable[[], float]  # seconds
SPANS = (
    ("core", "asked", "core"),
    ("attended", "core", "attended"),
    ("moved", "attended", "fed"),
    ("fed", "fed", "out"),
)


@dataclass(frozen=True)
class Passed:
    """Milliseconds of one forward pass: before the layers, in the parts of each, and after them.

    ``layers`` have ``asked`` (queries, keys and values), ``core`` (attention between projections;
    where shares of tokens go, also their going), ``attended``, ``moved`` (the going of tokens under
    thresholds) and ``fed``.
    """

    front: float
    layers: list[dict[str, float]]
    head: float

    @property
    def total(self) -> float:
        """The whole pass."""
        return self.front + sum(sum(layer.values()) for layer in self.layers) + self.head


class Watch:
    """Takes the times at which a model's parts begin and end; of one pass at a time."""

    def __init__(self, device: torch.device, clock: Clock = time.perf_counter) -> None:
        self._device, self._clock = device, clock
        self._marks: dict[tuple[str, int], Any] = {}

    def passes(self, model: TrimtabForSequenceClassification, inputs: dict[str, Any]) -> Passed:
        """Runs a model that is :meth:`watched` and gives the times of its parts."""
        self._marks.clear()
        with torch.inference_mode():
            self._mark("start", 0)
            model(**inputs)
            self._mark("end", 0)
        if self._device.type == "cuda":
            torch.cuda.synchronize()
        n_layers = len(model.encoder_layers)
        return Passed(
            self._between(("start", 0), ("in", 0)),
            [self._of_layer(index) for index in range(n_layers)],
            self._between(("out", n_layers - 1), ("end", 0)),
        )

    @contextmanager
    def watched(self, model: TrimtabForSequenceClassification) -> Iterator[None]:
        """Notes times in the parts of a model's layers for a while."""
        hooks: list[Any] = []
        for index, layer in enumerate(model.encoder_layers):
            hooks += self._attach(layer, index)
        try:
            yield
        finally:
            for hook in hooks:
                hook.remove()
            for layer in model.encoder_layers:
                for name in ("asked", "attended", "fed_forward"):
                    del layer.__dict__[name]

    def _of_layer(self, index: int) -> dict[str, float]:
        # What happens between two layers belongs to the second.
        begin = ("out", index - 1) if index else ("in", 0)
        asked = {"asked": self._between(begin, ("asked", index))}
        return asked | {
            name: self._between((start, index), (end, index)) for name, start, end in SPANS
        }

    def _attach(self, layer: ElasticLayer, index: int) -> list[Any]:
        # The last layer asks by its own method, and the others call the projection.
        self._wrap(layer, "asked", "in", "asked", index)
        self._wrap(layer, "attended", "core", "attended", index)
        self._wrap(layer, "fed_forward", "fed", "out", index)
        return [
            layer.qkv.register_forward_pre_hook(lambda *_: self._mark("in", index)),
            layer.qkv.register_forward_hook(lambda *_: self._mark("asked", index)),
        ]

    def _wrap(self, layer: ElasticLayer, name: str, begin: str, end: str, index: int) -> None:
        method = getattr(layer, name)

        def timed(*arguments: Any) -> Any:
            self._mark(begin, index)
            result = method(*arguments)
            self._mark(end, index)
            return result

        setattr(layer, name, timed)

    def _mark(self, name: str, layer: int) -> None:
        if self._device.type != "cuda":
            self._marks[name, layer] = self._clock()
            return
        event = torch.cuda.Event(enable_timing=True)  # type: ignore[no-untyped-call]
        event.record()
        self._marks[name, layer] = event

    def _between(self, begin: tuple[str, int], end: tuple[str, int]) -> float:
        first, last = self._marks[begin], self._marks[end]
        if self._device.type == "cuda":
            return float(first.elapsed_time(last))
        return float(last - first) * 1e3
