"""Trains the webhook classifier and writes its model directory.

1. A fifth of the providers is held out entirely. A network trained on the others gives the
   figures of the card; on one half of the held-out providers temperature and likeness are
   fitted, on the other half the calibration is measured.
2. The final network is trained on everything, and on the users' corrections where given.

Writes `model.onnx`, `model.json`, `vocabulary.txt`, `cases.jsonl` and `CARD.md`.
"""

from __future__ import annotations

import argparse
import hashlib
import json
import sys
import time
from dataclasses import asdict, dataclass, replace
from datetime import datetime, timezone
from pathlib import Path
from typing import Any

import numpy as np
import onnx

import base
import card
import dataset
import export
import metrics
import network
from labels import LABELS

#: Below it the answer is `other`: of four answers less sure than this, three are wrong on held-out providers.
THRESHOLD = 0.35
#: Share of the webhooks of one kind that a correction of one of them decides, on held-out providers.
SAME_EVENT_RECALL = 0.8
#: How often a correction counts as much as a made webhook.
CORRECTION_COPIES = 20
CASES_A_LABEL = 2


@dataclass(frozen=True)
class HeldOut:
    """What the network that has not seen some providers says of them."""

    providers: int
    trained_on: int
    webhooks: int
    temperature: float
    same_event: float
    chances: np.ndarray  # [rows, labels] of the half on which nothing was fitted
    labels: np.ndarray
    also: list[tuple[int, ...]]
    #: By likeness alone: the share of webhooks of one template that one of them takes along, and of others of the same
    #: provider.
    recall: float
    siblings: float


def say(text: str) -> None:
    """One line of progress."""
    print(text, file=sys.stderr, flush=True)


def fit(rows: dataset.Rows, data: dataset.Webhooks, vectors: np.ndarray, settings: network.Settings) -> network.Params:
    """Trains to the end."""
    params: network.Params = {}
    for epoch, (params, loss) in enumerate(network.train(rows, data, vectors, settings), 1):
        say(f"  epoch {epoch} of {settings.epochs}: loss {loss:.3f}")
    return params


def trained(params: network.Params, vectors: np.ndarray, temperature: float, rows: dataset.Rows) -> export.Trained:
    """The network with the centres of the embedding, of a sample of `rows`."""
    some = rows.take(np.random.default_rng(3).choice(len(rows), min(4_000, len(rows)), replace=False))
    seen = (some.tokens < dataset.BUCKETS).astype(np.float32)
    read = (some.words < len(vectors) - 1).astype(np.float32)
    means = network.pooled(params, vectors, some.tokens, some.words, some.groups, seen, read)
    centres = [np.asarray(mean).mean(axis=0) for mean in means]
    plain = {name: np.asarray(value) for name, value in params.items()}
    return export.Trained(plain, vectors, temperature, *centres)


def likeness(embeddings: np.ndarray, templates: np.ndarray, providers: np.ndarray) -> tuple[float, float]:
    """The least cosine of webhooks of one template, for the share of them wanted; and the share of the same
    provider's other webhooks that are as like."""
    first = np.unique(templates, return_index=True)[1]
    cosines = embeddings[first] @ embeddings.T
    same = templates[first][:, None] == templates[None, :]
    own = providers[first][:, None] == providers[None, :]
    siblings = own & ~same
    same[np.arange(len(first)), first] = False
    least = float(np.quantile(cosines[same], 1 - SAME_EVENT_RECALL))
    return least, float((cosines[siblings] >= least).mean())


def hold_out(
    data: dataset.Webhooks,
    rows: dataset.Rows,
    mild: dataset.Webhooks,
    mild_rows: dataset.Rows,
    templates: np.ndarray,
    vectors: np.ndarray,
    settings: network.Settings,
    work: Path,
) -> HeldOut:
    """Trains without a fifth of the providers, and looks at these."""
    names = np.concatenate([data.providers, mild.providers])
    fold = dataset.folds(names, 5, settings.seed)
    train = np.flatnonzero(fold[: len(data)] != 0)
    held = np.flatnonzero(fold[len(data) :] == 0)
    say(f"{len(train)} webhooks to train on; {len(np.unique(mild.providers[held]))} providers held out")
    params = fit(rows.take(train), data.take(train), vectors, settings)
    logits = network.predict(params, vectors, mild_rows.take(held))
    side = dataset.folds(mild.providers[held], 2, settings.seed + 1)
    fitted, tested = np.flatnonzero(side == 0), np.flatnonzero(side == 1)
    labels = mild.labels[held]
    temperature = metrics.best_temperature(logits[fitted], labels[fitted])
    path = work / "held-out.onnx"
    onnx.save(export.build(trained(params, vectors, temperature, rows.take(train))), str(path))
    chances, embeddings = export.answers(export.session(path), mild_rows.take(held))
    same_event, siblings = likeness(embeddings, templates[held], mild.providers[held])
    return HeldOut(
        providers=len(np.unique(mild.providers[held])),
        trained_on=len(np.unique(data.providers[train])),
        webhooks=len(held),
        temperature=temperature,
        same_event=same_event,
        chances=chances[tested],
        labels=labels[tested],
        also=[mild.also[held[i]] for i in tested],
        recall=SAME_EVENT_RECALL,
        siblings=siblings,
    )


def cases(records: list[dict[str, Any]], rows: dataset.Rows, chances: np.ndarray) -> list[dict[str, Any]]:
    """Webhooks of every label with what the model says of them, for the check when it is loaded."""
    found: list[dict[str, Any]] = []
    for label in range(len(LABELS)):
        mine = [i for i, record in enumerate(records) if record["label"] == LABELS[label] and len(record["body"]) < 2_000]
        sure = sorted(mine, key=lambda i: abs(float(chances[i].max()) - 0.9))
        for i in sure[:CASES_A_LABEL]:
            shown = {name: records[i][name] for name in ("headers", "content_type", "body")}
            best = int(chances[i].argmax())
            found.append({**shown, "category": LABELS[best], "confidence": round(float(chances[i][best]), 4)})
    return found


def write_model(
    directory: Path,
    final: export.Trained,
    words: dataset.Vocabulary,
    rows: dataset.Rows,
    records: list[dict[str, Any]],
    held: HeldOut,
) -> dict[str, Any]:
    """Writes and checks the files; returns what stands in `model.json`."""
    directory.mkdir(parents=True, exist_ok=True)
    path = directory / "model.onnx"
    onnx.save(export.build(final), str(path))
    chances, _ = export.answers(export.session(path), rows)
    logits = network.predict({name: np.asarray(value) for name, value in final.params.items()}, final.vectors, rows)
    apart = float(np.abs(chances - metrics.softmax(logits / final.temperature)).max())
    say(f"ONNX Runtime and the training differ by {apart:.1e} at the most; {path.stat().st_size / 1e6:.1f} MB")
    if not apart < 5e-3:
        raise ValueError("the exported model answers differently")
    vocabulary = "".join(f"{word}\n" for word in words.words)
    (directory / "vocabulary.txt").write_text(vocabulary, encoding="utf-8")
    lines = [json.dumps(case, ensure_ascii=False) for case in cases(records, rows, chances)]
    (directory / "cases.jsonl").write_text("\n".join(lines) + "\n", encoding="utf-8")
    digest = hashlib.sha256(path.read_bytes()).hexdigest()
    facts: dict[str, Any] = {
        "version": f"{datetime.now(timezone.utc):%Y%m%d}-{digest[:8]}",
        "labels": list(LABELS),
        "reading": {
            "scheme": dataset.SCHEME,
            "buckets": dataset.BUCKETS,
            "tokens": dataset.MAX_TOKENS,
            "words": dataset.MAX_WORDS,
            "groups": dataset.GROUPS,
            "vocabulary": len(words),
        },
        "threshold": THRESHOLD,
        "same_event": round(held.same_event, 3),
        "sha256": {"onnx": digest, "vocabulary": hashlib.sha256(vocabulary.encode()).hexdigest()},
    }
    (directory / "model.json").write_text(json.dumps(facts, indent=2) + "\n", encoding="utf-8")
    return facts


def repeated(data: dataset.Webhooks, times: int) -> dataset.Webhooks:
    """Every webhook that often."""
    return data.take(np.repeat(np.arange(len(data)), times))


def main() -> None:
    """Command line."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--data", type=Path, required=True, help="webhooks written by generate.py")
    parser.add_argument("--mild", type=Path, required=True, help="webhooks written by generate.py --mild")
    parser.add_argument("--corrections", type=Path, help="file written by `control-plane correction export`")
    parser.add_argument("--binary", type=Path, default=dataset.BINARY, help="the stream-workers program")
    parser.add_argument("--out", type=Path, default=dataset.HERE / "model", help="model directory to write")
    parser.add_argument("--seed", type=int, default=1, help="seed of split and training (1)")
    args = parser.parse_args()

    started = time.monotonic()
    settings = network.Settings(seed=args.seed)
    say("reading webhooks")
    data = dataset.load(args.data, args.binary)
    mild = dataset.load(args.mild, args.binary)
    with args.mild.open(encoding="utf-8") as file:
        records = [json.loads(line) for line in file]
    templates = np.array([record["template"] for record in records])
    corrected = dataset.corrections(args.corrections) if args.corrections else None
    pieces = base.Pieces()
    words = dataset.vocabulary(data, pieces.words())
    say(f"{len(data)} webhooks of {len(np.unique(data.providers))} providers; vectors of {len(words)} words")
    vectors = base.word_vectors(words.words, pieces, settings.word_width)
    rows, mild_rows = dataset.rows(data.tokens, words), dataset.rows(mild.tokens, words)
    args.out.mkdir(parents=True, exist_ok=True)
    held = hold_out(data, rows, mild, mild_rows, templates, vectors, settings, args.data.parent)
    right = float((held.chances.argmax(axis=1) == held.labels).mean())
    say(f"held out: accuracy {right:.3f}, temperature {held.temperature:.2f}, same event from {held.same_event:.3f}")
    if corrected is not None and len(corrected):
        say(f"{len(corrected)} corrections")
        data = dataset.join(data, repeated(corrected, CORRECTION_COPIES))
        rows = dataset.rows(data.tokens, words)
    params = fit(rows, data, vectors, replace(settings, seed=args.seed + 1))
    final = trained(params, vectors, held.temperature, rows)
    some = np.sort(np.random.default_rng(5).choice(len(mild), min(3_000, len(mild)), replace=False))
    facts = write_model(args.out, final, words, mild_rows.take(some), [records[i] for i in some], held)
    seconds = time.monotonic() - started
    size = (args.out / "model.onnx").stat().st_size
    card.write_training(args.out / "CARD.md", facts, data, asdict(settings), held, seconds, size)
    say(f"model {facts['version']} in {args.out}, {seconds:.0f} s")


if __name__ == "__main__":
    main()
