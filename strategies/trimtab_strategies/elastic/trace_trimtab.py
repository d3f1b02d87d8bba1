"""What one pass records of every sample, so that every knob setting follows by arithmetic.

Legend of shapes:
    B  samples    L  layers    E  exits    C  classes
"""

from __future__ import annotations

from dataclasses import dataclass, field

import torch


@dataclass
class Trace:
    """The tokens left after each layer and the logits of each exit, with nobody leaving.

    ``lengths`` [B] and ``kept`` [B, L] count tokens; ``exit_logits`` is [B, E, C] and ``logits``,
    of the final classifier, [B, C].
    """

    lengths: torch.Tensor
    kept: torch.Tensor = field(init=False)
    exit_logits: torch.Tensor = field(init=False)
    logits: torch.Tensor = field(init=False)

    def make_room(self, n_layers: int, n_exits: int, n_classes: int) -> None:
        """Prepares for a model of that many layers, exits and classes."""
        n_samples = len(self.lengths)
        self.kept = self.lengths.new_zeros(n_samples, n_layers)
        like = torch.zeros(0, device=self.lengths.device)
        self.exit_logits = like.new_zeros(n_samples, n_exits, n_classes)
        self.logits = like.new_zeros(n_samples, n_classes)

    def note_tokens(self, layer: int, samples: torch.Tensor, counts: torch.Tensor) -> None:
        """Notes how many tokens of ``samples`` are left after a layer."""
        self.kept[samples, layer] = counts.to(self.kept)

    def note_exit(self, place: int, samples: torch.Tensor, logits: torch.Tensor) -> None:
        """Notes what an exit said of ``samples``."""
        self.exit_logits[samples, place] = logits.to(self.exit_logits)
