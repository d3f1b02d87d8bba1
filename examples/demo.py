"""The main job from start to end: a real encoder, real news, a budget, a smaller checkpoint.

Runs the commands that a user would type, in `runs/demo`, and then loads the checkpoint and
classifies two sentences. Everything comes from installed packages; no network is needed.
Run it again and the study goes on from what is there.
"""

from __future__ import annotations

import shlex
import subprocess
import sys
import time
from pathlib import Path

FOLDER = Path("runs/demo")
SENTENCES = (
    "The striker scored twice in the second half and sent her club into the cup final.",
    "Shares fell sharply after the bank warned that profits would miss its forecast.",
)
NOTHING_FEASIBLE = 3


def trimtab(command: str, *, allowed: tuple[int, ...] = (0,)) -> None:
    """Shows a command and runs it as a user would, in the demo's folder."""
    print(f"\n$ trimtab {command}", flush=True)
    done = subprocess.run(
        [sys.executable, "-m", "trimtab", *shlex.split(command)], cwd=FOLDER, check=False
    )
    if done.returncode not in allowed:
        sys.exit(done.returncode)


def classify(checkpoint: Path) -> None:
    """Loads the checkpoint with one call and says what two sentences are about."""
    import torch
    from transformers import AutoTokenizer

    import trimtab

    model = trimtab.load(checkpoint)
    tokenizer = AutoTokenizer.from_pretrained(checkpoint)
    with torch.inference_mode():
        logits = model(**tokenizer(list(SENTENCES), padding=True, return_tensors="pt")).logits
    for sentence, row in zip(SENTENCES, logits, strict=True):
        label = model.config.id2label[int(row.argmax())]
        print(f"{label:>13} {float(row.softmax(0).max()):.2f}  {sentence}")


def main() -> None:
    """Runs the demo."""
    started = time.monotonic()
    FOLDER.mkdir(parents=True, exist_ok=True)
    if not (FOLDER / "spec.yaml").exists():
        trimtab("init --template demo spec.yaml")
    trimtab("plan spec.yaml")
    trimtab("run spec.yaml", allowed=(0, NOTHING_FEASIBLE))
    trimtab("frontier")
    trimtab("plot --out frontier.png")
    trimtab("plot --out frontier.html")
    trimtab("verify checkpoint")
    print(f"\n>>> trimtab.load('{FOLDER / 'checkpoint'}')")
    classify(FOLDER / "checkpoint")
    print(f"\nAll of it is in {FOLDER}; it took {time.monotonic() - started:.0f} s.")


if __name__ == "__main__":
    main()
