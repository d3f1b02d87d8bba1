"""Small encoders with weights of their own, and texts to fine-tune and to time them on.

Texts are sentences of the starter's toy language, as many of one topic as make 20 to 120 tokens.
The encoders start at random and train for some steps, so that they are cheap to make and yet large
enough that what is taken from them saves time.
"""

from __future__ import annotations

import json
import random
from collections import defaultdict
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

MAX_LENGTH, LEAST_WORDS, MOST_WORDS = 128, 18, 100
HEAD_DIM = 32
STEPS, BATCH, LEARNING_RATE = 30, 16, 5e-4

Row = tuple[str, str]


@dataclass(frozen=True)
class Shape:
    """How many layers an encoder has, and how wide they are."""

    layers: int
    hidden: int

    @property
    def name(self) -> str:
        """A name that can be a folder's."""
        return f"{self.layers}x{self.hidden}"


def rows(count: int, seed: int) -> list[Row]:
    """Makes texts of lengths that are spread evenly, with their topics."""
    from trimtab.starter._toy import make_rows

    rng = random.Random(seed)
    by_label: dict[str, list[str]] = defaultdict(list)
    for sentence, label in make_rows(2000, seed):
        by_label[label].append(sentence)
    labels = sorted(by_label)
    return [(_text(rng, by_label[label]), label) for label in (labels * count)[:count]]


def _text(rng: random.Random, sentences: Sequence[str]) -> str:
    wanted, words = rng.randint(LEAST_WORDS, MOST_WORDS), list[str]()
    while len(words) < wanted:
        words += rng.choice(sentences).split()
    return " ".join(words[:wanted])


def write_rows(file: Path, found: Sequence[Row]) -> None:
    """Writes rows as TSV under a head."""
    lines = ["text\tlabel", *(f"{text}\t{label}" for text, label in found)]
    file.write_text("\n".join(lines) + "\n", encoding="utf-8")


def write_encoder(folder: Path, shape: Shape, seed: int) -> None:
    """Writes a fine-tuned classifier, as transformers has it, with its tokenizer."""
    import torch
    from transformers import AutoTokenizer, BertConfig, BertForSequenceClassification
    from transformers.utils.logging import disable_progress_bar

    disable_progress_bar()
    folder.mkdir(parents=True)
    vocabulary = _write_tokenizer(folder)
    texts = rows(BATCH * STEPS, seed)
    labels = sorted({label for _, label in texts})
    config = BertConfig(
        vocab_size=vocabulary,
        hidden_size=shape.hidden,
        num_hidden_layers=shape.layers,
        num_attention_heads=shape.hidden // HEAD_DIM,
        intermediate_size=4 * shape.hidden,
        max_position_embeddings=MAX_LENGTH,
        initializer_range=0.05,
        id2label=dict(enumerate(labels)),
        label2id={label: place for place, label in enumerate(labels)},
    )
    torch.manual_seed(seed)
    model = BertForSequenceClassification(config)
    tokenizer = AutoTokenizer.from_pretrained(folder)
    _train(model, tokenizer, texts, labels)
    model.save_pretrained(folder)


def _write_tokenizer(folder: Path) -> int:
    """Writes the starter's tokenizer, for longer texts; gives how many tokens it knows."""
    from trimtab.starter._tiny_bert import model_files
    from trimtab.starter._toy import words

    files = model_files(words(), 0)
    settings = json.loads(files["tokenizer_config.json"]) | {"model_max_length": MAX_LENGTH}
    (folder / "tokenizer_config.json").write_text(json.dumps(settings), encoding="utf-8")
    for name in ("tokenizer.json", "vocab.txt"):
        (folder / name).write_bytes(files[name])
    return len(files["vocab.txt"].splitlines())


def _train(model: Any, tokenizer: Any, texts: Sequence[Row], labels: Sequence[str]) -> None:
    import torch

    model.train()
    optimiser = torch.optim.AdamW(model.parameters(), lr=LEARNING_RATE)
    for first in range(0, len(texts), BATCH):
        some = texts[first : first + BATCH]
        inputs = tokenizer([text for text, _ in some], padding=True, return_tensors="pt")
        wanted = torch.tensor([labels.index(label) for _, label in some])
        model(**inputs, labels=wanted).loss.backward()
        optimiser.step()
        optimiser.zero_grad()


def write_dense(folder: Path, source: Path) -> None:
    """Writes the dense elastic model of a classifier: what a study calls its baseline."""
    from trimtab_strategies.families import to_elastic
    from trimtab_workers.jobs._place import save_elastic
    from trimtab_workers.sources import load_stock_model

    save_elastic(to_elastic(load_stock_model(source, num_labels=3)), folder)


def tokens_of(source: Path, texts: Sequence[Row]) -> list[list[int]]:
    """Gives the token ids of texts."""
    from transformers import AutoTokenizer

    tokenizer = AutoTokenizer.from_pretrained(source)
    found = tokenizer([text for text, _ in texts], truncation=True, max_length=MAX_LENGTH)
    ids: list[list[int]] = found["input_ids"]
    return ids
