"""The JSON Schema of a spec, from which editors complete and check while one types."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

from trimtab.spec._model import Spec
from trimtab.spec._sections import Search, Workers
from trimtab.spec._stopping import Stop
from trimtab_strategies.base import Choice

_DESCRIPTION = "A model, a task, a budget, a largest drop, how to search, and on what."
_SECTIONS = {model.__name__: model for model in (Spec, Search, Stop, Workers)}
_DIALECT = "http://json-schema.org/draft-07/schema#"


def schema_path() -> Path:
    """Gives the installed schema's file."""
    return Path(__file__).with_name("schema.json")


def schema_text() -> str:
    """Writes the schema as it is kept in ``schema.json``."""
    return json.dumps(build_schema(), indent=2, ensure_ascii=False) + "\n"


def build_schema() -> dict[str, Any]:
    """Makes the schema from the model and from what the strategies declare."""
    schema = Spec.model_json_schema()
    search = schema["$defs"]["Search"]["properties"]
    search["strategies"] |= {"items": _strategy_items(), "minItems": 1}
    del schema["properties"]["output"]["default"]
    for section in (schema, *schema["$defs"].values()):
        _write_defaults(section)
    # The editors' language server knows draft 7 best; nothing newer is used but `$defs`.
    return {"$schema": _DIALECT, **schema, "title": "Trimtab spec", "description": _DESCRIPTION}


def _write_defaults(section: dict[str, Any]) -> None:
    """Writes defaults with units as text; pydantic gives them by their parts."""
    model = _SECTIONS.get(section.get("title", ""))
    for name, field in section.get("properties", {}).items():
        if model and isinstance(field.get("default"), dict):
            field["default"] = str(model.model_fields[name].default)


def _strategy_items() -> dict[str, Any]:
    from trimtab_strategies import registry

    narrowed = [_narrowed(registry.get(name)) for name in registry.names()]
    return {"anyOf": [{"enum": list(registry.names())}, *narrowed]}


def _narrowed(strategy: Any) -> dict[str, Any]:
    choices = {choice.name: _choice(choice) for choice in strategy.choices}
    pins = {
        "type": "object",
        "properties": choices,
        "additionalProperties": False,
        "minProperties": 1,
    }
    return {
        "type": "object",
        "description": strategy.summary,
        "properties": {strategy.name: pins},
        "required": [strategy.name],
        "additionalProperties": False,
    }


def _choice(choice: Choice) -> dict[str, Any]:
    one: dict[str, Any]
    if choice.values is not None:
        one = {"enum": list(choice.values)}
    else:
        one = {"type": "number", "minimum": choice.low, "maximum": choice.high}
    several = {"type": "array", "items": one, "minItems": 1}
    return {"description": choice.help, "anyOf": [one, several]}
