"""Trains the webhook classifier and writes its model directory.

1. A fifth of the providers is held out entirely; training stops at the epoch that
   is best on them, and the temperature is fitted on them.
2. The final model is trained on everything, for the number of epochs found.

Writes `model.onnx`, `model.json` and `CARD.md`. Takes minutes on one core.
"""

from __future__ import annotations

import argparse
import hashlib
import json
import os
import sys
import time
from dataclasses import asdict, dataclass
from datetime import datetime, timezone
from pathlib import Path

os.environ.setdefault("OPENBLAS_NUM_THREADS", "1")

import numpy as np  # noqa: E402  (the number of threads is read when numpy is loaded)
import onnx  # noqa: E402

import card  # noqa: E402
import dataset  # noqa: E402
import export  # noqa: E402
import metrics  # noqa: E402
from labels import LABELS  # noqa: E402
from network import Params, Settings, Trainer, logits_of  # noqa: E402

SCHEME = 1
THRESHOLD = 0.35
PATIENCE = 4


@dataclass(frozen=True)
class Search:
    """What the run with held-out providers has found."""

    epochs: int
    temperature: float
    accuracy: float
    confusion: np.ndarray
    train_providers: int
    held_providers: int
    held_webhooks: int


def say(text: str) -> None:
    """One line of progress."""
    print(text, file=sys.stderr, flush=True)


def search(data: dataset.Dataset, settings: Settings, share: float, seed: int) -> Search:
    """Trains without the held-out providers; finds the number of epochs and the temperature."""
    train, held = dataset.split_by_provider(data, share, seed)
    names = np.unique(data.providers[held])
    say(f"{len(train)} webhooks to train on, {len(held)} of {len(names)} providers held out")
    trainer = Trainer(data.rows, data.labels, train, settings)
    best_loss, best_epoch, best_logits = np.inf, 0, np.zeros((0, len(LABELS)))
    for epoch, loss in enumerate(trainer.epochs(), 1):
        logits = logits_of(trainer.params, data.rows, held)
        held_loss = metrics.nll(logits, data.labels[held])
        right = float((logits.argmax(axis=1) == data.labels[held]).mean())
        say(f"  epoch {epoch}: loss {loss:.3f}, held out {held_loss:.3f}, accuracy {right:.3f}")
        if held_loss < best_loss:
            best_loss, best_epoch, best_logits = held_loss, epoch, logits
        elif epoch - best_epoch >= PATIENCE:
            break
    truth, found = data.labels[held], best_logits.argmax(axis=1)
    return Search(
        epochs=best_epoch,
        temperature=metrics.best_temperature(best_logits, truth),
        accuracy=float((found == truth).mean()),
        confusion=metrics.confusion(truth, found),
        train_providers=len(np.unique(data.providers[train])),
        held_providers=len(names),
        held_webhooks=len(held),
    )


def train_final(data: dataset.Dataset, settings: Settings, epochs: int) -> Params:
    """Trains on everything, on the same schedule, for that many epochs."""
    trainer = Trainer(data.rows, data.labels, np.arange(len(data)), settings)
    for epoch, loss in enumerate(trainer.epochs(), 1):
        say(f"  epoch {epoch} of {epochs}: loss {loss:.3f}")
        if epoch == epochs:
            break
    return trainer.params


def write_model(directory: Path, data: dataset.Dataset, params: Params, temperature: float) -> dict[str, object]:
    """Writes and checks `model.onnx`, writes `model.json`; returns what stands in it."""
    directory.mkdir(parents=True, exist_ok=True)
    path = directory / "model.onnx"
    onnx.save(export.build(params, temperature), str(path))
    some = np.random.default_rng(1).choice(len(data), size=min(500, len(data)), replace=False)
    apart = export.difference(path, params, temperature, data.rows, some)
    say(f"ONNX Runtime and numpy differ by {apart:.1e} at the most; {path.stat().st_size / 1e6:.2f} MB")
    if not apart < 1e-3:
        raise ValueError("the exported model answers differently")
    digest = hashlib.sha256(path.read_bytes()).hexdigest()
    facts: dict[str, object] = {
        "version": f"{datetime.now(timezone.utc):%Y%m%d}-{digest[:8]}",
        "labels": list(LABELS),
        "features": {"scheme": SCHEME, "buckets": dataset.BUCKETS, "max": dataset.MAX_FEATURES},
        "threshold": THRESHOLD,
        "sha256": digest,
    }
    (directory / "model.json").write_text(json.dumps(facts, indent=2) + "\n", encoding="utf-8")
    return facts


def main() -> None:
    """Command line."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--data", type=Path, required=True, help="webhooks written by generate.py")
    parser.add_argument("--binary", type=Path, default=dataset.BINARY, help="the stream-workers program")
    parser.add_argument("--out", type=Path, default=dataset.HERE / "model", help="model directory to write")
    parser.add_argument("--held-out", type=float, default=0.2, help="share of providers held out (0.2)")
    parser.add_argument("--seed", type=int, default=1, help="seed of split and training (1)")
    args = parser.parse_args()

    started = time.monotonic()
    settings = Settings(seed=args.seed)
    say("reading features")
    data = dataset.load(args.data, args.binary)
    found = search(data, settings, args.held_out, args.seed)
    say(f"best after {found.epochs} epochs: accuracy {found.accuracy:.3f}, temperature {found.temperature:.2f}")
    params = train_final(data, settings, found.epochs)
    facts = write_model(args.out, data, params, found.temperature)
    seconds = time.monotonic() - started
    card.write_training(args.out / "CARD.md", facts, data, asdict(settings), found, seconds)
    say(f"model {facts['version']} in {args.out}, {seconds:.0f} s")


if __name__ == "__main__":
    main()
