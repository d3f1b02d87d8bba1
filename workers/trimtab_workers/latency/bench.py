"""Benches: candidates timed against the dense baseline, and what came of it."""

from __future__ import annotations

import os
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass
from typing import TYPE_CHECKING, Any

from trimtab_workers.latency.workload import Statistic, Workload

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from trimtab_workers.latency.pairs import Model, Samples
    from trimtab_workers.latency.requests import Requests
    from trimtab_workers.latency.summary import Latency

BASELINE = "baseline"
DIGITS = 4


@dataclass(frozen=True)
class BenchResult:
    """A latency, and the times behind it.

    ``samples`` has ``ours`` and ``baseline``, [requests][rounds] of ms as they were taken, whatever
    speed the latency is stated at, and ``waited`` for each round, or None. All rounds are kept;
    those that other work held up did not count, if there were enough others. ``ratio`` judges the
    same times by their ratio to the baseline's, where both were asked for.
    """

    latency: Latency
    samples: dict[str, Any]
    ratio: Latency | None = None

    def to_plain(self) -> dict[str, Any]:
        """Gives the result as JSON has it."""
        ratio = None if self.ratio is None else self.ratio.to_plain()
        return {"latency": self.latency.to_plain(), "samples": self.samples, "ratio": ratio}

    @classmethod
    def from_plain(cls, plain: Mapping[str, Any]) -> BenchResult:
        """Reads what :meth:`to_plain` gave."""
        from trimtab_workers.latency.summary import Latency

        ratio = plain.get("ratio")
        return cls(
            Latency.from_plain(plain["latency"]),
            plain["samples"],
            None if ratio is None else Latency.from_plain(ratio),
        )


@dataclass(frozen=True)
class BenchSettings:
    """How to time: on what, for how long, and what to state.

    ``also`` are further statistics that must be sure, and ``is_both`` asks for the ratios beside
    the times.
    """

    statistic: Statistic
    device: str = "auto"
    threads: int | None = None
    reference_p50_ms: float | None = None
    is_relative: bool = False
    limit_s: float = 20.0
    also: tuple[Statistic, ...] = ()
    is_both: bool = False

    def to_plain(self) -> dict[str, Any]:
        """Gives the settings as JSON has them."""
        return asdict(self)

    @classmethod
    def from_plain(cls, plain: Mapping[str, Any]) -> BenchSettings:
        """Reads what :meth:`to_plain` gave."""
        return cls(**{**plain, "also": tuple(plain.get("also", ()))})


def settings_of(
    workload: Workload,
    statistic: Statistic,
    worker_device: str,
    *,
    limit_s: float,
    reference_p50_ms: float | None = None,
    is_relative: bool = False,
    also: tuple[Statistic, ...] = (),
    is_both: bool = False,
) -> BenchSettings:
    """Takes the settings from a workload; ``auto`` is the device that the worker has."""
    device = worker_device if workload.device == "auto" else workload.device
    return BenchSettings(
        statistic,
        device,
        workload.threads,
        reference_p50_ms,
        is_relative,
        limit_s,
        also,
        is_both,
    )


def bench(
    baseline: Any,
    candidates: Sequence[Model],
    requests: Requests,
    settings: BenchSettings,
    on_round: Callable[[float], None] | None = None,
) -> list[BenchResult]:
    """Times models against the baseline, all in the same rounds; gives one result for each.

    The baseline and the candidates are on the device and in evaluation mode already.
    """
    from trimtab_workers.devices import pick_device
    from trimtab_workers.jobs._place import cpu_threads
    from trimtab_workers.latency.pairs import measure_pairs

    device = pick_device(settings.device)
    threads = settings.threads or usable_cpus()
    models = {BASELINE: baseline, **{str(i): model for i, model in enumerate(candidates)}}
    with cpu_threads(threads):
        samples = measure_pairs(
            models,
            requests.tensors(device),
            device=device,
            statistic=settings.statistic,
            also=settings.also,
            # On an accelerator only the thread that sends it work can hold it up.
            threads=threads if device.type == "cpu" else 1,
            limit_s=settings.limit_s,
            on_round=on_round,
        )
    return [
        _result(samples, str(i), requests, settings, device.type, threads)
        for i in range(len(candidates))
    ]


def usable_cpus() -> int:
    """Counts the processors that this process may run on."""
    if hasattr(os, "sched_getaffinity"):
        return len(os.sched_getaffinity(0))
    return os.cpu_count() or 1


def _result(
    samples: Samples,
    name: str,
    requests: Requests,
    settings: BenchSettings,
    device: str,
    threads: int,
) -> BenchResult:
    from trimtab_workers.latency.summary import summarise

    calm = samples.calm()

    def summed_up(reference_p50_ms: float | None, is_relative: bool) -> Latency:
        return summarise(
            calm.ms[name],
            calm.ms[BASELINE],
            settings.statistic,
            batch_size=requests.batch_size,
            device=device,
            threads=threads,
            waited=calm.waited_on_average,
            reference_p50_ms=reference_p50_ms,
            is_relative=is_relative,
        )

    taken = {
        "ours": _rounded(samples.ms[name]),
        "baseline": _rounded(samples.ms[BASELINE]),
        "waited": None if samples.waited is None else _rounded(samples.waited),
    }
    latency = summed_up(settings.reference_p50_ms, settings.is_relative)
    return BenchResult(latency, taken, summed_up(None, True) if settings.is_both else None)


def _rounded(values: NDArray[Any]) -> Any:
    """Gives numbers as lists, to four significant digits: more would be noise, and disk."""
    import numpy as np

    digits = [float(f"{value:.{DIGITS}g}") for value in values.ravel()]
    return np.array(digits).reshape(values.shape).tolist()
