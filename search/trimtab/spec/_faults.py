"""From pydantic's complaints to one error for each root cause.

pydantic reports symptoms: a misspelt key is "unknown" and its right spelling "missing"; a section
whose lines lost their indentation is "empty", and each of its keys "unknown" one level up. Here
symptoms with one cause are put together.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any, get_args

from pydantic import ValidationError

from trimtab.spec._document import Document
from trimtab.spec._fields import Section
from trimtab.spec._words import closest, did_you_mean, dotted, leaf, listing, show
from trimtab.spec.errors import FieldError, FieldErrors, KeyPath, SpecError


@dataclass(frozen=True)
class _Fault:
    """An error without its place; ``message`` is a whole sentence."""

    path: KeyPath
    message: str
    hint: str | None = None
    at_key: bool = False


def collect_errors(
    error: ValidationError, model: type[Section], document: Document | None
) -> list[SpecError]:
    """Gives the errors of a spec, in the order of its file.

    Args:
        error: what pydantic said.
        model: the class that was validated.
        document: where the data stood; None for objects from Python.
    """
    details = error.errors(include_url=False, include_input=True)
    faults = list(_Grouping(model, details).faults())
    if document is None:
        return [SpecError(f.message, dotted(f.path), hint=f.hint) for f in faults]
    found = [document.error(f.message, f.path, hint=f.hint, at_key=f.at_key) for f in faults]
    return sorted(found, key=lambda e: (e.line or 0, e.col or 0))


class _Grouping:
    """Sorts the details into unknown keys, missing keys and wrong values."""

    def __init__(self, model: type[Section], details: list[Any]) -> None:
        self._model = model
        self._unknown: dict[KeyPath, list[str]] = defaultdict(list)
        self._missing: dict[KeyPath, list[str]] = defaultdict(list)
        self._wrong: list[Any] = []
        for detail in details:
            loc: KeyPath = tuple(detail["loc"])
            if detail["type"] == "extra_forbidden":
                self._unknown[loc[:-1]].append(str(loc[-1]))
            elif detail["type"] == "missing":
                self._missing[loc[:-1]].append(str(loc[-1]))
            else:
                self._wrong.append(detail)

    def faults(self) -> Iterator[_Fault]:
        explained: set[KeyPath] = set()
        for parent, keys in self._unknown.items():
            yield from self._unknown_keys(parent, keys, explained)
        for parent, keys in self._missing.items():
            left = [key for key in keys if (*parent, key) not in explained]
            if left:
                yield _missing_keys(parent, left)
        for detail in self._wrong:
            if tuple(detail["loc"]) not in explained:
                yield from _wrong_value(detail)

    def _unknown_keys(
        self, parent: KeyPath, keys: list[str], explained: set[KeyPath]
    ) -> Iterator[_Fault]:
        strays: dict[KeyPath, list[str]] = defaultdict(list)
        for key in keys:
            home = self._home(parent, key)
            if home is not None:
                strays[home].append(key)
            else:
                yield self._misspelt(parent, key, explained)
        for home, names in strays.items():
            explained.update((home, *((*home, name) for name in names)))
            where = f"under `{dotted(home)}`" if home else "at the top level"
            verb, them = ("belongs", "it") if len(names) == 1 else ("belong", "them")
            message = f"{listing(names)} {verb} {where}"
            yield _Fault((*parent, names[0]), message, f"move {them} there", True)

    def _misspelt(self, parent: KeyPath, key: str, explained: set[KeyPath]) -> _Fault:
        fields = _fields_at(self._model, parent)
        meant = closest(key, self._missing.get(parent, ())) or closest(key, fields)
        if meant:
            explained.add((*parent, meant))
        section = f"`{dotted(parent)}`" if parent else "a spec"
        hint = f"did you mean `{meant}`?" if meant else f"it has {listing(fields)}"
        return _Fault((*parent, key), f"{leaf((key,))} is not a key of {section}", hint, True)

    def _home(self, parent: KeyPath, key: str) -> KeyPath | None:
        """Finds the one section that has this key, which stands in another: inside that one first.

        Else it is a section of the spec, or the spec itself.
        """
        inside = [(*parent, name) for name in _fields_at(self._model, parent)]
        outside = [(), *((name,) for name in self._model.model_fields)]
        for paths in (inside, outside):
            homes = [path for path in paths if key in _fields_at(self._model, path)]
            if homes:
                return homes[0] if len(homes) == 1 else None
        return None


def _fields_at(model: type[Section], path: KeyPath) -> tuple[str, ...]:
    """Lists the keys that a mapping of the spec may have; none where it is no section."""
    for part in path:
        if isinstance(part, int):
            continue  # a list of sections
        field = model.model_fields.get(part)
        inner = _section_of(field.annotation) if field else None
        if inner is None:
            return ()
        model = inner
    return tuple(name for name in model.model_fields if name not in model.internal)


def _section_of(annotation: Any) -> type[Section] | None:
    """Finds the section that a field holds; an optional one stands in a union with nothing."""
    if isinstance(annotation, type) and issubclass(annotation, Section):
        return annotation
    found = (_section_of(part) for part in get_args(annotation))
    return next((section for section in found if section is not None), None)


def _missing_keys(parent: KeyPath, keys: list[str]) -> _Fault:
    where = f"`{dotted(parent)}`" if parent else "a spec"
    return _Fault(parent, f"{where} must have {listing(keys)}", at_key=True)


def _wrong_value(detail: Any) -> Iterator[_Fault]:
    path: KeyPath = tuple(detail["loc"])
    if detail["type"] == "invalid_key":
        yield _Fault(path[:-1], f"the keys of {leaf(path[:-1])} must be text")
        return
    cause = detail.get("ctx", {}).get("error")
    if isinstance(cause, FieldErrors):
        faults = cause.faults
    elif isinstance(cause, FieldError):
        faults = (cause,)
    else:
        faults = (FieldError(*_in_words(detail)),)
    for fault in faults:
        place = (*path, *fault.at)
        yield _Fault(place, f"{leaf(place)} {fault.message}", fault.hint, fault.at_key)


def _in_words(detail: Any) -> tuple[str, str | None]:
    """Says pydantic's complaint about a value in our words: what must hold, what came."""
    kind, value, context = detail["type"], detail["input"], detail.get("ctx", {})
    came = show(value)
    if kind in ("model_type", "model_attributes_type", "dict_type"):
        return f"must be a mapping of keys to values, but got {came}", None
    if kind == "literal_error":
        names = _allowed(context["expected"])
        return f"must be one of {listing(names)}, but got {came}", did_you_mean(value, names)
    if kind in ("int_type", "int_from_float", "int_parsing_size"):
        return f"must be a whole number, but got {came}", None
    for bound, words in _BOUNDS.items():
        if bound in context:
            return f"must be {words} {_grouped(context[bound])}, but got {came}", None
    return f"cannot be {came}: {detail['msg']}", None


def _grouped(bound: float) -> str:
    return f"{int(bound):,}" if bound == int(bound) else show(bound)


_BOUNDS = {"ge": "at least", "le": "at most", "gt": "more than", "lt": "less than"}


def _allowed(expected: str) -> list[str]:
    """Reads the names out of pydantic's ``'a', 'b' or 'c'``."""
    return expected.replace(" or ", ", ").replace("'", "").split(", ")
