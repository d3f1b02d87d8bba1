"""Specs to start from, for ``trimtab init``: one that runs at once, a real one, one for the hub."""

from trimtab.starter._write import TEMPLATES, StarterError, write_template

__all__ = ["TEMPLATES", "StarterError", "write_template"]
