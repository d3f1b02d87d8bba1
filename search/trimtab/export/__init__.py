"""Checkpoints in the forms of other runtimes: written, compared with the checkpoint, and kept."""

from __future__ import annotations

from ._onnx import Exported, export_onnx

__all__ = ["Exported", "export_onnx"]
