"""The configuration of an elastic encoder: widths layer by layer, in one family-neutral form."""

from __future__ import annotations

from typing import Any

from transformers import PretrainedConfig


class TrimtabConfig(PretrainedConfig):  # type: ignore[misc]
    """Describes an encoder whose layers may each keep another number of heads and filters.

    ``heads_per_layer[l]`` heads of ``head_dim`` and ``filters_per_layer[l]`` feed-forward filters
    are left in layer ``l``; both may be 0, and then only the sub-layer's bias, residual and norm
    remain. ``family`` names the stock architecture that the weights came from. These carry all
    that tells the families apart:

    - ``embedding_size``: width of the embeddings where a projection makes them ``hidden_size``
      wide (small ELECTRA); where none is given they have that width themselves.
    - ``type_vocab_size``: 0 when there are no token types (DistilBERT); then any are passed over.
    - ``positions_skip_padding``: real tokens alone are numbered, after the padding id (RoBERTa).
    - ``dropout_after_attention``: attention's output is dropped out (all but DistilBERT).
    - ``dropout_before_head``: the head's input is, too (RoBERTa, ELECTRA).
    - ``head_activation``: tanh (BERT, RoBERTa), relu (DistilBERT) or gelu (ELECTRA).

    ``token_rule`` says which tokens a layer lets go: None, ``{"kind": "threshold", "normaliser":
    "fixed" | "live", "reference_length": N}`` (the thresholds are weights), or ``{"kind": "share",
    "shares": [one for each layer]}``. ``exits`` says where classifiers read early: None, or
    ``{"layers": [...], "kind": "linear" | "mlp" | "attention", "read": "first" | "mean" | "both",
    "width": w}``, layers counted from 0. ``knobs`` is how both are set, with no weight changed:

    - ``delta_scale``: factor on the thresholds; ``alpha_sc``: factor on the shares; 1 by default.
    - ``tau``: a sample leaves at the first exit with normalised entropy at most that;
      ``patience``: after that many exits in a row that agree with the one before; ``agreements``:
      after that many in all. At most one of the three; with none, nobody leaves early.
    - ``exits``: the places in ``exits["layers"]`` that are used; all by default.

    ``operating_points`` is the dial of an emitted checkpoint: settings of its knobs with the
    ``metric``, ``drop`` and ``flops_ratio`` that were measured at each.
    """

    model_type = "trimtab"

    def __init__(
        self,
        family: str = "bert",
        vocab_size: int = 30522,
        hidden_size: int = 768,
        embedding_size: int | None = None,
        head_dim: int = 64,
        heads_per_layer: list[int] | None = None,
        filters_per_layer: list[int] | None = None,
        max_position_embeddings: int = 512,
        type_vocab_size: int = 2,
        layer_norm_eps: float = 1e-12,
        hidden_act: str = "gelu",
        hidden_dropout_prob: float = 0.1,
        attention_probs_dropout_prob: float = 0.1,
        classifier_dropout: float | None = None,
        initializer_range: float = 0.02,
        pad_token_id: int = 0,
        positions_skip_padding: bool = False,
        dropout_after_attention: bool = True,
        dropout_before_head: bool = False,
        head_activation: str = "tanh",
        token_rule: dict[str, Any] | None = None,
        exits: dict[str, Any] | None = None,
        knobs: dict[str, Any] | None = None,
        operating_points: list[dict[str, Any]] | None = None,
        **kwargs: Any,
    ) -> None:
        self.family = family
        self.vocab_size = vocab_size
        self.hidden_size = hidden_size
        self.embedding_size = hidden_size if embedding_size is None else embedding_size
        self.head_dim = head_dim
        self.heads_per_layer = list(heads_per_layer if heads_per_layer is not None else [12] * 12)
        self.filters_per_layer = list(
            filters_per_layer if filters_per_layer is not None else [3072] * 12
        )
        if len(self.heads_per_layer) != len(self.filters_per_layer):
            raise ValueError(
                "heads_per_layer and filters_per_layer must have one entry for each layer, but got "
                f"{len(self.heads_per_layer)} and {len(self.filters_per_layer)} entries"
            )
        self.num_hidden_layers = len(self.heads_per_layer)
        self.max_position_embeddings = max_position_embeddings
        self.type_vocab_size = type_vocab_size
        self.layer_norm_eps = layer_norm_eps
        self.hidden_act = hidden_act
        self.hidden_dropout_prob = hidden_dropout_prob
        self.attention_probs_dropout_prob = attention_probs_dropout_prob
        self.classifier_dropout = classifier_dropout
        self.initializer_range = initializer_range
        self.positions_skip_padding = positions_skip_padding
        self.dropout_after_attention = dropout_after_attention
        self.dropout_before_head = dropout_before_head
        self.head_activation = head_activation
        self.token_rule = None if token_rule is None else dict(token_rule)
        self.exits = None if exits is None else dict(exits)
        self.knobs = dict(knobs or {})
        self.operating_points = list(operating_points or [])
        kwargs.pop("num_hidden_layers", None)
        super().__init__(pad_token_id=pad_token_id, **kwargs)
