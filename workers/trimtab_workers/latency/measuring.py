"""Measuring a latency table: the parts of real forward passes, and exits on their own.

Parts of models that have all widths are timed where they run, within whole passes: a part alone in
a loop would find its weights in the processor's cache. What they take is the median of a few
passes, since the least would be another kind of figure for short parts than for long ones.
"""

from __future__ import annotations

import time
from collections import defaultdict
from collections.abc import Iterator, Sequence
from dataclasses import replace
from statistics import median
from typing import TYPE_CHECKING, Any

import numpy as np
import torch

from trimtab_strategies.elastic.linear_trimtab import can_keep_layouts, rounded
from trimtab_strategies.elastic.rows_trimtab import GROUP_MACS, fused_step
from trimtab_workers.latency._adding import request_ms
from trimtab_workers.latency._exits import exit_parts
from trimtab_workers.latency._ladders import Ladder, ladders, random_model
from trimtab_workers.latency._watch import Clock, Passed, Watch
from trimtab_workers.latency.table import LatencyTable, Surface, is_fused
from trimtab_workers.latency.workload import Workload

if TYPE_CHECKING:
    from trimtab_strategies.elastic import TrimtabConfig as Config
    from trimtab_strategies.elastic import TrimtabForSequenceClassification

TEXTS = (1, 4, 8, 16, 24, 32, 48, 64, 96, 128, 192, 256, 384, 512)
"""Tokens of texts that are measured, one or two of them, as far as the workload's longest goes."""
TEXTS_OF_MANY = (4, 16, 48, 128, 384)
"""The same where there are many; the longest is measured as well, each way."""
SETTLE, REPEATS, REPEATS_OF_MANY = 1, 7, 3

Samples = dict[str, dict[float, list[tuple[float, float]]]]


def measure_table(
    config: Config,
    workload: Workload,
    longest: int,
    device: torch.device,
    clock: Clock = time.perf_counter,
) -> LatencyTable:
    """Measures what the parts of models take that are made from a dense one.

    Args:
        config: The dense model's configuration.
        workload: How many texts a request has.
        longest: Tokens of the longest text to expect.
        device: Where to run.
        clock: Tells the time in seconds; CUDA tells its own.
    """
    samples: Samples = defaultdict(lambda: defaultdict(list))
    longest = min(longest, _longest(config))
    table = _empty(config, workload.batch_size, device)
    watch = Watch(device, clock)
    for pair in ladders(config, device):
        with watch.watched(pair[0].model), watch.watched(pair[1].model):
            for lengths in _requests(workload.batch_size, longest):
                _sample(samples, pair, lengths, watch, table)
    exit_parts(samples, config, workload.batch_size, longest, device, clock)
    parts = {name: Surface.through(by_width) for name, by_width in samples.items()}
    table = replace(table, parts=parts)
    return replace(table, calibration=_calibration(table, config, longest, device, clock))


def _empty(config: Config, batch_size: int, device: torch.device) -> LatencyTable:
    return LatencyTable(
        device=device.type,
        dtype="float32",
        threads=torch.get_num_threads(),
        batch_size=batch_size,
        hidden_size=config.hidden_size,
        head_dim=config.head_dim,
        group_macs=GROUP_MACS.get(device.type, GROUP_MACS["cpu"]),
        rounds=device.type == "cpu" and can_keep_layouts(),
        parts={},
        step=fused_step(device.type),
    )


def _longest(config: Config) -> int:
    # Positions of some families begin behind the padding's number.
    begin = config.pad_token_id + 1 if config.positions_skip_padding else 0
    return int(config.max_position_embeddings) - begin


def _requests(batch_size: int, longest: int) -> Iterator[list[int]]:
    """Yields the lengths of texts that are timed together: of few, and then of many."""
    for count, sizes in ((min(2, batch_size), TEXTS), (batch_size, TEXTS_OF_MANY)):
        if count <= 2 and sizes is TEXTS_OF_MANY:
            return
        for tokens in (*(n for n in sizes if n < longest), longest):
            # Of two lengths, since what is padded takes longer than what is not.
            yield [max(1, tokens - place % 2) for place in range(count)]


# Samples


def _sample(
    samples: Samples,
    ladders: Sequence[Ladder],
    lengths: list[int],
    watch: Watch,
    table: LatencyTable,
) -> None:
    """Adds what the parts of both ladders take on one request."""
    models = [ladder.model for ladder in ladders]
    inputs = _inputs(lengths, models[0])
    is_many = len(lengths) > table.few
    taken = _middle(watch, models, inputs, REPEATS_OF_MANY if is_many else REPEATS)
    for ladder, passed in zip(ladders, taken, strict=True):
        if len(lengths) == table.batch_size:
            samples["front"][0].append((_rows(ladder.model, lengths), passed.front))
            samples["head"][0].append((len(lengths), passed.head))
        entering = [lengths, *ladder.model.trace(**inputs).kept.T.tolist()]
        for place in range(len(passed.layers)):
            texts = "many" if is_many else "few"
            _sample_layer(samples, ladder, place, entering, passed, texts, table)


def _sample_layer(
    samples: Samples,
    ladder: Ladder,
    place: int,
    entering: list[list[int]],
    passed: Passed,
    texts: str,
    table: LatencyTable,
) -> None:
    layer, ms, model = ladder.model.encoder_layers[place], passed.layers[place], ladder.model
    heads, before, after = layer.n_heads, entering[place], entering[place + 1]
    rows, left = _rows(model, before), _rows(model, after)
    asked, core, attended, fed = "none", "none", rows, left
    if place == len(passed.layers) - 1:
        asked, core, attended, fed = "last", "last", len(before), len(before)
    elif heads:
        core, attended = ladder.rule, left if ladder.rule == "acc" else rows
    samples[f"asked/{asked}"][heads].append((rows, ms["asked"]))
    seen = int(table.padded(np.array(max(before)))) if is_fused(core) else max(before)
    samples[f"{texts}/{core}"][heads].append((seen, ms["core"] + ms["moved"]))
    samples["attended"][heads].append((attended, ms["attended"]))
    samples["fed"][layer.n_filters].append((fed, ms["fed"]))


def _middle(
    watch: Watch,
    models: Sequence[TrimtabForSequenceClassification],
    inputs: dict[str, Any],
    repeats: int,
) -> list[Passed]:
    """Lets models take turns and gives the median of each part's times, for each model."""
    rounds = [[watch.passes(model, inputs) for model in models] for _ in range(repeats + SETTLE)]
    return [_median(every) for every in zip(*rounds[SETTLE:], strict=True)]


def _median(every: Sequence[Passed]) -> Passed:
    return Passed(
        median(one.front for one in every),
        [
            {name: median(layer[name] for layer in layers) for name in layers[0]}
            for layers in zip(*(one.layers for one in every), strict=True)
        ],
        median(one.head for one in every),
    )


def _rows(model: TrimtabForSequenceClassification, lengths: Sequence[int]) -> int:
    with torch.inference_mode():
        keeps = model.encoder_layers[0].qkv.keeps_layout
    return rounded(sum(lengths)) if keeps else sum(lengths)


def _inputs(lengths: list[int], model: TrimtabForSequenceClassification) -> dict[str, Any]:
    real = torch.arange(max(lengths))[None, :] < torch.tensor(lengths)[:, None]
    pad = model.config.pad_token_id
    generator = torch.Generator().manual_seed(0)
    ids = torch.randint(model.config.vocab_size, real.shape, generator=generator)
    ids[ids == pad] = (pad + 1) % 2
    ids = ids.where(real, torch.tensor(pad))
    return {"input_ids": ids.to(model.device), "attention_mask": real.to(model.device)}


def _calibration(
    table: LatencyTable, config: Config, longest: int, device: torch.device, clock: Clock
) -> float:
    """Compares the dense model with its parts, on single texts or batches of usual lengths."""
    model = random_model(config, device, config.heads_per_layer, config.filters_per_layer)
    watch = Watch(device, clock)
    ratios = []
    with watch.watched(model):
        for tokens in sorted({max(1, longest // part) for part in (6, 3, 2)}):
            lengths = [max(1, tokens - place % 2) for place in range(table.batch_size)]
            (taken,) = _middle(watch, [model], _inputs(lengths, model), REPEATS_OF_MANY)
            expected = request_ms(
                table, config.heads_per_layer, config.filters_per_layer, np.array([lengths])
            )
            ratios.append(taken.total / float(expected[0]))
    return float(np.median(ratios))
