from __future__ import annotations

import multiprocessing
from collections.abc import Callable
from pathlib import Path
from typing import Any

from trimtab_storage import DuplicateRecipeError, LeaseHeldError, Store
from trimtab_storage.testing import make_point, make_recipe

PROCESSES = 8


def race(work: Callable[[int], Any]) -> list[Any]:
    """Runs `work(i)` in 8 processes that start it at the same moment; gives what they return."""
    context = multiprocessing.get_context("fork")
    barrier = context.Barrier(PROCESSES)
    answers: Any = context.SimpleQueue()

    def run(index: int) -> None:
        barrier.wait(30)
        try:
            answers.put((work(index), None))
        except Exception as error:
            answers.put((None, repr(error)))

    processes = [context.Process(target=run, args=(i,)) for i in range(PROCESSES)]
    for process in processes:
        process.start()
    found = [answers.get() for _ in processes]
    for process in processes:
        process.join(30)
    assert [error for _, error in found if error] == []
    return [answer for answer, _ in found]


def test_processes_that_create_one_file_at_once_all_get_it(tmp_path: Path) -> None:
    for round_ in range(4):
        url = f"sqlite:///{tmp_path}/{round_}.db"

        def work(index: int, url: str = url) -> int:
            with Store.open(url) as store:
                return store.create_study("reviews", {"from": index}, {}, {}).spec["from"]

        assert len(set(race(work))) == 1
        with Store.open_reader(url) as reader:
            assert len(reader.studies()) == 1
            assert reader.integrity_problems() == []


def test_one_of_eight_processes_gets_the_lease(url: str) -> None:
    for round_ in range(3):
        with Store.open(url) as store:
            study = store.create_study(f"round {round_}", {}, {}, {})

        def work(index: int, study_id: int = study.id) -> int | None:
            with Store.open(url) as store:
                try:
                    return store.acquire(study_id, f"process {index}", 60.0).fence
                except LeaseHeldError:
                    return None

        assert sorted(race(work), key=str) == [1, *[None] * (PROCESSES - 1)]


def test_expired_lease_taken_by_eight_gives_eight_fences(url: str) -> None:
    with Store.open(url) as store:
        study = store.create_study("reviews", {}, {}, {})

    def work(index: int) -> int:
        with Store.open(url) as store:
            return store.acquire(study.id, f"process {index}", 0.0).fence

    assert sorted(race(work)) == list(range(1, PROCESSES + 1))


def test_certified_points_of_eight_processes_are_one_row(url: str) -> None:
    with Store.open(url) as store:
        study = store.create_study("reviews", {}, {}, {})

    def work(index: int) -> int:
        with Store.open(url) as store:
            point = make_point(split="certify", drop=index / 100)
            return store.add_certified_point(study.id, point).id

    assert len(set(race(work))) == 1


def test_threads_of_one_controller_draw_numbers_without_gaps(url: str) -> None:
    with Store.open(url, controller=True) as store:
        lease = store.acquire(store.create_study("reviews", {}, {}, {}).id, "one", 60.0)

        def work(index: int) -> list[int]:
            with Store.open(url) as mine:
                numbers = []
                for i in range(10):
                    try:
                        row = mine.add_trial(lease, make_recipe(i), f"{i}")
                    except DuplicateRecipeError:
                        continue
                    numbers.append(row.number)
                return numbers

        drawn = sorted(number for numbers in race(work) for number in numbers)
    assert drawn == list(range(10))
