"""What every strategy must do, whoever wrote it: one class, run over all that are registered."""

import copy
import json
import subprocess
import sys

import pytest
import torch
from safetensors.torch import load_file, save_file

from trimtab_strategies import registry
from trimtab_strategies.base import (
    PRICES,
    Choice,
    Strategy,
    Variant,
    active_choices,
    default_choices,
    is_timed,
)
from trimtab_strategies.cost import EncoderShape, LengthHistogram, mean_flops
from trimtab_strategies.elastic import TrimtabForSequenceClassification
from trimtab_strategies.recipe import Step, from_plain, to_plain
from trimtab_strategies.slicing import shape_of

LADDER = (0.8, 0.5, 0.2)
REACH = """
import json, sys
from trimtab_strategies import registry
from trimtab_strategies.cost import EncoderShape, LengthHistogram, mean_flops

found = {}
for name in registry.names():
    strategy = registry.get(name)
    assert strategy.summary and strategy.choices is not None
    for shape in (EncoderShape.dense(32, 2, 4, 48), EncoderShape.dense(768, 12, 12, 3072)):
        for lengths in ({8: 10}, {1: 1, 17: 3, 128: 2}):
            histogram = LengthHistogram(lengths)
            span = strategy.reach(shape, histogram)
            dense = mean_flops(shape, histogram)
            found.setdefault(name, []).append([span.low_flops / dense, span.high_flops / dense])
print(json.dumps([found, "torch" in sys.modules]))
"""


def weights_of(model):
    return {name: tensor.clone() for name, tensor in model.state_dict().items()}


def same_weights(one, other):
    return one.keys() == other.keys() and all(torch.equal(one[k], other[k]) for k in one)


def logits_of(model, batch):
    with torch.inference_mode():
        return model(batch["input_ids"], batch["attention_mask"]).logits


def other_choices(strategy):
    """For every choice one recipe in which it is not at its default, and exists."""
    defaults = {choice.name: choice.default for choice in strategy.choices}
    for choice in strategy.choices:
        value = _another(choice)
        if value is not None:
            chosen = {**defaults, **dict(choice.requires), choice.name: value}
            yield with_prices(strategy, active_choices(strategy, chosen))


def with_prices(strategy, choices):
    """Adds what units cost, made up, to choices that count in time."""
    prices = "0.05/0.02/1 0.05/0.001/1 0.01/0.001/1 0.001/0/1 16"
    return {**choices, PRICES: prices} if is_timed(strategy, choices) else choices


def _another(choice):
    if choice.values is None:
        return choice.low if choice.default != choice.low else choice.high
    return next((value for value in choice.values if value != choice.default), None)


@pytest.fixture(scope="module", autouse=True)
def one_thread():
    """In models this small, several threads mostly wait for each other."""
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(before)


@pytest.fixture(scope="module")
def reaches():
    done = subprocess.run([sys.executable, "-c", REACH], capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    return json.loads(done.stdout)


@pytest.mark.parametrize("name", registry.names())
class TestStrategy:
    @pytest.fixture
    def strategy(self, name):
        return registry.get(name)

    @pytest.fixture
    def statistics(self, strategy, model, calibration):
        return strategy.prepare(model, calibration, default_choices(strategy), lambda *a: None)

    @pytest.fixture
    def variants(self, strategy, model, calibration, statistics):
        return self.applied(strategy, model, calibration, default_choices(strategy), statistics)

    @staticmethod
    def applied(strategy, model, calibration, choices, statistics, ladder=LADDER):
        return list(
            strategy.apply(model, calibration, choices, statistics, ladder, lambda *a: None)
        )

    # What it says of itself

    def test_it_is_declared(self, strategy, name):
        assert isinstance(strategy, Strategy) and strategy.name == name == name.lower()
        assert name.isidentifier()
        assert isinstance(strategy.version, int) and strategy.version >= 1
        assert strategy.summary and "\n" not in strategy.summary
        assert strategy.summary[0].islower() and not strategy.summary.endswith(".")

    def test_choices_are_declared(self, strategy):
        names = [choice.name for choice in strategy.choices]
        assert len(set(names)) == len(names)
        for choice in strategy.choices:
            assert isinstance(choice, Choice)
            assert choice.name.isidentifier() and choice.name == choice.name.lower()
            assert choice.name != "constraint", "this word names the rung of a ladder"
            assert choice.admits(choice.default)
            assert choice.help and "\n" not in choice.help and not choice.help.endswith(".")
            assert choice.values is None or len(set(choice.values)) == len(choice.values) >= 2
            assert not choice.log or choice.low > 0
            assert not choice.counts_rows or all(type(v) is int and v > 0 for v in choice.values)

    def test_choices_depend_on_earlier_ones_alone(self, strategy):
        earlier = {}
        for choice in strategy.choices:
            for other, value in choice.requires:
                assert earlier[other].admits(value)
            earlier[choice.name] = choice

    def test_statistics_depend_on_choices_that_always_exist(self, strategy):
        declared = {choice.name: choice for choice in strategy.choices}
        for name in strategy.statistics_choices:
            assert not declared[name].requires

    def test_recommended_choices_survive_a_table(self, strategy, name):
        recipe = (Step.of(name, default_choices(strategy)),)
        back = from_plain(json.loads(json.dumps(to_plain(recipe))))
        assert back == recipe
        declared = {choice.name: choice for choice in strategy.choices}
        assert all(declared[key].admits(value) for key, value in back[0].choices)

    def test_anchors_are_values_beside_the_default(self, strategy):
        for choice in strategy.choices:
            assert all(choice.admits(value) for value in choice.anchors)
            assert choice.default not in choice.anchors

    def test_reach_is_within_the_dense_cost_and_needs_no_torch(self, name, reaches):
        found, torch_is_loaded = reaches
        assert not torch_is_loaded
        for low, high in found[name]:
            assert 0 <= low <= high <= 1 + 1e-12
            assert low < 1, "a strategy makes a model cheaper"

    def test_reach_grows_with_the_work(self, strategy):
        shape = EncoderShape.dense(32, 2, 4, 48)
        short, long = (strategy.reach(shape, LengthHistogram({n: 5})) for n in (4, 40))
        assert short.low_flops <= long.low_flops and short.high_flops < long.high_flops

    def test_bounding_choices_raise_the_least_cost_and_none_lowers_it(self, strategy):
        shape, histogram = EncoderShape.dense(32, 6, 4, 48), LengthHistogram({9: 5})
        span, by_name = strategy.reach(shape, histogram), {c.name: c for c in strategy.choices}
        assert strategy.least_flops(shape, histogram, {}) == span.low_flops
        for name in strategy.bounding_choices:
            values = by_name[name].values
            least = [strategy.least_flops(shape, histogram, {name: value}) for value in values]
            assert min(least) == span.low_flops and max(least) <= span.high_flops
            assert not (by_name[name].requires or by_name[name].unless), "it exists in every recipe"

    # What it measures first

    def test_preparing_leaves_the_model_unchanged(self, strategy, model, calibration):
        before, training = weights_of(model), model.training
        strategy.prepare(model, calibration, default_choices(strategy), lambda *a: None)
        assert same_weights(weights_of(model), before) and model.training == training
        assert all(p.requires_grad and p.grad is None for p in model.parameters())

    def test_statistics_survive_a_file(self, strategy, statistics, tmp_path):
        if not strategy.statistics_choices:
            assert statistics is None
            return
        assert statistics and all(isinstance(t, torch.Tensor) for t in statistics.values())
        plain = {name: tensor.contiguous() for name, tensor in statistics.items()}
        save_file(plain, tmp_path / "statistics.safetensors")
        assert same_weights(load_file(tmp_path / "statistics.safetensors"), plain)

    def test_statistics_depend_on_the_declared_choices_alone(
        self, strategy, model, calibration, statistics
    ):
        if not strategy.statistics_choices:
            return
        for choices in other_choices(strategy):
            changed = {k for k, v in choices.items() if v != default_choices(strategy).get(k)}
            if changed.isdisjoint(strategy.statistics_choices):
                again = strategy.prepare(model, calibration, choices, lambda *a: None)
                assert same_weights(dict(again), dict(statistics)), f"depend on {changed}"

    # What it makes

    def test_one_variant_for_each_cost_and_never_over_it(
        self, strategy, model, calibration, variants
    ):
        dense = mean_flops(shape_of(model.config), calibration.histogram)
        costs = [mean_flops(shape_of(v.model.config), calibration.histogram) for v in variants]
        assert all(cost <= dense for cost in costs)
        if len(variants) == 1:
            return
        assert len(variants) == len(LADDER)
        for rung, cost in zip(LADDER, costs, strict=True):
            assert cost <= rung * dense
        low = strategy.reach(shape_of(model.config), calibration.histogram).low_flops
        assert all(cost >= low for cost in costs)

    def test_ladders_have_any_length_and_reach_the_ends(
        self, strategy, model, calibration, statistics
    ):
        choices = default_choices(strategy)
        for ladder in ((1.0,), (0.0,), (0.37,), (0.9, 0.6, 0.3, 0.1)):
            made = self.applied(strategy, model, calibration, choices, statistics, ladder)
            assert len(made) in (1, len(ladder))

    def test_rungs_do_not_depend_on_their_neighbours(
        self, strategy, model, calibration, statistics, variants, batch
    ):
        """A rung that was measured in one ladder is reused in another."""
        if len(variants) == 1:
            return
        choices = default_choices(strategy)
        (alone,) = self.applied(strategy, model, calibration, choices, statistics, LADDER[1:2])
        assert shape_of(alone.model.config) == shape_of(variants[1].model.config)
        torch.testing.assert_close(
            logits_of(alone.model, batch), logits_of(variants[1].model, batch)
        )

    def test_applying_leaves_the_model_unchanged(
        self, strategy, model, calibration, statistics, variants
    ):
        config = model.config.to_dict()
        before = weights_of(model)
        kept = copy.deepcopy(dict(statistics)) if statistics else statistics
        for choices in [default_choices(strategy), *other_choices(strategy)]:
            made = self.applied(strategy, model, calibration, choices, None)
            for variant in made:
                with torch.no_grad():
                    for weight in variant.model.parameters():
                        weight.add_(1.0)
        assert same_weights(weights_of(model), before), "variants share no memory with the parent"
        assert model.config.to_dict() == config
        assert all(p.grad is None for p in model.parameters())
        assert statistics is None or same_weights(dict(statistics), kept)

    def test_equal_inputs_give_equal_models(
        self, strategy, model, calibration, statistics, variants
    ):
        torch.manual_seed(random_state := 12345)
        again = self.applied(strategy, model, calibration, default_choices(strategy), statistics)
        torch.manual_seed(random_state + 1)
        third = self.applied(strategy, model, calibration, default_choices(strategy), statistics)
        for one, other, last in zip(variants, again, third, strict=True):
            assert dict(one.choices) == dict(other.choices) == dict(last.choices)
            assert same_weights(weights_of(one.model), weights_of(other.model))
            assert same_weights(weights_of(one.model), weights_of(last.model))

    def test_statistics_are_a_short_cut_only(self, strategy, model, calibration, variants, batch):
        without = self.applied(strategy, model, calibration, default_choices(strategy), None)
        for one, other in zip(variants, without, strict=True):
            assert shape_of(one.model.config) == shape_of(other.model.config)
            torch.testing.assert_close(logits_of(one.model, batch), logits_of(other.model, batch))

    def test_choices_of_a_variant_make_it_again(
        self, strategy, model, calibration, statistics, variants, batch
    ):
        for variant in variants:
            assert isinstance(variant, Variant)
            choices = json.loads(json.dumps(dict(variant.choices)))
            rung = choices.pop("constraint", 1.0)
            assert choices == default_choices(strategy)
            (again,) = self.applied(strategy, model, calibration, choices, statistics, [rung])
            assert dict(again.choices) == dict(variant.choices)
            assert shape_of(again.model.config) == shape_of(variant.model.config)
            torch.testing.assert_close(
                logits_of(again.model, batch), logits_of(variant.model, batch)
            )

    def test_every_choice_can_be_taken(self, strategy, model, calibration, batch):
        for choices in other_choices(strategy):
            for variant in self.applied(strategy, model, calibration, choices, None):
                assert torch.isfinite(logits_of(variant.model, batch)).all(), choices
                assert json.loads(json.dumps(dict(variant.notes))) == dict(variant.notes)

    def test_variants_survive_a_folder(self, variants, batch, tmp_path):
        for index, variant in enumerate(variants):
            assert not variant.model.training
            variant.model.save_pretrained(tmp_path / f"{index}")
            back, info = TrimtabForSequenceClassification.from_pretrained(
                tmp_path / f"{index}", output_loading_info=True
            )
            assert not any(info.values())
            assert torch.equal(logits_of(back.eval(), batch), logits_of(variant.model, batch))
            assert back.num_parameters() == variant.model.num_parameters()

    def test_progress_is_told(self, strategy, model, calibration):
        told = []
        choices = default_choices(strategy)
        statistics = strategy.prepare(model, calibration, choices, lambda *a: told.append(a))
        list(
            strategy.apply(
                model, calibration, choices, statistics, LADDER, lambda *a: told.append(a)
            )
        )
        assert told, "somebody is waiting"
        for stage, done, total in told:
            assert stage and isinstance(stage, str) and 0 <= done <= total
