"""Writes ``schema.json`` again: ``python -m trimtab.spec``."""

from __future__ import annotations

import sys

from trimtab.spec._schema import schema_path, schema_text


def main() -> None:
    """Writes the schema beside the model that it describes."""
    schema_path().write_text(schema_text(), encoding="utf-8")
    sys.stdout.write(f"wrote {schema_path()}\n")


if __name__ == "__main__":
    main()
