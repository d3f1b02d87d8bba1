import pytest
import torch

from trimtab_workers import training
from trimtab_workers.data import load_task_data
from trimtab_workers.errors import ModelError, WorkerInputError
from trimtab_workers.evaluation import evaluate
from trimtab_workers.sources import load_stock_model
from trimtab_workers.task import Finetune
from trimtab_workers.training import finetune

CPU = torch.device("cpu")


def train(model, data, settings, seed=0, **options):
    return finetune(
        model,
        data.train,
        settings,
        metric="accuracy",
        pad_token_id=data.pad_token_id,
        seed=seed,
        device=CPU,
        **options,
    )


@pytest.mark.parametrize("name", ["bert", "roberta", "distilbert", "electra"])
def test_a_toy_task_is_learnt(toy_task, saved_models, rows_of, name):
    data = load_task_data(toy_task(train=rows_of(400, 1)), saved_models[name])
    model = load_stock_model(saved_models[name], num_labels=2)
    options = {"metric": "accuracy", "pad_token_id": data.pad_token_id, "device": CPU}
    before = evaluate(model, data.search, **options).metric
    report = train(model, data, Finetune(epochs=5, lr=3e-3, batch_size=16))
    after = evaluate(model, data.search, **options).metric
    assert before < 0.75
    assert after > 0.9
    assert len(report.held_out) == 5
    assert report.n_held_out == 40
    assert report.seconds > 0
    assert not model.training


def test_same_seed_gives_the_same_weights(toy_task, saved_models):
    data = load_task_data(toy_task(), saved_models["bert"])

    def weights(seed):
        model = load_stock_model(saved_models["bert"], num_labels=2)
        torch.rand(seed + 1)  # whatever else has drawn numbers must not matter
        train(model, data, Finetune(epochs=2, lr=1e-3), seed=seed)
        return torch.cat([tensor.flatten() for tensor in model.state_dict().values()])

    assert torch.equal(weights(3), weights(3))
    assert not torch.equal(weights(3), weights(4))


def test_training_leaves_the_random_state_alone(toy_task, saved_models):
    data = load_task_data(toy_task(), saved_models["bert"])
    model = load_stock_model(saved_models["bert"], num_labels=2)
    torch.manual_seed(5)
    expected = torch.rand(3)
    torch.manual_seed(5)
    train(model, data, Finetune(epochs=1))
    assert torch.equal(torch.rand(3), expected)


@pytest.mark.parametrize(
    ("scores", "best"), [((0.6, 0.9, 0.7), 2), ((0.9, 0.9, 0.7), 2), ((0.9, 0.5, 0.7), 1)]
)
def test_weights_of_the_best_epoch_are_restored(toy_task, saved_models, monkeypatch, scores, best):
    data = load_task_data(toy_task(), saved_models["bert"])
    model = load_stock_model(saved_models["bert"], num_labels=2)
    seen = []

    def scripted(model, rows, **options):
        seen.append({key: value.clone() for key, value in model.state_dict().items()})
        return training_evaluation(scores[len(seen) - 1])

    def training_evaluation(metric):
        from trimtab_workers.evaluation import Evaluation

        return Evaluation(metric, 1, None)

    monkeypatch.setattr(training, "evaluate", scripted)
    report = train(model, data, Finetune(epochs=3, lr=1e-3))
    assert report.held_out == scores
    assert report.best_epoch == best
    for key, value in model.state_dict().items():
        assert torch.equal(value, seen[best - 1][key])
    assert any(not torch.equal(seen[0][key], seen[1][key]) for key in seen[0])


def test_held_out_rows_are_not_trained_on(toy_task, saved_models, monkeypatch):
    data = load_task_data(toy_task(), saved_models["bert"])
    model = load_stock_model(saved_models["bert"], num_labels=2)
    trained, held_out = [], []
    collate = training.collate

    def spy(rows, batch, *rest):
        trained.extend(tuple(rows.select([row]).tokens) for row in batch)
        return collate(rows, batch, *rest)

    def spy_on_evaluation(model, rows, **options):
        held_out.extend(tuple(rows.select([row]).tokens) for row in range(len(rows)))
        return evaluate(model, rows, **options)

    monkeypatch.setattr(training, "collate", spy)
    monkeypatch.setattr(training, "evaluate", spy_on_evaluation)
    train(model, data, Finetune(epochs=1))
    everything = [tuple(data.train.select([row]).tokens) for row in range(len(data.train))]
    assert sorted(trained + held_out) == sorted(everything)
    assert len(held_out) == 16


def test_progress_counts_steps(toy_task, saved_models):
    data = load_task_data(toy_task(), saved_models["bert"])
    model = load_stock_model(saved_models["bert"], num_labels=2)
    told = []
    train(model, data, Finetune(epochs=2), progress=lambda *state: told.append(state))
    # 144 rows are left to train on: 5 steps an epoch
    assert told == [("fine-tuning", step, 10) for step in range(1, 11)]


def test_divergence_says_to_lower_the_rate(toy_task, saved_models):
    data = load_task_data(toy_task(), saved_models["bert"])
    model = load_stock_model(saved_models["bert"], num_labels=2)
    with pytest.raises(
        ModelError, match=r"diverged at step \d+ of 50 .* lower lr, which is 1e\+38"
    ):
        train(model, data, Finetune(epochs=10, lr=1e38))


@pytest.mark.parametrize(
    "settings",
    [Finetune(epochs=0), Finetune(lr=0.0), Finetune(lr=float("nan")), Finetune(batch_size=0)],
)
def test_settings_out_of_range_are_refused(toy_task, saved_models, settings):
    data = load_task_data(toy_task(), saved_models["bert"])
    with pytest.raises(
        WorkerInputError, match="needs epochs >= 1, batch_size >= 1 and a finite lr"
    ):
        train(None, data, settings)


def test_vectors_do_not_decay(saved_models):
    model = load_stock_model(saved_models["bert"], num_labels=2)
    decayed, spared = training._groups(model)
    assert (decayed["weight_decay"], spared["weight_decay"]) == (0.01, 0.0)
    spared_ids = {id(tensor) for tensor in spared["params"]}
    for name, tensor in model.named_parameters():
        assert (id(tensor) in spared_ids) == (name.endswith("bias") or "LayerNorm" in name), name


def test_rate_warms_up_and_decays_to_nothing():
    shares = [training._share_of_lr(step, 20) for step in range(21)]
    assert shares[:3] == [0.5, 1.0, 1.0]
    assert shares[3:] == sorted(shares[3:], reverse=True)
    assert shares[11] == pytest.approx(0.5)
    assert shares[20] == 0.0
    assert training._share_of_lr(0, 1) == 1.0
