"""The model card: what a stranger who finds the checkpoint needs to know, from its facts alone."""

from __future__ import annotations

import json
from typing import Any

from trimtab._latency_words import budget_text
from trimtab.emission._card_latency import latency_section
from trimtab_strategies.recipe import describe

FRONT = """---
library_name: transformers
pipeline_tag: text-classification
tags: [trimtab, pruned, compressed]
---
"""

USE = """## Use

```python
import trimtab

model = trimtab.load({folder!r})  # checks every file, runs no code from the folder
```

or, after `import trimtab.hf`, with `AutoModelForSequenceClassification.from_pretrained`. Where
trimtab is not installed, the code beside the weights loads it: pass `trust_remote_code=True`, to
`AutoTokenizer` and `pipeline` as well. Only `trimtab.load` and `trimtab verify` check hashes.
"""


def model_card(facts: dict[str, Any], config: dict[str, Any]) -> str:
    """Writes the card, in Markdown."""
    parts = [
        FRONT,
        f"# {facts['study']}: compressed by trimtab\n",
        _summary(facts),
        USE.format(folder="path/to/this/folder"),
        _numbers(facts),
        latency_section(facts),
        _shape(config),
        _dial(facts, config),
        _making(facts),
    ]
    return "\n".join(part for part in parts if part)


def _summary(facts: dict[str, Any]) -> str:
    point, baseline = facts["point"], facts["baseline"]
    # Exits come on top of what there was.
    smaller = "physically smaller" if point["params"] < baseline["params"] else "cheaper"
    return (
        f"A {smaller} copy of `{facts['model']}` "
        f"({point['flops_ratio']:.1%} of its FLOPs, {point['params']:,} parameters instead of "
        f"{baseline['params']:,}). {_verdict(facts)}\n"
    )


def _verdict(facts: dict[str, Any]) -> str:
    if facts["feasible"] and facts["meets_spec"]:
        return "It meets the limits that it was searched for."
    if facts["feasible"]:
        return "It was chosen for other limits than it was searched for."
    hints = "".join(f" To have them met, {text}." for text in facts["relaxations"][:1])
    return f"**Nothing that was measured meets the limits; this is the closest point.**{hints}"


def _numbers(facts: dict[str, Any]) -> str:
    point, baseline, certified = facts["point"], facts["baseline"], facts["certificate"]
    metric = facts["task"]["metric"]
    low, high = (f"{100 * end:+.2f}" for end in certified["drop_interval_95"])
    held = ", within the allowed drop" if facts["certified"] else ", **over the allowed drop**"
    if certified["max_drop"] is None:
        held = ""
    return f"""## Numbers

Searched with a budget of {budget_text(facts["budget"])} and a largest drop of \
{facts["max_drop"]}.

| | baseline | this model | drop |
| --- | --- | --- | --- |
| {metric} on the {point["n"]} rows that decided | {baseline["metric"]:.4f} \
| {point["metric"]:.4f} \
| {100 * point["drop"]:+.2f} pt |
| {metric} on {certified["n"]} rows that decided nothing | {certified["baseline_metric"]:.4f} \
| {certified["metric"]:.4f} | {100 * certified["drop"]:+.2f} pt ({low} to {high}){held} |
| mean FLOPs per sample | {baseline["flops"]:,.0f} | {point["flops"]:,.0f} | |

FLOPs are those of the encoder's matrix products (1 MAC = 2 FLOPs) at each sample's real length,
averaged over the validation file; the baseline is the dense model, not padded. The interval is a
cautious 95 % one, as if the two models had been measured on different rows. So far this study has
measured {certified["points_certified_so_far"]} point(s) on the rows that decide nothing: the more
there are, the less each tells.
"""


def _shape(config: dict[str, Any]) -> str:
    rows = "\n".join(
        f"| {layer} | {heads} | {filters} |"
        for layer, (heads, filters) in enumerate(
            zip(config["heads_per_layer"], config["filters_per_layer"], strict=True), start=1
        )
    )
    return f"## What is left\n\n| layer | heads | filters |\n| --- | --- | --- |\n{rows}\n"


MOST_ON_DIAL = 12
"""Rows of the dial that are shown; ``frontier.csv`` has all."""


def _dial(facts: dict[str, Any], config: dict[str, Any]) -> str:
    """Tells what can be set without changing a weight, and what comes of it."""
    points = config["operating_points"]
    if len(points) < 2 and not facts["knobs"]:
        return ""
    step = max(1, -(-len(points) // MOST_ON_DIAL))
    rows = "\n".join(
        f"| {point['flops_ratio']:.1%} | {100 * point['drop']:+.2f} pt | {_knobs(point)} |"
        for point in points[::step]
    )
    return f"""## The dial

{_rules(config)} The model is set to {_knobs(facts)}; `model.set_operating_point(max_flops=0.3)`, or
`max_drop=0.01`, sets it to another of the points that were measured on the rows that decided, of
which `frontier.csv` has all:

| FLOPs | drop | knobs |
| --- | --- | --- |
{rows}
"""


def _rules(config: dict[str, Any]) -> str:
    rule, exits = config.get("token_rule"), config.get("exits")
    said = []
    if rule is not None and rule["kind"] == "threshold":
        said.append(
            "Each layer lets go of the tokens that receive less attention than a threshold."
        )
    elif rule is not None:
        shares = ", ".join(f"{share:.0%}" for share in rule["shares"])
        said.append(f"Each layer keeps the tokens that receive most attention ({shares} of them).")
        said.append(_analytic(config))
    if exits is not None:
        layers = ", ".join(str(layer + 1) for layer in exits["layers"])
        said.append(f"Samples may leave behind layer {layers}.")
    return " ".join(said)


def _analytic(config: dict[str, Any]) -> str:
    """Tells what ACC's paper would expect of the tokens alone; the table's FLOPs are counted."""
    from trimtab_strategies.acc.published import speedup  # numpy

    scale = config["knobs"].get("alpha_sc", 1.0)
    # A layer without heads does not know what is attended to, and keeps what it is given.
    shares = [
        share if heads else 1 / max(scale, 1e-9)
        for share, heads in zip(
            config["token_rule"]["shares"], config["heads_per_layer"], strict=True
        )
    ]
    return (
        f"By the published formula (ACC, equation 7) this alone makes the encoder "
        f"{speedup(shares, scale):.2f} times as fast at alpha_sc = {scale:.4g}; FLOPs here are "
        "counted on the real rows."
    )


def _knobs(holder: dict[str, Any]) -> str:
    listed = ", ".join(
        f"{name} = {value:.4g}" if isinstance(value, float) else f"{name} = {value}"
        for name, value in holder["knobs"].items()
    )
    return f"`{listed}`" if listed else "no knob"


def _making(facts: dict[str, Any]) -> str:
    versions = ", ".join(f"{name} {number}" for name, number in facts["versions"].items())
    return f"""## How it was made

Recipe: `{describe(facts["recipe"], facts["knobs"])}`{_undone(facts.get("undone", []))}

```json
{json.dumps(facts["recipe"], indent=1)}
```

Seed {facts["seed"]}; spec sha256 `{facts["spec_sha256"]}`; {versions}.
The licence is that of the model it was made from.
"""


def _undone(stages: list[str]) -> str:
    if not stages:
        return ""
    return (
        f"\n\nUndone, as calibration rows that were held back got worse by it: {', '.join(stages)}."
    )
