"""How the configuration of each stock family names its settings; one entry a family, no torch."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field


@dataclass(frozen=True)
class Dialect:
    """What a family's ``config.json`` says in other words than BERT's, and what it leaves unsaid.

    Attributes:
        own_names: The family's name of a setting, by BERT's name for it.
        own_sizes: Sizes that only this family has, and must state.
        own_settings: What else only this family has.
        lacks: BERT's settings that mean nothing to this family.
        pad_token_id: The padding token where the configuration names none.
        type_vocab_size: Kinds of tokens where the configuration names none; 0 when the family
            makes no difference.
        positions_skip_padding: Whether real tokens are numbered from the padding token's id on.
    """

    own_names: Mapping[str, str] = field(default_factory=dict)
    own_sizes: tuple[str, ...] = ()
    own_settings: tuple[str, ...] = ()
    lacks: frozenset[str] = frozenset()
    pad_token_id: int = 0
    type_vocab_size: int = 2
    positions_skip_padding: bool = False

    def name_of(self, setting: str) -> str:
        """Gives the family's own name of a setting that BERT has, too."""
        return self.own_names.get(setting, setting)

    def max_positions(self, max_position_embeddings: int, pad_token_id: int) -> int:
        """Gives the tokens of the longest sequence that the position embeddings reach."""
        unusable = pad_token_id + 1 if self.positions_skip_padding else 0
        return max_position_embeddings - unusable


DIALECTS: Mapping[str, Dialect] = {
    "bert": Dialect(),
    "roberta": Dialect(pad_token_id=1, positions_skip_padding=True),
    "distilbert": Dialect(
        own_names={
            "hidden_size": "dim",
            "num_hidden_layers": "n_layers",
            "num_attention_heads": "n_heads",
            "intermediate_size": "hidden_dim",
            "hidden_act": "activation",
            "hidden_dropout_prob": "dropout",
            "attention_probs_dropout_prob": "attention_dropout",
            "classifier_dropout": "seq_classif_dropout",
        },
        own_settings=("sinusoidal_pos_embds",),
        lacks=frozenset({"layer_norm_eps", "type_vocab_size"}),
        type_vocab_size=0,
    ),
    "electra": Dialect(own_sizes=("embedding_size",)),
}
