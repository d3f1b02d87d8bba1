"""What a run would do, said before it does it."""

from __future__ import annotations

from types import SimpleNamespace
from typing import Any

import pytest

import trimtab
from trimtab._plan_prices import flops_per_second
from trimtab.errors import InputError, TrimtabError
from trimtab.plan import Plan, make_plan
from trimtab_storage import Reader, Store
from trimtab_strategies.base import CostRange
from trimtab_strategies.cost import mean_flops
from trimtab_strategies.fisher import FisherStrategy
from trimtab_workers.errors import WorkerInputError

BUDGET, TIME = r"flops: 50%", r"time: 3 min"


def plan_of(workspace: Any, **edits: str) -> Plan:
    workspace.edit(edits)
    return make_plan(trimtab.Spec.load(workspace.spec), workspace.db)


def test_rows_without_labels_are_counted(workspace: Any) -> None:
    (workspace.spec.parent / "more.txt").write_text("one more\nand another\n")
    plan = plan_of(
        workspace, **{r"  metric: accuracy": "  metric: accuracy\n  unlabeled: more.txt"}
    )
    assert plan.rows["without labels"] == 2
    assert "2 without labels" in plan.facts()["rows"]


def test_a_new_study(workspace: Any) -> None:
    plan = plan_of(workspace)
    assert plan.study == "starter"
    assert plan.rows == {"to train on": 480, "to decide on": 120, "to certify": 120}
    assert plan.is_finetuned_first
    assert plan.budget_ratio == 0.5
    assert plan.ladder == (0.6, 0.5, 0.4, 0.3)
    assert (plan.trials_wanted, plan.warnings) == (2, ())
    assert (plan.reuse.has_baseline, plan.reuse.terminal_trials) == (False, 0)
    assert plan.seconds_per_trial > 0
    assert plan.finetune_seconds > 0
    facts = plan.facts()
    assert facts["baseline"].startswith("4.78 MFLOPs per sample at 22.9 tokens on average")
    assert facts["baseline"].endswith("fine-tuned first")
    assert facts["fine-tuning"] == f"about {plan.finetune_seconds:.0f} s (a rough estimate)"
    assert facts["fisher reaches"] == "0% to 100% of the baseline's FLOPs"
    assert facts["each recipe is made at"] == "60%, 50%, 40%, 30% of the baseline's FLOPs"
    assert facts["reused"] == "nothing yet"


def test_a_rule_that_ends_the_search_early_is_told(workspace: Any) -> None:
    assert "stops early" not in plan_of(workspace).facts()
    plan = plan_of(workspace, **{TIME: "time: 3 min\n  stop: {patience: 4}"})
    assert plan.facts()["stops early"] == plan.to_plain()["stop"]
    assert plan.stop == (
        "once the last 4 trials add less than 1% to the hypervolume; recommended recipes anyway"
    )


def test_it_writes_nothing(workspace: Any) -> None:
    before = sorted(workspace.folder.rglob("*"))
    plan_of(workspace)
    assert sorted(workspace.folder.rglob("*")) == before


def test_an_absolute_budget_is_a_share_of_the_baseline(workspace: Any) -> None:
    relative = plan_of(workspace)
    half = f"{relative.baseline_flops / 2e6:.6f}"
    plan = plan_of(workspace, **{BUDGET: f"flops: {half} MFLOPs"})
    assert plan.budget_ratio == pytest.approx(0.5, abs=1e-5)
    assert plan.warnings == ()


def test_a_budget_that_the_baseline_meets(workspace: Any) -> None:
    plan = plan_of(workspace, **{BUDGET: "flops: 1 GFLOPs"})
    assert plan.budget_ratio is not None and plan.budget_ratio > 100
    assert plan.warnings == (
        "the baseline meets this budget as it is (4.78 MFLOPs per sample): lower it to have "
        "anything compressed",
    )
    assert plan.ladder == (0.9, 0.8, 0.7, 0.6)


def test_the_whole_baseline_as_a_budget(workspace: Any) -> None:
    (warning,) = plan_of(workspace, **{BUDGET: "flops: 100%"}).warnings
    assert "the baseline meets this budget" in warning


def test_a_budget_below_what_can_be_reached(
    workspace: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Fisher reaches any cost; a strategy that only shortens inputs, say, would not."""
    monkeypatch.setattr(
        FisherStrategy,
        "reach",
        lambda self, *of: CostRange(0.628 * mean_flops(*of), mean_flops(*of)),
    )
    plan = plan_of(workspace, **{BUDGET: "flops: 25%"})
    assert plan.warnings == (
        "the budget is 25.0% of the baseline's FLOPs, but no recipe goes below 62.8%: "
        "the run would end with exit code 3",
    )


def test_a_budget_on_latency_says_what_will_be_timed(workspace: Any) -> None:
    plan = plan_of(workspace, **{BUDGET: "latency: {p95: 8 ms, threads: 2}"})
    facts = plan.facts()
    assert facts["latency"] == "p95 ≤ 8 ms at batch 1 on cpu, 2 threads; texts of the data"
    assert facts["timed first"] == "the baseline and parts of it, when `run` starts"
    assert facts["each recipe is made at"].endswith("once requests were timed")
    assert plan.to_plain()["latency"] == {
        "words": facts["latency"],
        "statistic": "p95",
        "limit": "8 ms",
        "batch_size": 1,
        "device": "cpu",
        "threads": 2,
        "lengths": None,
    }
    assert plan.budget_ratio is None and plan.warnings == ()


def test_budgets_on_both_costs_are_planned_together(workspace: Any) -> None:
    latency = "{throughput: 2x, batch_size: 8, lengths: [16, 32]}"
    plan = plan_of(workspace, **{BUDGET: f"flops: 100%\n  latency: {latency}"})
    assert plan.latency is not None and plan.latency["statistic"] == "mean"
    assert plan.facts()["latency"] == (
        "throughput ≥ 200% of the baseline's at batch 8 on cpu; texts of 16 to 32 tokens"
    )
    # The baseline may meet the one and not the other.
    assert plan.budget_ratio == 1.0 and plan.warnings == ()


def test_several_budgets_on_latency_are_all_told(workspace: Any) -> None:
    latency = "[{p50: 5 ms, p95: 50%}, {throughput: 2x, batch_size: 8}]"
    plan = plan_of(workspace, **{BUDGET: f"latency: {latency}"})
    assert plan.facts()["latency"] == (
        "p50 ≤ 5 ms and p95 ≤ 50% of the baseline's at batch 1 on cpu; texts of the data; and "
        "throughput ≥ 200% of the baseline's at batch 8 on cpu; texts of the data"
    )
    assert plan.latency is not None
    each = [plan.latency, *plan.latency["others"]]
    assert [(one["statistic"], one["limit"], one["batch_size"]) for one in each] == [
        ("p50", "5 ms", 1),
        ("p95", "50%", 1),
        ("mean", "200%", 8),
    ]


def test_without_a_budget_on_latency_nothing_is_timed(workspace: Any) -> None:
    plan = plan_of(workspace)
    assert plan.to_plain()["latency"] is None
    assert not {"latency", "timed first"} & set(plan.facts())


def test_an_odd_budget_gets_its_own_rung(workspace: Any) -> None:
    plan = plan_of(workspace, **{BUDGET: "flops: 37.5%"})
    assert plan.ladder == (0.5, 0.375, 0.3, 0.2)
    assert plan.facts()["each recipe is made at"].startswith("50%, 37.5%, 30%, 20% of")


def test_rows_that_are_cut_are_counted(workspace: Any) -> None:
    plan = plan_of(workspace, **{"max_length: 48": "max_length: 16"})
    (warning,) = plan.warnings
    assert warning.endswith("rows are longer than 16 tokens and would be cut there")
    n_cut, n_rows = (int(word) for word in warning.split()[:3:2])
    assert 0 < n_cut <= n_rows == 720


def test_a_limit_that_nobody_can_keep_to(workspace: Any) -> None:
    inline = "executor: inline"
    (warning,) = plan_of(workspace, **{inline: f"{inline}, trial_timeout: 5 min"}).warnings
    assert warning.startswith("`executor: inline` cannot end a trial: `trial_timeout` does nothing")
    assert plan_of(workspace, **{inline: "executor: ray"}).warnings == ()


def test_a_time_that_is_too_short(workspace: Any) -> None:
    plan = plan_of(workspace, **{TIME: "time: 1 s", "trials: 2": "trials: 5000"})
    left_s = max(0.0, 1 - plan.finetune_seconds)
    assert plan.trials_that_fit == int(left_s / plan.seconds_per_trial) < 5000
    assert plan.warnings == (
        f"only about {plan.trials_that_fit} of 5000 trials fit 1 s: "
        "give more time or workers, or fewer trials",
    )


@pytest.fixture
def known_speed(monkeypatch: pytest.MonkeyPatch) -> None:
    """A machine that does a hundred forward passes of any model's samples a second."""
    monkeypatch.setattr(
        "trimtab.plan.flops_per_second",
        lambda survey: 100 * mean_flops(survey.shape, survey.histogram),
    )


@pytest.mark.parametrize(
    ("strategy", "rows"),
    [
        ("fisher: {calibration: 256}", 256),
        ("fisher: {calibration: [256, 512], tuning: none}", 480),
        ("fisher", 480),
    ],
)
def test_a_trial_is_priced_by_the_rows_that_it_may_look_at(
    strategy: str, rows: int, workspace: Any, known_speed: None
) -> None:
    plan = plan_of(workspace, **{r"fisher: \{calibration: \[256\]\}": strategy})
    rungs = 0.6 + 0.5 + 0.4 + 0.3
    assert plan.seconds_per_trial == pytest.approx((rows * (4 + 2 * rungs) + 120 * rungs) / 100)


def test_fine_tuning_takes_its_share_of_the_time(workspace: Any, known_speed: None) -> None:
    plan = plan_of(workspace)
    assert plan.finetune_seconds == pytest.approx(3 * 10 * 480 / 100)
    assert plan.trials_that_fit == int((180 - plan.finetune_seconds) / plan.seconds_per_trial)
    plan = plan_of(workspace, **{"epochs: 10": "epochs: 20"})
    assert (plan.finetune_seconds, plan.trials_that_fit) == (pytest.approx(288), 0)


def test_one_slow_product_does_not_slow_the_estimate(monkeypatch: pytest.MonkeyPatch) -> None:
    """As on a machine that is busy with something else for most of the time."""
    # The start; then for each product: look whether to go on, begin, end.
    times = iter([0.0, *(0.0, 0.0, 0.25), *(0.25, 0.25, 0.251), 0.5])
    clock = SimpleNamespace(perf_counter=lambda: next(times))
    monkeypatch.setattr("trimtab._plan_prices.time", clock)
    survey: Any = SimpleNamespace(
        histogram=SimpleNamespace(mean=1.0), shape=SimpleNamespace(hidden_size=4, filters=(8,))
    )
    assert flops_per_second(survey) == pytest.approx(0.5 * 2 * 32 * 4 * 8 / 0.001)


def test_a_model_with_a_head_is_taken_as_it_is(workspace: Any, finished: Any) -> None:
    from transformers import BertConfig, BertForSequenceClassification

    folder = workspace.folder / "starter" / "tiny-bert"
    config = BertConfig.from_pretrained(folder, num_labels=3)
    config.id2label = dict(enumerate(("garden", "kitchen", "music")))
    config.label2id = {name: number for number, name in config.id2label.items()}
    BertForSequenceClassification(config).save_pretrained(folder)
    plan = plan_of(workspace)
    assert (plan.is_finetuned_first, plan.finetune_seconds) == (False, 0)
    assert "fine-tuning" not in plan.facts()
    assert plan.facts()["baseline"].endswith("as it is")


def test_a_finished_study_reuses_everything(finished: Any) -> None:
    plan = make_plan(trimtab.Spec.load(finished.spec), finished.db)
    study = trimtab.open_study("starter", db=finished.db)
    assert plan.reuse.has_baseline
    assert plan.reuse.terminal_trials == 2
    assert plan.facts()["reused"] == "the baseline, 2 trials"
    assert plan.finetune_seconds == 0
    # What it knows of the study's own trials it does not estimate.
    seconds = [trial.seconds for trial in study.trial_rows()]
    assert plan.seconds_per_trial == pytest.approx(sum(seconds) / 2)
    assert plan.baseline_flops == study.row().baseline["flops"]
    assert plan.warnings == ()


def test_time_and_trials_add_up_over_runs(finished_copy: Any) -> None:
    """Of a study's time, what earlier runs took is gone; of its trials, what they made is done."""
    with Store.open(finished_copy.db) as store:
        study = store.study("starter")
        lease = store.acquire(study.id, "test", 60)
        store.update_study(lease, elapsed_s=179.99)
    plan = plan_of(finished_copy)
    assert plan.trials_that_fit == 0
    assert plan.warnings == ()
    plan = plan_of(finished_copy, **{"trials: 2": "trials: 9"})
    assert plan.warnings[0].startswith("only about 2 of 9 trials fit 3 min")


def test_another_study_shares_the_baseline(finished_copy: Any) -> None:
    plan = plan_of(finished_copy, **{"name: starter": "name: second"})
    assert plan.reuse.has_baseline
    assert plan.reuse.terminal_trials == 0
    assert plan.facts()["reused"] == "the baseline"
    points = sum(point.recipe != [] for point in _points(finished_copy))
    assert plan.facts()["would take over"] == plan.reuse.taken_over
    assert plan.reuse.taken_over == f"1 recipe and {points} measured points of study 'starter'"


def _points(workspace: Any) -> Any:
    with Reader.open_reader(workspace.db) as reader:
        study = reader.study("starter")
        assert study is not None
        return reader.points(study.id)


def test_another_study_with_other_data_would_only_try_recipes(finished_copy: Any) -> None:
    plan = plan_of(finished_copy, **{"name: starter": "name: second", "seed: 0": "seed: 1"})
    assert not plan.reuse.has_baseline
    assert plan.reuse.taken_over == "1 recipe to try, of study 'starter' on other data"


def test_a_finished_study_would_take_nothing_over(finished_copy: Any) -> None:
    plan_of(finished_copy, **{"name: starter": "name: second"})
    plan = plan_of(finished_copy, **{"name: second": "name: starter"})
    assert "would take over" not in plan.facts()


def test_what_is_left_out_is_said(workspace: Any) -> None:
    """The starter has two layers: of one alone at least half is left."""
    edits = {r"fisher: \{calibration: \[256\]\}": "fisher\n    - early_exit", BUDGET: "flops: 40%"}
    plan = plan_of(workspace, **edits)
    assert plan.left_out is not None
    assert plan.left_out.startswith("early_exit alone cannot go below 5")
    assert plan.facts()["left out"] == plan.left_out and plan.warnings == ()


def test_dropped_weights_are_not_reused(finished_copy: Any) -> None:
    with Store.open(finished_copy.db) as store:
        baseline = store.study("starter").baseline
        store.forget_file(baseline["artifact"])
    assert not plan_of(finished_copy).reuse.has_baseline


def test_it_reads_a_database_that_is_in_use(finished: Any) -> None:
    with Reader.open_reader(finished.db):
        assert make_plan(trimtab.Spec.load(finished.spec), finished.db).reuse.has_baseline


def test_what_a_run_would_refuse_is_refused(workspace: Any) -> None:
    file = workspace.folder / "starter" / "dev.tsv"
    file.write_text("".join(file.read_text().splitlines(keepends=True)[:40]))
    with pytest.raises((TrimtabError, WorkerInputError), match="50"):
        plan_of(workspace)


def test_a_database_that_cannot_be_read_is_said(workspace: Any) -> None:
    (workspace.folder / "trimtab.db").write_text("no database " * 100)
    with pytest.raises(InputError, match="must be a SQLite database"):
        plan_of(workspace)


def test_as_json_able_values(workspace: Any) -> None:
    import json

    plain = plan_of(workspace).to_plain()
    assert json.loads(json.dumps(plain)) == {
        **plain,
        "ladder": [0.6, 0.5, 0.4, 0.3],
        "warnings": [],
    }
    assert plain["reach"]["fisher"]["high_ratio"] == 1
