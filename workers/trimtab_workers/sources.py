"""Where a model is, what it is, and how it is loaded without running anything it brings along."""

from __future__ import annotations

import hashlib
import importlib.util
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from trimtab_strategies.dialects import DIALECTS
from trimtab_workers._config import read_config, read_json, refuse_auto_map
from trimtab_workers._hub import HubError, fetch_snapshot, hub_id
from trimtab_workers._links import lies_in
from trimtab_workers._loading import load_classifier, load_fast_tokenizer
from trimtab_workers._weights import INDEX, OTHERS, check_room, weight_files
from trimtab_workers._words import did_you_mean
from trimtab_workers.errors import ModelError

__all__ = [
    "ModelFacts",
    "check_model_folder",
    "load_stock_model",
    "load_tokenizer",
    "model_fingerprint",
    "read_config",
    "resolve_model",
    "tokenizer_fingerprint",
]

PACKAGE = "package:"
FETCHED = ["*.safetensors", "*.json", "*.txt"]
TOKENIZER_FILES = (
    "added_tokens.json",
    "merges.txt",
    "special_tokens_map.json",
    "tokenizer.json",
    "tokenizer_config.json",
    "vocab.json",
    "vocab.txt",
)
VOCABULARIES = (("tokenizer.json",), ("vocab.txt",), ("vocab.json", "merges.txt"))


@dataclass(frozen=True)
class ModelFacts:
    """What a model folder says about itself.

    Attributes:
        model_type: One of the families that are built.
        has_head: Whether it was fine-tuned to classify sequences.
        num_labels: Classes of its head; without a head, what the config happens to say.
        id2label: The name of each class id.
        max_positions: The longest sequence it can read, in tokens.
        pad_token_id: The token that its embeddings take for padding.
        type_vocab_size: Kinds of tokens that it tells apart; 0 when it knows of none.
    """

    model_type: str
    has_head: bool
    num_labels: int
    id2label: dict[int, str]
    max_positions: int
    pad_token_id: int
    vocab_size: int
    type_vocab_size: int
    hidden_size: int
    num_layers: int
    num_heads: int
    intermediate_size: int


def resolve_model(reference: str, *, allow_hub: bool = False) -> Path:
    """Finds the folder that a model reference stands for.

    Args:
        reference: A local folder; `package:IMPORT_NAME/sub/folder`, which is located without
            importing the package and must stay inside it; or a hub id `OWNER/NAME[@REVISION]`.
        allow_hub: Whether the hub may be asked.

    Raises:
        ModelError: There is no such folder, or the hub is not allowed or does not deliver.
    """
    if reference.startswith(PACKAGE):
        return _in_package(reference)
    folder = Path(reference).expanduser()
    if folder.is_dir():
        return folder.resolve()
    parts = hub_id(reference)
    if parts is None:
        raise ModelError(
            f"{reference}: a model must be a local folder, package:NAME/sub/folder or a hub id "
            "OWNER/NAME[@REVISION], and there is no such folder"
        )
    if not allow_hub:
        raise ModelError(
            f"{reference}: there is no such folder; if it is a model on the hub, allow it with "
            "--allow-hub"
        )
    return _from_hub(reference, *parts)


def check_model_folder(path: Path) -> ModelFacts:
    """Checks that a folder holds a model that can be loaded safely, and reads what it is.

    Nothing is executed and no weights are loaded.

    Raises:
        ModelError: The folder is not there, has no whole safetensors weights, is an adapter, or
            its config is refused.
    """
    if not path.is_dir():
        raise ModelError(f"{path}: there is no such model folder")
    config = read_config(path)
    if (path / "adapter_config.json").exists():
        raise ModelError(f"{path}: the model must be whole, but this is an adapter; merge it first")
    files = weight_files(path)
    _refuse_links_out(path, [path / "config.json", *files])
    names = _class_names(path, config)
    dialect = DIALECTS[config["model_type"]]

    def stated(setting: str) -> Any:
        return config[dialect.name_of(setting)]

    check_room(path, files, _least_sizes(config, stated))
    pad = _stated_or(config.get("pad_token_id"), dialect.pad_token_id)
    architectures = config.get("architectures") or []
    return ModelFacts(
        model_type=config["model_type"],
        has_head=any(str(name).endswith("ForSequenceClassification") for name in architectures),
        num_labels=len(names),
        id2label=names,
        max_positions=dialect.max_positions(config["max_position_embeddings"], pad),
        pad_token_id=pad,
        vocab_size=config["vocab_size"],
        type_vocab_size=_stated_or(config.get("type_vocab_size"), dialect.type_vocab_size),
        hidden_size=stated("hidden_size"),
        num_layers=stated("num_hidden_layers"),
        num_heads=stated("num_attention_heads"),
        intermediate_size=stated("intermediate_size"),
    )


def load_stock_model(
    path: Path,
    num_labels: int | None = None,
    id2label: Mapping[int, str] | None = None,
    seed: int = 0,
) -> Any:
    """Loads a folder as the stock sequence classifier of transformers, in float32 with SDPA.

    Args:
        path: A model folder.
        num_labels: Classes of the fresh head of a model that has none; must agree with the head
            of a model that has one.
        id2label: Names of the fresh head's classes.
        seed: Of the fresh head's weights.

    Returns:
        A `PreTrainedModel` in evaluation mode on the CPU.

    Raises:
        ModelError: The folder is refused, weights are missing, left over or of another shape, or
            the number of classes does not agree.
    """
    facts = check_model_folder(path)
    config = read_config(path)
    if facts.has_head:
        if num_labels not in (None, facts.num_labels):
            raise ModelError(
                f"{path}: the model's head has {facts.num_labels} classes, but {num_labels} are "
                "needed; use a model without a head"
            )
        names = facts.id2label
    else:
        if num_labels is None:
            raise ModelError(f"{path}: the model has no head, so the number of classes is needed")
        names = dict(id2label or {i: f"LABEL_{i}" for i in range(num_labels)})
    return load_classifier(path, config, names, fresh_head=not facts.has_head, seed=seed)


def load_tokenizer(path: Path) -> Any:
    """Loads a model folder's fast tokenizer.

    Raises:
        ModelError: The folder has no tokenizer files, or they cannot be used.
    """
    config = path / "tokenizer_config.json"
    if config.is_file():
        refuse_auto_map(config, read_json(config))
    if not any(all((path / name).is_file() for name in names) for names in VOCABULARIES):
        raise ModelError(
            f"{path}: a model folder must have its tokenizer ({_alternatives()}), and there is "
            "none; save it there with tokenizer.save_pretrained"
        )
    _refuse_links_out(path, [path / name for name in TOKENIZER_FILES])
    return load_fast_tokenizer(path, read_config(path))


def model_fingerprint(path: Path) -> str:
    """The sha256 of a model folder's config, weights and tokenizer, as 64 hex digits."""
    files = [path / "config.json", path / INDEX, *weight_files(path)]
    return _digest([*files, *(path / name for name in TOKENIZER_FILES)])


def tokenizer_fingerprint(path: Path) -> str:
    """The sha256 of a model folder's tokenizer files, as 64 hex digits."""
    return _digest(path / name for name in TOKENIZER_FILES)


def _digest(files: Iterable[Path]) -> str:
    total = hashlib.sha256()
    for file in sorted(set(files)):
        if file.is_file():
            with file.open("rb") as stream:
                inner = hashlib.file_digest(stream, "sha256")
            total.update(f"{file.name}\0{inner.hexdigest()}\n".encode())
    return total.hexdigest()


def _alternatives() -> str:
    return " or ".join(" + ".join(names) for names in VOCABULARIES)


def _least_sizes(config: Mapping[str, Any], stated: Callable[[str], int]) -> dict[str, int]:
    width = stated("hidden_size")
    embedded = config.get("embedding_size") or width
    return {
        "word embeddings": config["vocab_size"] * embedded,
        "position embeddings": config["max_position_embeddings"] * embedded,
        "attention": stated("num_hidden_layers") * width * width,
        "feed-forward filters": stated("num_hidden_layers") * stated("intermediate_size") * width,
    }


def _refuse_links_out(folder: Path, files: Iterable[Path]) -> None:
    for file in files:
        if file.exists() and not lies_in(folder, file):
            raise ModelError(
                f"{file}: a model's files must lie in its folder, but this is a link to "
                f"{file.resolve()}; copy that file there if you mean it"
            )


def _stated_or(value: int | None, default: int) -> int:
    return default if value is None else value


def _class_names(path: Path, config: Mapping[str, Any]) -> dict[int, str]:
    given = config.get("id2label")
    if given is None:
        return {i: f"LABEL_{i}" for i in range(config.get("num_labels") or 2)}
    try:
        names = {int(key): str(name) for key, name in sorted(given.items(), key=_by_id)}
    except (AttributeError, TypeError, ValueError):
        names = {}
    if list(names) != list(range(len(given))) or len(set(names.values())) != len(names):
        raise ModelError(
            f"{path / 'config.json'}: id2label must give the ids from 0 on a name each, "
            f"all different, got {given!r}"
        )
    return names


def _by_id(item: tuple[str, str]) -> int:
    return int(item[0])


def _in_package(reference: str) -> Path:
    name, _, inside = reference.removeprefix(PACKAGE).partition("/")
    if not name.isidentifier():
        # a dotted name would import its parent to be found
        raise ModelError(
            f"{reference}: must be package:IMPORT_NAME/sub/folder with a top-level package, "
            f"got {name!r}"
        )
    try:
        found = importlib.util.find_spec(name)
    except ValueError:
        found = None
    roots = [Path(place).resolve() for place in (found and found.submodule_search_locations) or []]
    if not roots:
        raise ModelError(f"{reference}: there is no installed package {name!r}; install it first")
    for root in roots:
        folder = (root / inside).resolve()
        if not folder.is_relative_to(root):
            raise ModelError(f"{reference}: the folder must stay inside the package {name!r}")
        if folder.is_dir():
            return folder
    there = [entry.name for entry in roots[0].iterdir() if entry.is_dir()]
    raise ModelError(
        f"{reference}: the package {name!r} has no folder {inside!r}"
        f"{did_you_mean(inside.split('/')[0], there)}"
    )


def _from_hub(reference: str, repository: str, revision: str | None) -> Path:
    try:
        folder = fetch_snapshot(repository, revision, patterns=FETCHED)
    except HubError as error:
        raise ModelError(f"{reference}: {error}") from error
    if any(folder.glob("*.safetensors")):
        return folder
    only = ", ".join(sorted(f.name for f in folder.iterdir() if f.suffix.lower() in OTHERS))
    raise ModelError(
        f"{reference}: weights must be .safetensors, but none came from the hub"
        f"{only and f', only {only}'}; weights of other kinds can run code when they are opened "
        "and are not fetched, so convert them where you trust them and name that folder"
    )
