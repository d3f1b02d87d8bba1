"""What each sample costs and is told at one setting of a model's knobs, without the model.

Records and the model's configuration are enough, so nothing here needs torch.

Legend:
    N   samples    E'  exits in use    C  classes
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from typing import Any

import numpy as np

from trimtab_strategies.cost import EncoderShape, Placement, exit_macs
from trimtab_strategies.records import Ints, Records
from trimtab_strategies.replay import (
    leaves_by_entropy,
    leaves_by_patience,
    leaving_macs,
    predictions_of,
    uncertainty,
)

PLACEMENTS: Mapping[str, Placement] = {"threshold": "ltp", "share": "acc"}
"""Where each kind of token rule drops tokens."""
NO_EXITS: Mapping[str, Any] = {"kind": "linear", "read": "first", "width": 1}


@dataclass(frozen=True)
class Pricing:
    """What of a model's configuration decides the cost of its rows.

    ``token_rule`` decides times alone: what a rule takes is no matrix product.
    """

    shape: EncoderShape
    placement: Placement
    exits: Mapping[str, Any]
    token_rule: Mapping[str, Any] | None = None

    @classmethod
    def of(cls, config: Mapping[str, Any]) -> Pricing:
        """Reads the configuration of an elastic model, as its ``config.json`` has it.

        Raises:
            KeyError: if it is that of another model.
        """
        rule = config.get("token_rule")
        shape = EncoderShape(
            config["hidden_size"],
            config["head_dim"],
            tuple(config["heads_per_layer"]),
            tuple(config["filters_per_layer"]),
        )
        # Where no tokens go, both placements cost the same.
        placement = "ltp" if rule is None else PLACEMENTS[rule["kind"]]
        return cls(shape, placement, config.get("exits") or NO_EXITS, rule)

    def macs(self, records: Records, used: Sequence[int]) -> Ints:
        """Gives the MACs [N, E'+1] of each sample for leaving at each exit in use, or at the end.

        Raises:
            ValueError: if the records are those of a model with other layers or exits.
        """
        of_exit = partial(
            exit_macs,
            self.exits["kind"],
            self.exits["read"],
            self.shape.hidden_size,
            self.exits["width"],
            records.logits.shape[1],
        )
        return leaving_macs(self.shape, records, self.placement, of_exit, used)


def outcome_at(pricing: Pricing, records: Records, knobs: Mapping[str, Any]) -> tuple[Ints, Ints]:
    """Gives what each sample costs, in MACs [N], and the class [N] that it is told.

    ``records`` must have been taken at the scale that ``knobs`` name.

    Raises:
        ValueError: if records, configuration and knobs do not fit together.
    """
    used = list(knobs.get("exits", range(len(records.exit_layers))))
    leaves = leaves_at(records, knobs, used)
    # Where nobody can leave, no exit is read.
    used, leaves = (used, leaves) if leaves is not None else ([], np.zeros_like(records.lengths))
    here = leaves[:, None]
    macs: Ints = np.take_along_axis(pricing.macs(records, used), here, axis=1)[:, 0]
    told: Ints = np.take_along_axis(predictions_of(records, used), here, axis=1)[:, 0]
    return macs, told


def leaves_at(records: Records, knobs: Mapping[str, Any], used: Sequence[int]) -> Ints | None:
    """Gives the leaving place [N] of each sample among exits in use; None where nobody can leave.

    Raises:
        ValueError: if the knobs do not fit the records.
    """
    if "tau" in knobs:
        return leaves_by_entropy(uncertainty(records.exit_logits[:, used]), knobs["tau"])
    wanted = knobs.get("patience", knobs.get("agreements"))
    if wanted is None:
        return None
    return leaves_by_patience(predictions_of(records, used), wanted, resets="patience" in knobs)
