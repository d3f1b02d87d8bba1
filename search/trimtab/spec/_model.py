"""The spec itself: how it is loaded, written out, and told apart from another one."""

from __future__ import annotations

import os
from collections.abc import Mapping
from pathlib import Path
from typing import Annotated, Any, Self

from pydantic import Field, PrivateAttr, ValidationError, model_validator

from trimtab.spec._document import Document
from trimtab.spec._faults import collect_errors
from trimtab.spec._fields import DropField, ModelField, PathField, Section, matching
from trimtab.spec._latencies import check_workloads
from trimtab.spec._reader import Form, read_file, read_text
from trimtab.spec._sections import (
    DEFAULT_DROP,
    Budget,
    Finetune,
    Search,
    Task,
    Workers,
)
from trimtab.spec._strategies import check_untimed
from trimtab.spec._words import dotted, leaf
from trimtab.spec.errors import KeyPath, SpecError, SpecErrors
from trimtab.spec.references import Surroundings

Name = Annotated[
    str,
    *matching(
        r"^[A-Za-z0-9][A-Za-z0-9._-]{0,63}$",
        "1 to 64 letters, digits, `.`, `_` or `-`, beginning with a letter or digit",
    ),
]


class Spec(Section):
    """What a user declares: a model, a task, a budget, a largest drop, how to search, on what.

    Load one with :meth:`load` or :meth:`from_mapping`; both report every fault at once. Local
    paths are absolute in a loaded spec.
    """

    name: Name = Field(
        description="The study's name in its database; the same name again continues it."
    )
    model: ModelField = Field(
        description="A local folder, `package:IMPORT_NAME/sub/folder`, or a hub id "
        "(needs --allow-hub); safetensors only."
    )
    task: Task = Field(description="What the model is for, and the rows to judge it on.")
    finetune: Finetune = Field(
        default_factory=Finetune,
        description="How a model without a head for the task is trained first.",
    )
    budget: Budget = Field(description="The limits on cost; all that are given must hold.")
    max_drop: DropField = Field(
        default=DEFAULT_DROP,
        description="Largest loss: points of the metric (`1 pt`), or a share of the baseline's "
        "value (`1%`).",
    )
    search: Search = Field(default_factory=Search, description="What is tried, and how long.")
    workers: Workers = Field(
        default_factory=Workers, description="Where trials run; may change between runs."
    )
    output: PathField = Field(
        default="", description="Folder for the results; by default `runs/NAME`."
    )

    _document: Document | None = PrivateAttr(default=None)
    _around: Surroundings = PrivateAttr(default=Surroundings(Path()))

    @model_validator(mode="before")
    @classmethod
    def _default_output(cls, value: Any) -> Any:
        if isinstance(value, dict) and "output" not in value and isinstance(value.get("name"), str):
            return {**value, "output": f"runs/{value['name']}"}
        return value

    @model_validator(mode="after")
    def _check_latency(self) -> Self:
        if self.budget.latency is None:
            check_untimed(self.search.strategies)
        else:
            check_workloads(self.budget.latency, self.workers.device, self.task.max_length)
        return self

    @classmethod
    def load(cls, path: str | Path, *, allow_hub: bool = False) -> Self:
        """Loads a spec's file: JSON where it ends in ``.json``, else YAML 1.2.

        Args:
            path: the file; relative paths in it start at its folder.
            allow_hub: whether models and datasets may come from the hub.

        Raises:
            SpecErrors: with every fault, each with its line.
        """
        folder = Path(path).absolute().parent
        return cls._from_document(read_file(path), Surroundings(folder, allow_hub))

    @classmethod
    def loads(
        cls,
        content: str | bytes,
        *,
        form: Form = "yaml",
        file: str = "<spec>",
        folder: str | Path = ".",
        allow_hub: bool = False,
    ) -> Self:
        """Loads a spec's text; ``file`` is the name that errors show.

        Raises:
            SpecErrors: with every fault, each with its line.
        """
        around = Surroundings(Path(folder).absolute(), allow_hub)
        return cls._from_document(read_text(content, file, form), around)

    @classmethod
    def from_mapping(
        cls, mapping: Mapping[str, Any], *, folder: str | Path = ".", allow_hub: bool = False
    ) -> Self:
        """Makes a spec of plain Python values, such as :meth:`to_plain` gives.

        Args:
            mapping: the same keys as in a file; quantities as text or as values of
                :mod:`trimtab.spec.units`.
            folder: where relative paths start.
            allow_hub: whether models and datasets may come from the hub.

        Raises:
            SpecErrors: with every fault, each with its dotted path.
        """
        around = Surroundings(Path(folder).absolute(), allow_hub)
        data = dict(mapping) if isinstance(mapping, Mapping) else mapping
        return cls._validated(data, None, around)

    @classmethod
    def _from_document(cls, document: Document, around: Surroundings) -> Self:
        return cls._validated(document.data, document, around)

    @classmethod
    def _validated(cls, data: Any, document: Document | None, around: Surroundings) -> Self:
        try:
            spec = cls.model_validate(data, context=around)
        except ValidationError as error:
            raise SpecErrors(collect_errors(error, cls, document)) from None
        spec._document, spec._around = document, around
        return spec

    def __eq__(self, other: object) -> bool:
        return isinstance(other, Spec) and self.to_plain() == other.to_plain()

    def __hash__(self) -> int:
        return hash(self.name)

    @property
    def allow_hub(self) -> bool:
        """Whether models and datasets may come from the hub."""
        return self._around.allow_hub

    def to_plain(self) -> dict[str, Any]:
        """Gives JSON-able values: quantities as text, local paths absolute, defaults filled in.

        :meth:`from_mapping` makes an equal spec of them.
        """
        return self.model_dump(mode="json", exclude_none=True)

    def identity(self) -> dict[str, Any]:
        """Gives the fields that must stay the same while a study goes on.

        Budget, max_drop, trials, time, stop, looks, workers and output may change: nothing is
        trained again for them. Local paths may change too, as when a study's folder is moved: a
        study knows what is behind them by its contents.
        """
        plain = self.to_plain()
        for key in ("budget", "max_drop", "workers", "output"):
            del plain[key]
        for key in ("trials", "time", "stop", "looks"):
            plain["search"].pop(key, None)
        _drop_local_paths(plain)
        return plain

    def error(self, message: str, path: KeyPath, hint: str | None = None) -> SpecError:
        """Makes an error about a field, for checks that need more than the spec itself.

        Args:
            message: a predicate, such as "must be a folder, but …".
            path: the field, such as ``("task", "train")``.
            hint: what to do next.
        """
        text = f"{leaf(path)} {message}"
        if self._document is None:
            return SpecError(text, dotted(path), hint=hint)
        return self._document.error(text, path, hint=hint)


def changed_fields(old: Mapping[str, Any], new: Mapping[str, Any]) -> list[str]:
    """Lists the dotted names of what differs between two identities, in alphabetical order.

    What only the old one has does not count.
    """
    # An identity lacks nothing but local paths and what a dataset has beside its name. Where it
    # does, the contents are compared, and older studies have the paths in theirs as well.
    before, after = _flat(old), _flat(new)
    missing = object()
    return sorted(name for name, value in after.items() if before.get(name, missing) != value)


def _drop_local_paths(plain: dict[str, Any]) -> None:
    """Takes out the model's and the data's absolute paths: in a loaded spec, all local ones are."""
    places = [(plain, "model")]
    for part in ("train", "validation", "unlabeled"):
        rows = plain["task"].get(part)
        places.append((rows, "dataset") if isinstance(rows, dict) else (plain["task"], part))
    for mapping, key in places:
        if os.path.isabs(mapping.get(key, "")):
            del mapping[key]


def _flat(plain: Mapping[str, Any], prefix: str = "") -> dict[str, Any]:
    flat: dict[str, Any] = {}
    for key, value in plain.items():
        if isinstance(value, Mapping) and value:
            flat.update(_flat(value, f"{prefix}{key}."))
        else:
            flat[f"{prefix}{key}"] = value
    return flat
