"""Mutated configurations: what could run, fetch or ask for the impossible is refused or left out.

No mutant may reach the network, and what loads all the same must be the model that it was.
"""

from __future__ import annotations

import contextlib
import json
import random
import shutil
import socket
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from trimtab_strategies.elastic import TrimtabForSequenceClassification
from trimtab_strategies.families import to_elastic
from trimtab_workers._bounds import check_own
from trimtab_workers._config import OWN_SIZES
from trimtab_workers._encoding import encode
from trimtab_workers.errors import ModelError
from trimtab_workers.jobs import load_elastic
from trimtab_workers.jobs._place import save_elastic
from trimtab_workers.labelled import load_own_tokenizer
from trimtab_workers.sources import check_model_folder, load_stock_model, load_tokenizer

NAN, HUGE = float("nan"), 10**400
REPOSITORY, URL = "someone/kernel", "https://127.0.0.1:9/x"
CODE = {"AutoConfig": "configuration_x.C", "AutoModelForSequenceClassification": "modeling_x.M"}
KERNEL = "must be one of eager, sdpa or absent"
WHOLE = "must be a whole number"
PLAIN = "must be a plain name"

Mutant = tuple[dict[str, Any], str]

UNSAFE: list[Mutant] = [
    ({"auto_map": CODE}, "auto_map must be absent, as it names code to run"),
    ({"auto_map": {"AutoModel": f"{REPOSITORY}--m.M"}}, "auto_map must be absent"),
    ({"a": [{"b": {"auto_map": CODE}}]}, "auto_map must be absent"),
    ({"_attn_implementation": REPOSITORY}, f"{KERNEL}, got 'someone/kernel'"),
    ({"_attn_implementation": f"{REPOSITORY}:forward"}, KERNEL),
    ({"attn_implementation": "flash_attention_2"}, f"{KERNEL}, got 'flash_attention_2'; kernels"),
    ({"attn_implementation": URL}, KERNEL),
    ({"attn_implementation": [REPOSITORY]}, KERNEL),
    ({"_attn_implementation": {"": REPOSITORY}}, KERNEL),
    ({"_attn_implementation": {"": {"x": REPOSITORY}}}, KERNEL),
    ({"_attn_implementation_internal": REPOSITORY}, "_attn_implementation_internal must be one of"),
    ({"_experts_implementation": f"{REPOSITORY}:c"}, "_experts_implementation must be one of"),
    ({"experts_implementation": "grouped_mm"}, KERNEL),
    ({"text_config": {"_attn_implementation": REPOSITORY}}, "got 'someone/kernel'"),
    ({"x": [[{"_attn_implementation_internal": "paged|x"}]]}, KERNEL),
    ({"quantization_config": {"quant_method": "unheard-of"}}, "quantization_config must be"),
    ({"quantization_config": {"quant_method": "bitsandbytes"}}, "quantization_config must be"),
    ({"quantization_config": REPOSITORY}, "quantization_config must be"),
    ({"architectures": [f"{REPOSITORY}.Model"]}, "architectures must be a plain name"),
]
"""These hold for stock configurations and for those of ours, but for `auto_map`."""

STOCK: list[Mutant] = [
    *UNSAFE,
    ({"hidden_act": REPOSITORY}, "hidden_act must be one of gelu, .*, got 'someone/kernel'"),
    ({"hidden_act": URL}, "hidden_act must be one of gelu"),
    ({"hidden_act": {"name": "gelu"}}, "hidden_act must be one of gelu"),
    ({"hidden_act": "xielu"}, "hidden_act must be one of gelu"),  # it has weights of its own
    ({"architectures": "BertModel"}, "architectures must be a list of plain names"),
    ({"architectures": [{"a": 1}]}, PLAIN),
    ({"is_decoder": True}, "is_decoder must be false or absent; only encoders"),
    ({"add_cross_attention": True}, "only encoders are built"),
    ({"position_embedding_type": "relative_key"}, 'must be "absolute" or absent'),
    ({"problem_type": "regression"}, "problem_type must be"),
    ({"model_type": "gpt2"}, r"families that are built \(.*\), got 'gpt2'"),
    ({"model_type": REPOSITORY}, "families that are built"),
    ({"model_type": ["bert"]}, "families that are built|must be one of"),
    ({"model_type": None}, "got None"),
    ({"hidden_size": "32"}, f"hidden_size {WHOLE} from 1 on, got '32'"),
    ({"hidden_size": 32.0}, f"hidden_size {WHOLE}"),
    ({"hidden_size": True}, f"hidden_size {WHOLE}"),
    ({"hidden_size": 10**9}, f"hidden_size {WHOLE}"),
    ({"hidden_size": HUGE}, f"hidden_size {WHOLE}"),
    ({"hidden_size": 65_536, "num_attention_heads": 4}, "the sizes must be those of the weights"),
    ({"num_attention_heads": 5}, "hidden_size must be a multiple of num_attention_heads"),
    ({"num_attention_heads": 0}, f"num_attention_heads {WHOLE}"),
    ({"num_hidden_layers": 0}, f"num_hidden_layers {WHOLE} from 1 on, got 0"),
    ({"num_hidden_layers": 10**6}, f"num_hidden_layers {WHOLE}"),
    ({"num_hidden_layers": 1000}, "the sizes must be those of the weights"),
    ({"num_hidden_layers": [2]}, f"num_hidden_layers {WHOLE}"),
    ({"vocab_size": -1}, f"vocab_size {WHOLE}"),
    ({"vocab_size": None}, f"vocab_size {WHOLE}"),
    ({"vocab_size": 10_000_000}, "the word embeddings alone would have 320,000,000 numbers"),
    ({"max_position_embeddings": 10**6}, "the position embeddings alone"),
    ({"intermediate_size": 10**12}, f"intermediate_size {WHOLE}"),
    ({"intermediate_size": 999_999}, "the feed-forward filters alone"),
    ({"type_vocab_size": -2}, f"type_vocab_size {WHOLE}"),
    ({"type_vocab_size": 10**9}, f"type_vocab_size {WHOLE}"),
    ({"pad_token_id": -1}, f"pad_token_id {WHOLE} from 0 on, got -1"),
    ({"pad_token_id": 40}, "pad_token_id must be less than vocab_size, got 40 and 40"),
    ({"bos_token_id": "<s>"}, f"bos_token_id {WHOLE}"),
    ({"num_labels": 10**9, "id2label": None}, f"num_labels {WHOLE}"),
    ({"layer_norm_eps": NAN}, "a number must be finite, got NaN"),
    ({"layer_norm_eps": -1e-12}, "layer_norm_eps must be a number from 0 to 1"),
    ({"layer_norm_eps": "1e-12"}, "layer_norm_eps must be a number"),
    ({"layer_norm_eps": True}, "layer_norm_eps must be a number"),
    ({"hidden_dropout_prob": 1.5}, "hidden_dropout_prob must be a number from 0 to 1"),
    ({"hidden_dropout_prob": float("inf")}, "a number must be finite, got Infinity"),
    ({"classifier_dropout": [0.1]}, "classifier_dropout must be a number"),
    ({"initializer_range": HUGE}, "initializer_range must be a number"),
    ({"nested": {"deep": [NAN]}}, "a number must be finite"),
    ({"tie_word_embeddings": "yes"}, "tie_word_embeddings must be true or false"),
    ({"id2label": {"0": "a", "2": "b"}}, "id2label must give the ids from 0 on"),
    ({"id2label": {"0": "a", "1": "a"}}, "all different"),
    ({"id2label": ["a"]}, "id2label must give the ids"),
    ({"id2label": {"zero": "a"}}, "id2label must give the ids"),
    ({"id2label": "someone/labels"}, "id2label must give the ids"),
]

HARMLESS: list[dict[str, Any]] = [
    {"_attn_implementation": "eager"},
    {"_attn_implementation": None, "_attn_implementation_autoset": True},
    {"_name_or_path": REPOSITORY, "someday": {"new": URL}},
    {"position_embedding_type": "absolute", "problem_type": None, "quantization_config": None},
    {"text_config": {"quantization_config": {"quant_method": "x"}}, "transformers_weights": URL},
    {"torch_dtype": "float16", "dtype": REPOSITORY, "use_cache": REPOSITORY},
    {"custom_pipelines": {"x": {"impl": "x.P"}}, "adapter": REPOSITORY, "peft_config": {"a": URL}},
    {"layer_norm_eps": 1e-3, "hidden_dropout_prob": 1, "initializer_range": 1e-3},
]

OWN: list[Mutant] = [
    *[mutant for mutant in UNSAFE if "auto_map" not in json.dumps(mutant[0])],
    ({"model_type": "bert"}, "model_type must be 'trimtab'"),
    ({"hidden_act": URL}, "hidden_act must be one of gelu"),
    ({"family": REPOSITORY}, PLAIN),
    ({"head_activation": 3}, "head_activation must be one of gelu"),
    ({"vocab_size": -1}, WHOLE),
    ({"vocab_size": 10_000_000}, "the word embeddings alone"),
    ({"hidden_size": 10**9}, WHOLE),
    ({"hidden_size": 32.0}, WHOLE),
    ({"head_dim": "eight"}, WHOLE),
    ({"head_dim": 0}, WHOLE),
    ({"heads_per_layer": 4}, "a list of 1 to 1024"),
    ({"heads_per_layer": []}, "a list of 1 to 1024"),
    ({"heads_per_layer": [4, True]}, WHOLE),
    ({"heads_per_layer": [4, -1]}, WHOLE),
    ({"heads_per_layer": [4]}, "an entry for each layer"),
    ({"heads_per_layer": None}, "must have heads_per_layer"),
    ({"heads_per_layer": [4] * 2000, "filters_per_layer": [9] * 2000}, "a list of 1 to 1024"),
    ({"filters_per_layer": [64, 10**12]}, WHOLE),
    ({"filters_per_layer": [64, 999_999]}, "the feed-forward filters alone"),
    ({"filters_per_layer": [64, NAN]}, "a number must be finite"),
    ({"max_position_embeddings": 999_999}, "the position embeddings alone"),
    ({"pad_token_id": 40}, "less than vocab_size"),
    ({"layer_norm_eps": float("inf")}, "a number must be finite"),
    ({"classifier_dropout": "0.1"}, "must be a number"),
    ({"positions_skip_padding": 1}, "must be true or false"),
    ({"id2label": {"0": "a", "7": "b"}}, "id2label must be the ids from 0 on"),
    ({"id2label": {"0": {"a": 1}}}, "id2label must be the ids"),
    ({"operating_points": {"a": 1}}, "a list of operating points"),
    ({"operating_points": [3]}, r"operating_points\[0\] must be a mapping"),
    ({"operating_points": [{"drop": 0.1, "metric": 0.9}]}, r"flops_ratio must be a number"),
    ({"operating_points": [{"flops_ratio": True, "drop": 0, "metric": 0}]}, "must be a number"),
    ({"operating_points": [{"flops_ratio": 0.4, "drop": NAN, "metric": 0}]}, "must be finite"),
    (
        {"operating_points": [{"flops_ratio": 0.4, "drop": 0, "metric": 0, "latency_ms": "fast"}]},
        r"latency_ms must be a number",
    ),
    ({"operating_points": [{"flops_ratio": 0.4, "dorp": 0.1, "metric": 0}]}, r"drop must be a num"),
]

THRESHOLD = {"kind": "threshold", "normaliser": "fixed", "reference_length": 128}
SHARE = {"kind": "share", "shares": [1, 0.5]}
EXITS = {"layers": [0], "kind": "mlp", "read": "both", "width": 6}
REAL_0_1 = "must be a number from 0 to 1"
BEFORE_THE_LAST = "exits.layers must be a list of at least one of the 1 layers before the last"
KNOWN_KNOBS = "no keys but delta_scale, alpha_sc, tau, patience, agreements, exits"


def threshold(**changes: Any) -> dict[str, Any]:
    return {"token_rule": {**THRESHOLD, **changes}}


def shares(*given: Any) -> dict[str, Any]:
    return {"token_rule": {"kind": "share", "shares": list(given)}}


def exits(**changes: Any) -> dict[str, Any]:
    return {"exits": {**EXITS, **changes}}


RULES: list[Mutant] = [
    ({"token_rule": "threshold"}, "token_rule must be a mapping, got 'threshold'"),
    ({"token_rule": [THRESHOLD]}, "token_rule must be a mapping"),
    ({"token_rule": False}, "token_rule must be a mapping, got False"),
    ({"token_rule": {}}, "token_rule.kind must be one of threshold, share, got None"),
    ({"token_rule": {"kind": ["share"]}}, "token_rule.kind must be one of threshold, share"),
    ({"token_rule": {"kind": REPOSITORY}}, "token_rule.kind must be one of"),
    ({"token_rule": {"kind": "threshold"}}, "must have normaliser, reference_length"),
    ({"token_rule": {"kind": "share"}}, "token_rule must have shares"),
    (threshold(shares=[1, 1]), r"token_rule must be a mapping with no keys but .*\['shares'\]"),
    (threshold(**{"x\ny": 1}), "token_rule must be a mapping with no keys but kind, normaliser"),
    (threshold(**{f"x{i}": i for i in range(9999)}), "with no keys but kind, normaliser"),
    (threshold(normaliser="mean"), "token_rule.normaliser must be one of fixed, live, got 'mean'"),
    (threshold(normaliser=None), "token_rule.normaliser must be one of"),
    (threshold(reference_length=0), f"token_rule.reference_length {WHOLE} from 1 on"),
    (threshold(reference_length=1_000_001), f"reference_length {WHOLE} from 1 on, at most 1,000"),
    (threshold(reference_length=128.0), f"reference_length {WHOLE}"),
    (threshold(reference_length=True), f"reference_length {WHOLE}"),
    (threshold(reference_length=HUGE), f"reference_length {WHOLE}"),
    (threshold(reference_length=NAN), "a number must be finite"),
    (shares(1), "token_rule.shares must be a list of 2 numbers, one for each layer, got"),
    (shares(1, 1, 1), "token_rule.shares must be a list of 2 numbers"),
    ({"token_rule": {**SHARE, "shares": {"0": 1, "1": 1}}}, "shares must be a list of 2 numbers"),
    ({"token_rule": {**SHARE, "shares": "11"}}, "shares must be a list of 2 numbers"),
    (shares(1, 1.01), rf"token_rule.shares\[1\] {REAL_0_1}, got 1.01"),
    (shares(-0.1, 1), rf"token_rule.shares\[0\] {REAL_0_1}"),
    (shares(True, 1), rf"token_rule.shares\[0\] {REAL_0_1}"),
    (shares("1", 1), rf"token_rule.shares\[0\] {REAL_0_1}"),
    (shares(1, HUGE), rf"token_rule.shares\[1\] {REAL_0_1}"),
    (shares(1, NAN), "a number must be finite"),
    ({"token_rule": THRESHOLD}, "must find its place, but got missing_keys 'token_rule.base'"),
    ({"exits": []}, "exits must be a mapping, got"),
    ({"exits": {}}, "exits must have layers, kind, read, width"),
    ({"exits": {"layers": [0], "kind": "mlp", "read": "both"}}, "exits must have width"),
    (exits(heads=2), r"exits must be a mapping with no keys but .*, got \['heads'\]"),
    (exits(layers=[]), BEFORE_THE_LAST),
    (exits(layers=0), BEFORE_THE_LAST),
    (exits(layers=[1]), rf"{BEFORE_THE_LAST}, ascending and counted from 0, got \[1\]"),
    (exits(layers=[-1]), BEFORE_THE_LAST),
    (exits(layers=[False]), BEFORE_THE_LAST),
    (exits(layers=[0.0]), BEFORE_THE_LAST),
    (exits(layers=["0"]), BEFORE_THE_LAST),
    (exits(layers=[0, 0]), BEFORE_THE_LAST),
    (exits(layers=[0] * 100_000), BEFORE_THE_LAST),
    (exits(kind="lstm"), "exits.kind must be one of linear, mlp, attention, got 'lstm'"),
    (exits(kind={}), "exits.kind must be one of"),
    (exits(read="last"), "exits.read must be one of first, mean, both, got 'last'"),
    (exits(read=True), "exits.read must be one of"),
    (exits(width=0), f"exits.width {WHOLE} from 1 on, at most 65,536, got 0"),
    (exits(width=65_537), f"exits.width {WHOLE}"),
    (exits(width=6.0), f"exits.width {WHOLE}"),
    (exits(width=True), f"exits.width {WHOLE}"),
    (exits(width=None), f"exits.width {WHOLE}"),
    (exits(kind="attention", width=7), "exits.width must be even where exits.kind is attention"),
    (exits(), "must find its place, but got missing_keys .* and 3 more"),
    (exits(width=65_536), "the exits alone would have 4,299,161,600 numbers"),
    (exits(kind="attention", width=65_536), "the exits alone would have 21,476,933,632 numbers"),
    (exits(kind="attention", width=65_534), "the exits alone would have"),
    (exits(width=1000), "the exits alone would have 1,064,000 numbers"),
]

KNOBS: list[tuple[dict[str, Any], Any, str]] = [
    ({}, [], "must be a mapping"),
    ({}, "tau", "must be a mapping, got 'tau'"),
    ({}, {"speed": 1}, rf"must be a mapping with {KNOWN_KNOBS}, got \['speed'\]"),
    (exits(), {"exit": [0]}, KNOWN_KNOBS),
    ({}, {"delta_scale": 1}, ".delta_scale must be absent .* token_rule of kind threshold, got 1"),
    (shares(1, 1), {"delta_scale": 1}, ".delta_scale must be absent"),
    (threshold(), {"alpha_sc": 1}, ".alpha_sc must be absent .* no token_rule of kind share"),
    (exits(), {"alpha_sc": 1}, ".alpha_sc must be absent"),
    (threshold(), {"delta_scale": -0.1}, ".delta_scale must be a number from 0 to 1000"),
    (threshold(), {"delta_scale": 1000.5}, ".delta_scale must be a number"),
    (threshold(), {"delta_scale": True}, ".delta_scale must be a number"),
    (threshold(), {"delta_scale": None}, ".delta_scale must be a number"),
    (threshold(), {"delta_scale": HUGE}, ".delta_scale must be a number"),
    (threshold(), {"delta_scale": NAN}, "a number must be finite"),
    (shares(1, 1), {"alpha_sc": "2"}, ".alpha_sc must be a number from 0 to 1000, got '2'"),
    (shares(1, 1), {"alpha_sc": 1001}, ".alpha_sc must be a number"),
    (threshold(), {"tau": 0.5}, ".tau must be absent where there are no exits, got 0.5"),
    ({}, {"patience": 1}, ".patience must be absent where there are no exits"),
    ({}, {"agreements": 1}, ".agreements must be absent where there are no exits"),
    ({}, {"exits": [0]}, ".exits must be absent where there are no exits"),
    (exits(), {"tau": 1.01}, ".tau must be a number from -1 to 1, got 1.01"),
    (exits(), {"tau": -1.01}, ".tau must be a number from -1 to 1"),
    (exits(), {"tau": False}, ".tau must be a number"),
    (exits(), {"tau": [0.5]}, ".tau must be a number"),
    (exits(), {"patience": 0}, f".patience {WHOLE} from 1 on, at most 1,024, got 0"),
    (exits(), {"patience": 1025}, f".patience {WHOLE}"),
    (exits(), {"patience": 1.0}, f".patience {WHOLE}"),
    (exits(), {"patience": True}, f".patience {WHOLE}"),
    (exits(), {"agreements": 0}, f".agreements {WHOLE}"),
    (exits(), {"agreements": "1"}, f".agreements {WHOLE}"),
    (exits(), {"tau": 0.5, "patience": 1}, "at most one of .*, got tau, patience"),
    (exits(), {"agreements": 1, "patience": 1}, "at most one of tau, patience, agreements, got"),
    (exits(), {"exits": []}, ".exits must be a list of at least one of the 1 places in exits.l"),
    (exits(), {"exits": [1]}, ".exits must be a list of at least one"),
    (exits(), {"exits": [0, 0]}, ".exits must be a list of at least one"),
    (exits(), {"exits": [False]}, ".exits must be a list of at least one"),
    (exits(), {"exits": 0}, ".exits must be a list of at least one"),
]
"""Each with the rest of the configuration that it is set in."""


@pytest.fixture(autouse=True)
def calls(monkeypatch: pytest.MonkeyPatch) -> Iterator[list[Any]]:
    """Notes every attempt to reach another machine, also one whose failure is passed over."""
    made: list[Any] = []

    def called(*arguments: Any, **options: Any) -> Any:
        made.append(arguments)
        raise OSError("no network here")

    for name in ("connect", "connect_ex", "sendto"):
        monkeypatch.setattr(socket.socket, name, called)
    monkeypatch.setattr(socket, "getaddrinfo", called)
    yield made
    assert made == []


def change(folder: Path, name: str = "config.json", **changes: Any) -> Path:
    path = folder / name
    path.write_text(json.dumps({**json.loads(path.read_text()), **changes}))
    return folder


def refuse(use: Callable[[Path], Any], folder: Path, message: str) -> None:
    with pytest.raises(ModelError, match=message) as caught:
        use(folder)
    assert "\n" not in str(caught.value) and str(folder) in str(caught.value)
    assert len(str(caught.value)) < 700


@pytest.fixture(scope="module")
def saved_elastic(saved_models: dict[str, Path], tmp_path_factory: Any) -> Path:
    folder = Path(tmp_path_factory.mktemp("own")) / "elastic"
    shutil.copytree(saved_models["bert"], folder)
    model = load_stock_model(saved_models["bert"], 3, {0: "a", 1: "b", 2: "c"})
    save_elastic(to_elastic(model), folder)
    return folder


@pytest.fixture
def elastic(saved_elastic: Path, tmp_path: Path) -> Path:
    return Path(shutil.copytree(saved_elastic, tmp_path / "elastic"))


def test_there_are_at_least_fifty_mutants() -> None:
    assert len(STOCK) >= 50


@pytest.mark.parametrize(("changes", "message"), STOCK)
def test_a_mutated_configuration_is_refused(
    make_model: Any, changes: dict[str, Any], message: str
) -> None:
    folder = change(make_model(), **changes)
    refuse(check_model_folder, folder, message)
    refuse(lambda path: load_stock_model(path, num_labels=2), folder, message)


@pytest.mark.parametrize("changes", HARMLESS, ids=str)
def test_what_means_nothing_is_left_out(make_model: Any, changes: dict[str, Any]) -> None:
    folder = make_model("bert-head")
    before = load_stock_model(folder)
    config = load_stock_model(change(folder, **changes)).config
    assert config._attn_implementation == "sdpa"
    assert REPOSITORY not in str(config.to_dict()) and URL not in str(config.to_dict())
    after = load_stock_model(folder).state_dict()
    assert all(torch.equal(value, after[key]) for key, value in before.state_dict().items())


@pytest.mark.parametrize("labels", [{"0": "a", "1": "b"}, {str(i): f"c{i}" for i in range(4)}])
def test_names_for_another_number_of_classes_are_refused(make_model: Any, labels: Any) -> None:
    folder = change(make_model("bert-head"), id2label=labels, num_labels=3)
    refuse(load_stock_model, folder, "cannot be loaded|every tensor must fit")


@pytest.mark.parametrize("content", [b"{", b"[]", b"\xff\xfe", b"[" * 100_000, b" " * 2_000_000])
def test_a_configuration_that_is_no_small_object_is_refused(
    make_model: Any, content: bytes
) -> None:
    folder = make_model()
    (folder / "config.json").write_bytes(content)
    message = r"config.json: the file must (be well-formed JSON|hold one|have at most)"
    refuse(check_model_folder, folder, message)


@pytest.mark.parametrize(("changes", "message"), OWN)
def test_a_mutated_configuration_of_ours_is_refused(
    elastic: Path, changes: dict[str, Any], message: str
) -> None:
    refuse(load_elastic, change(elastic, **changes), message)


@pytest.mark.parametrize(("changes", "message"), RULES)
def test_a_rule_or_an_exit_that_cannot_be_is_refused(
    elastic: Path, changes: dict[str, Any], message: str
) -> None:
    refuse(load_elastic, change(elastic, **changes), message)


@pytest.mark.parametrize(("others", "knobs", "message"), KNOBS)
def test_knobs_that_cannot_be_are_refused_wherever_they_are_set(
    elastic: Path, others: dict[str, Any], knobs: Any, message: str
) -> None:
    refuse(load_elastic, change(elastic, **others, knobs=knobs), rf"knobs.*{message}|finite")
    points = [{"flops_ratio": 1, "drop": 0, "metric": 0.5}]
    points.append({**points[0], "knobs": knobs})
    at = r"operating_points\[1\].knobs"
    folder = change(elastic, **others, knobs={}, operating_points=points)
    refuse(load_elastic, folder, rf"{at}.*{message}|finite")


def test_exits_out_of_order_are_refused(tmp_path: Path) -> None:
    sizes = {**dict.fromkeys(OWN_SIZES, 8), "filters_per_layer": [8] * 4}
    for layers, is_good in (([0, 2], True), ([2, 0], False), ([1, 1], False), ([0, 3], False)):
        config = {**sizes, "heads_per_layer": [2] * 4, "pad_token_id": 0, **exits(layers=layers)}
        for used, is_known in (([0, 1], True), ([1], True), ([1, 0], False), ([0, 2], False)):
            whole = {**config, "knobs": {"exits": used}}
            if is_good and is_known:
                check_own(tmp_path, whole, OWN_SIZES)
            else:
                with pytest.raises(ModelError, match="exits.*ascending and counted from 0"):
                    check_own(tmp_path, whole, OWN_SIZES)


def test_a_hostile_width_is_refused_before_memory_is_taken(
    elastic: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def built(*arguments: Any, **options: Any) -> Any:
        raise AssertionError("no model may be built")

    monkeypatch.setattr(TrimtabForSequenceClassification, "from_pretrained", built)
    for kind in ("mlp", "attention"):
        folder = change(elastic, **exits(kind=kind, width=65_536))
        refuse(load_elastic, folder, "the sizes must be those of the weights, but the exits alone")


def test_the_unchanged_one_loads(elastic: Path) -> None:
    point = {"flops_ratio": 1, "drop": 0, "metric": 0.5, "knobs": {}, "params": 9}
    config = load_elastic(change(elastic, operating_points=[point])).config
    assert config.operating_points == [point]


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"auto_map": {"AutoTokenizer": ["x.T", None]}}, "auto_map must be absent"),
        ({"auto_map": {"AutoTokenizer": [f"{REPOSITORY}--x.T", None]}}, "auto_map must be absent"),
        ({"deep": {"auto_map": CODE}}, "auto_map must be absent"),
        ({"model_max_length": NAN}, "a number must be finite"),
        ({"model_max_length": float("-inf")}, "a number must be finite"),
        ({"pad_token": 3}, "cannot be loaded|must be a fast one"),
        ({"added_tokens_decoder": {"0": "x"}}, "cannot be loaded"),
        ({"added_tokens_decoder": {"zero": {"content": "x"}}}, "cannot be loaded"),
    ],
)
def test_a_mutated_tokenizer_is_refused(
    make_model: Any, elastic: Path, changes: dict[str, Any], message: str
) -> None:
    folder = change(make_model(), "tokenizer_config.json", **changes)
    refuse(load_tokenizer, folder, message)
    refuse(load_own_tokenizer, change(elastic, "tokenizer_config.json", **changes), message)


@pytest.mark.parametrize(
    "changes",
    [
        {"tokenizer_class": f"{REPOSITORY}.T"},
        {"name_or_path": REPOSITORY, "processor_class": REPOSITORY},
        {"tokenizer_file": URL, "special_tokens_map_file": "/etc/passwd"},
        {"vocab_file": "../secret", "tokenizer_file": "../secret"},
        {"fast_tokenizer_files": ["../secret", "tokenizer.1.0.0.json"]},
        {"chat_template": "{{ cycler.__init__.__globals__.os.system('true') }}"},
    ],
    ids=str,
)
def test_what_a_tokenizer_may_not_name_is_left_out(
    make_model: Any, changes: dict[str, Any]
) -> None:
    folder = make_model()
    (folder.parent / "secret").write_text(json.dumps({"secret": 0}))
    expected = load_tokenizer(folder)("the film is great")
    try:
        tokenizer = load_tokenizer(change(folder, "tokenizer_config.json", **changes))
    except ModelError as error:
        assert "\n" not in str(error)
        return
    assert tokenizer("the film is great") == expected
    assert "secret" not in tokenizer.get_vocab()


def _places(value: Any, path: tuple[Any, ...] = ()) -> Iterator[tuple[Any, ...]]:
    items = value.items() if isinstance(value, dict) else enumerate(value[:3])
    for key, inner in items:
        if path != ("model", "vocab"):
            yield (*path, key)
            if isinstance(inner, dict | list):
                yield from _places(inner, (*path, key))


ODD: list[Any] = [
    *(None, True, -1, 2**40, 1.5, "", "x", [], {}, [[]], {"type": "BPE"}, {"a": -1}),
    *("a very long subword prefix", {"[PAD]": 2**32 + 1}, {"zz": 2**32 - 1}),
]


@pytest.mark.parametrize("name", ["bert", "roberta"])
def test_an_odd_tokenizer_works_or_is_refused_in_one_line(
    make_model: Any, name: str, rng: random.Random
) -> None:
    folder = make_model(name)
    whole = json.loads((folder / "tokenizer.json").read_text())
    facts, places = check_model_folder(folder), list(_places(whole))
    for _ in range(100):
        odd = json.loads(json.dumps(whole))
        inner, path = odd, rng.choice(places)
        for part in path[:-1]:
            inner = inner[part]
        inner[path[-1]] = rng.choice(ODD)
        (folder / "tokenizer.json").write_text(json.dumps(odd))
        with contextlib.suppress(ModelError):
            texts, labels = [["the film is great", "zzz " * 9]], np.zeros(2, dtype=np.int64)
            encode(load_tokenizer(folder), texts, labels, max_length=12, facts=facts)


def test_a_tokenizer_whose_compiled_core_gives_up_is_refused(make_model: Any) -> None:
    """What it raises then is no `Exception`."""
    folder = make_model("roberta")
    odd = json.loads((folder / "tokenizer.json").read_text())
    odd["model"]["continuing_subword_prefix"] = "[UNK]x"
    (folder / "tokenizer.json").write_text(json.dumps(odd))
    refuse(load_tokenizer, folder, "the tokenizer cannot be loaded .*out of range")


def test_a_tokenizer_that_cannot_tell_what_it_does_not_know_is_refused(make_model: Any) -> None:
    folder = make_model()
    odd = json.loads((folder / "tokenizer.json").read_text())
    odd["model"]["unk_token"] = "nowhere"
    (folder / "tokenizer.json").write_text(json.dumps(odd))

    def use(path: Path) -> None:
        labels = np.zeros(1, dtype=np.int64)
        facts = check_model_folder(path)
        encode(load_tokenizer(path), [["zzz"]], labels, max_length=12, facts=facts)

    refuse(use, folder, "the tokenizer cannot work on the text .*Missing")
