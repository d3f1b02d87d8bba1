"""Writing the graph: the plain forward, traced by torch, with both axes left open."""

from __future__ import annotations

import logging
import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING

import torch

from trimtab.errors import TrimtabError
from trimtab_strategies.elastic.plain_trimtab import PlainForward

if TYPE_CHECKING:
    from trimtab_strategies.elastic import TrimtabConfig, TrimtabForSequenceClassification

OUTPUT = "logits"
TYPES = "token_type_ids"
AXES = {0: "batch", 1: "length"}
TRACED = (2, 3)
"""Texts and tokens of the batch that is traced: a 1 would be taken for one that stays."""


def inputs_of(config: TrimtabConfig) -> tuple[str, ...]:
    """Names what a graph takes; token types only where a family has more than one."""
    plain = ("input_ids", "attention_mask")
    return (*plain, TYPES) if config.type_vocab_size > 1 else plain


def write_graph(model: TrimtabForSequenceClassification, file: Path) -> None:
    """Writes a static point as an ONNX graph with its weights in the same file.

    Raises:
        TrimtabError: if torch cannot write the model as a graph.
    """
    names = inputs_of(model.config)
    ones = torch.ones(TRACED, dtype=torch.int64)
    given = {"input_ids": ones * _word(model.config), "attention_mask": ones, TYPES: ones * 0}
    try:
        with _quiet(), torch.no_grad():
            program = torch.onnx.export(
                PlainForward(model),
                tuple(given[name] for name in names),
                input_names=names,
                output_names=[OUTPUT],
                dynamic_shapes={name: AXES for name in names},
                dynamo=True,
                verbose=False,
            )
            assert program is not None, "torch gives the program that it was told to make"
            program.save(str(file), external_data=False)
    except (RuntimeError, TypeError, ValueError, NotImplementedError) as error:
        said = str(error).strip().partition("\n")[0]
        raise TrimtabError(f"torch could not write this model as a graph: {said}") from error


def _word(config: TrimtabConfig) -> int:
    """Gives a token that is no padding."""
    return int((config.pad_token_id + 1) % config.vocab_size)


@contextmanager
def _quiet() -> Iterator[None]:
    """Leaves out what torch tells of packages and axes that concern nobody here."""
    log = logging.getLogger("torch.onnx")
    level = log.level
    log.setLevel(logging.ERROR)
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            yield
    finally:
        log.setLevel(level)
