"""Tiny random models with tokenizers of their own, and a toy task that can be learnt."""

from __future__ import annotations

import csv
import random
import shutil
from collections.abc import Callable
from pathlib import Path

import pytest
import torch

from trimtab_workers.task import DataSource, Task

GOOD = ("good", "great", "fine", "lovely")
BAD = ("bad", "awful", "poor", "dreadful")
FILLER = ("the", "film", "is", "a", "story", "plot", "and", "very", "it", "was")

Make = Callable[..., Path]


def toy_rows(n: int, seed: int = 0, longest: int = 9) -> list[tuple[str, int]]:
    """Sentences of filler with one telling word; alternating classes."""
    rng = random.Random(seed)
    rows = []
    for i in range(n):
        words = rng.choices(FILLER, k=rng.randint(1, longest))
        words.insert(rng.randint(0, len(words)), rng.choice(GOOD if i % 2 else BAD))
        rows.append((" ".join(words), i % 2))
    return rows


def _wordpiece() -> object:
    from tokenizers import Tokenizer, models, normalizers, pre_tokenizers, processors
    from transformers import PreTrainedTokenizerFast

    special = ["[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]"]
    words = [*special, *FILLER, *GOOD, *BAD, "na", "##s", '"', ",", "."]
    tokenizer = Tokenizer(
        models.WordPiece(vocab={word: i for i, word in enumerate(words)}, unk_token="[UNK]")
    )
    tokenizer.normalizer = normalizers.Lowercase()
    tokenizer.pre_tokenizer = pre_tokenizers.BertPreTokenizer()
    tokenizer.post_processor = processors.TemplateProcessing(
        single="[CLS] $A [SEP]",
        pair="[CLS] $A [SEP] $B:1 [SEP]:1",
        special_tokens=[("[CLS]", 2), ("[SEP]", 3)],
    )
    return PreTrainedTokenizerFast(
        tokenizer_object=tokenizer,
        pad_token="[PAD]",
        unk_token="[UNK]",
        cls_token="[CLS]",
        sep_token="[SEP]",
        mask_token="[MASK]",
    )


def _byte_pairs() -> object:
    from tokenizers import Tokenizer, decoders, models, pre_tokenizers, processors, trainers
    from transformers import PreTrainedTokenizerFast

    tokenizer = Tokenizer(models.BPE(unk_token="<unk>"))
    tokenizer.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    tokenizer.decoder = decoders.ByteLevel()
    trainer = trainers.BpeTrainer(
        vocab_size=400,
        special_tokens=["<s>", "<pad>", "</s>", "<unk>", "<mask>"],
        initial_alphabet=pre_tokenizers.ByteLevel.alphabet(),
        show_progress=False,
    )
    tokenizer.train_from_iterator((text for text, _ in toy_rows(200)), trainer)
    tokenizer.post_processor = processors.RobertaProcessing(("</s>", 2), ("<s>", 0))
    return PreTrainedTokenizerFast(
        tokenizer_object=tokenizer,
        bos_token="<s>",
        pad_token="<pad>",
        eos_token="</s>",
        unk_token="<unk>",
        cls_token="<s>",
        sep_token="</s>",
        mask_token="<mask>",
    )


def _sizes() -> dict[str, object]:
    return {
        "initializer_range": 0.1,  # so that a random model tells rows apart
        "hidden_size": 32,
        "num_hidden_layers": 2,
        "num_attention_heads": 4,
        "intermediate_size": 64,
    }


_FAMILIES: dict[str, tuple[str, Callable[[], object], dict[str, object]]] = {
    "bert": ("Bert", _wordpiece, _sizes() | {"vocab_size": 40, "max_position_embeddings": 64}),
    "roberta": (
        "Roberta",
        _byte_pairs,
        _sizes()
        | {
            "vocab_size": 400,
            "max_position_embeddings": 66,
            "type_vocab_size": 1,
            "pad_token_id": 1,
        },
    ),
    "distilbert": (
        "DistilBert",
        _wordpiece,
        {
            "initializer_range": 0.1,
            "dim": 32,
            "n_layers": 2,
            "n_heads": 4,
            "hidden_dim": 64,
            "vocab_size": 40,
            "max_position_embeddings": 64,
        },
    ),
    # as narrow in front as the small ELECTRA
    "electra": (
        "Electra",
        _wordpiece,
        _sizes() | {"vocab_size": 40, "max_position_embeddings": 64, "embedding_size": 16},
    ),
}


def _save(kind: str, head: str | None, folder: Path, **changes: object) -> Path:
    import transformers

    family, tokenizer, settings = _FAMILIES[kind]
    config = getattr(transformers, f"{family}Config")(**settings | changes)
    torch.manual_seed(0)
    model = getattr(transformers, f"{family}{head or 'Model'}")(config)
    model.save_pretrained(folder)
    tokenizer().save_pretrained(folder)
    return folder


@pytest.fixture(scope="session")
def saved_models(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    root = tmp_path_factory.mktemp("models")
    head = "ForSequenceClassification"
    names = {0: "negative", 1: "positive", 2: "mixed"}
    named = {"id2label": names, "label2id": {name: i for i, name in names.items()}}
    kinds: dict[str, tuple[str | None, dict[str, object]]] = {
        "bert": (None, {}),
        "roberta": (None, {}),
        "distilbert": (None, {}),
        "electra": (None, {}),
        "bert-masked": ("ForMaskedLM", {}),
        "distilbert-masked": ("ForMaskedLM", {"sinusoidal_pos_embds": True}),
        "electra-masked": ("ForMaskedLM", {}),
        "electra-told": ("ForPreTraining", {"embedding_size": 32}),
        "bert-head": (head, named),
        "roberta-head": (head, {"num_labels": 3}),
        "distilbert-head": (head, named),
        "electra-head": (head, named),
    }
    return {
        name: _save(name.split("-")[0], kind, root / name, **changes)
        for name, (kind, changes) in kinds.items()
    }


@pytest.fixture
def make_model(saved_models: dict[str, Path], tmp_path: Path) -> Make:
    """Gives a private copy of one of the saved models, free to be damaged."""

    def make(name: str = "bert") -> Path:
        return Path(shutil.copytree(saved_models[name], tmp_path / f"model-{name}"))

    return make


@pytest.fixture
def write_rows(tmp_path: Path) -> Make:
    """Writes rows to a `.csv` or `.tsv` file."""

    def write(name: str, rows: list[tuple[object, ...]], header: tuple[str, ...]) -> Path:
        path = tmp_path / name
        with path.open("w", encoding="utf-8", newline="") as file:
            if name.endswith(".tsv"):
                file.writelines("\t".join(map(str, row)) + "\n" for row in [header, *rows])
            else:
                csv.writer(file).writerows([header, *rows])
        return path

    return write


@pytest.fixture
def toy_task(write_rows: Make) -> Callable[..., Task]:
    """Makes a task of toy sentences; rows may be given, and any field of the task changed."""

    def make(
        train: list[tuple[object, ...]] | DataSource | None = None,
        validation: list[tuple[object, ...]] | DataSource | None = None,
        header: tuple[str, ...] = ("text", "label"),
        suffix: str = ".tsv",
        **changes: object,
    ) -> Task:
        def source(name: str, rows: list[tuple[object, ...]] | DataSource) -> DataSource:
            if isinstance(rows, DataSource):
                return rows
            return DataSource(path=str(write_rows(f"{name}{suffix}", rows, header)))

        fields: dict[str, object] = {
            "train": source("train", train or toy_rows(160, 1)),
            "validation": source("dev", validation or toy_rows(120, 2)),
            "text": header[:-1],
            "label": header[-1],
            "metric": "accuracy",
            "max_length": 32,
            "seed": 0,
        }
        return Task(**{**fields, **changes})

    return make


@pytest.fixture
def rows_of() -> Callable[..., list[tuple[str, int]]]:
    return toy_rows
