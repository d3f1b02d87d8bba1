"""What exits take, from reading to deciding, and what it takes when some texts leave."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import TYPE_CHECKING, Any

import numpy as np
import torch

from trimtab_strategies.elastic import TrimtabConfig
from trimtab_strategies.elastic.exits_trimtab import ExitHead, Leaving
from trimtab_strategies.elastic.linear_trimtab import rounded
from trimtab_strategies.elastic.rows_trimtab import PackedTokens
from trimtab_workers.latency._watch import Clock
from trimtab_workers.latency.timing import timed_ms

if TYPE_CHECKING:
    from trimtab_strategies.elastic import TrimtabConfig as Config

KINDS = (
    *(("linear", read, (1,)) for read in ("first", "mean", "both")),
    *(("mlp", read, (64, 256)) for read in ("first", "mean", "both")),
    ("attention", "first", (64, 256)),
)
REPEATS = 7

Samples = Mapping[str, dict[float, list[tuple[float, float]]]]


def exit_name(kind: str, read: str) -> str:
    """Names the part of an exit; one of attention always reads its own first token."""
    return f"exit/{kind}/{'first' if kind == 'attention' else read}"


def exit_parts(
    samples: Samples,
    config: Config,
    batch_size: int,
    longest: int,
    device: torch.device,
    clock: Clock,
) -> None:
    """Adds the times of exits of every kind, and of texts that leave, to ``samples``."""
    sizes = sorted({max(1, longest // 8), max(1, longest // 2), longest})
    counts = sorted({1, batch_size})
    batches = [[max(1, tokens - i % 2) for i in range(n)] for n in counts for tokens in sizes]
    for lengths in batches:
        for kind, read, widths in KINDS:
            for width in widths:
                head = _head(config, kind, read, width).to(device)
                at, ms = _exit_ms(head, lengths, config, device, clock)
                samples[exit_name(kind, read)][width].append((at, ms))
        if len(lengths) == batch_size:
            samples["leave"][0].append(_leave_ms(lengths, config, device, clock))


def _head(config: Config, kind: str, read: str, width: int) -> ExitHead:
    settings = {"layers": [0], "kind": kind, "read": read, "width": width}
    made = TrimtabConfig.from_dict({**config.to_dict(), "exits": settings})
    return ExitHead(made, settings).eval()


def _exit_ms(
    head: ExitHead, lengths: list[int], config: Config, device: torch.device, clock: Clock
) -> tuple[float, float]:
    tokens = _tokens(lengths, config, device)
    answers = torch.zeros(len(lengths), config.num_labels, device=device)
    leaving = Leaving({"tau": 0.0}, len(lengths), device)  # nobody is as sure as that

    def decide() -> None:
        said = head(tokens)
        goes = leaving.decide(said, tokens.samples)
        answers.index_copy(0, tokens.samples[goes], said[goes])
        tokens.leave(goes)

    return len(tokens.rows), _middle_ms(lambda: decide, device, clock)


def _leave_ms(
    lengths: list[int], config: Config, device: torch.device, clock: Clock
) -> tuple[float, float]:
    goes = torch.arange(len(lengths), device=device) % 2 == 0

    def ready() -> Callable[[], object]:
        tokens = _tokens(lengths, config, device)
        return lambda: tokens.leave(goes)

    return sum(lengths), _middle_ms(ready, device, clock)


def _middle_ms(
    ready: Callable[[], Callable[[], object]], device: torch.device, clock: Clock
) -> float:
    """Times what ``ready`` gives, a new one each time, and gives the median."""
    with torch.inference_mode():
        return float(np.median([_timed_ms(ready(), device, clock) for _ in range(REPEATS)]))


def _timed_ms(call: Callable[[], object], device: torch.device, clock: Clock) -> float:
    if device.type == "cuda":
        return timed_ms(call, device)
    started = clock()
    call()
    return (clock() - started) * 1e3


def _tokens(lengths: list[int], config: Config, device: torch.device) -> PackedTokens:
    lengths = sorted(lengths, reverse=True)
    round_up: Any = rounded if device.type == "cpu" else int
    rows = torch.randn(round_up(sum(lengths)), config.hidden_size, device=device)
    samples = torch.arange(len(lengths), device=device)
    width = max(config.heads_per_layer) * config.head_dim
    return PackedTokens(rows, lengths, samples, width, round_up)
