"""Measures a model on real webhooks; for measuring only, never for tuning.

Reads `webhooks.jsonl` and `reserved.txt` of a directory, runs `model.onnx` over the
features of the stream-workers program, prints the figures and puts them into the
model's `CARD.md`.
"""

from __future__ import annotations

import argparse
import json
import tempfile
from pathlib import Path
from typing import Any

import numpy as np

import card
import dataset
import export
import metrics
from labels import LABELS
from reserved import load_names, normalise


def features(records: list[dict[str, Any]], binary: Path) -> dataset.Rows:
    """The features of webhooks; the program is shown what a sender sends and nothing more."""
    with tempfile.NamedTemporaryFile("w", suffix=".jsonl", encoding="utf-8") as file:
        for record in records:
            shown = {name: record[name] for name in ("headers", "content_type", "body") if name in record}
            file.write(json.dumps(shown) + "\n")
        file.flush()
        return dataset.read_features(Path(file.name), binary)


def answers(probabilities: np.ndarray, threshold: float) -> np.ndarray:
    """The label of each row as the product gives it: `other` below the threshold."""
    best = probabilities.argmax(axis=1)
    return np.where(probabilities.max(axis=1) < threshold, LABELS.index("other"), best)


def acceptable(records: list[dict[str, Any]], found: np.ndarray) -> np.ndarray:
    """Whether each answer is the label or one of `also`."""
    wanted = [{record["label"], *record.get("also", [])} for record in records]
    return np.array([LABELS[label] in labels for label, labels in zip(found, wanted)])


def report(records: list[dict[str, Any]], probabilities: np.ndarray, names: list[str], facts: dict[str, Any]) -> str:
    """All figures as Markdown."""
    truth = np.array([LABELS.index(record["label"]) for record in records])
    found = answers(probabilities, facts["threshold"])
    strict, lenient = found == truth, acceptable(records, found)
    reserved = np.array([normalise(record["provider"]) in names for record in records])
    lines = [
        f"Model {facts['version']}, {len(records)} real payloads. \"Lenient\" also counts the other labels",
        "that a careful reader could defend. A reserved provider is in no training data in any form.",
        "",
        "| payloads | count | strict | lenient |",
        "| --- | --- | --- | --- |",
    ]
    everything = np.ones(len(records), bool)
    for title, which in (("all", everything), ("reserved providers", reserved), ("the rest", ~reserved)):
        right = [metrics.percent(float(hits[which].mean()) if which.any() else np.nan) for hits in (strict, lenient)]
        lines.append(f"| {title} | {which.sum()} | {right[0]} | {right[1]} |")
    table = metrics.confusion(truth, found)
    lines += ["", *metrics.label_table(table), "", "Most frequent mistakes:", "", *metrics.confusion_table(table)]
    unsure = float((probabilities.max(axis=1) < facts["threshold"]).mean())
    lines += ["", f"Below the threshold: {metrics.percent(unsure)}. Mean confidence "]
    lines[-1] += f"{probabilities.max(axis=1).mean():.2f}."
    return "\n".join(lines)


def main() -> None:
    """Command line."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--eval", type=Path, required=True, help="directory with webhooks.jsonl, reserved.txt")
    parser.add_argument("--model", type=Path, default=dataset.HERE / "model", help="model directory")
    parser.add_argument("--binary", type=Path, default=dataset.BINARY, help="the stream-workers program")
    args = parser.parse_args()

    facts = json.loads((args.model / "model.json").read_text(encoding="utf-8"))
    if facts["labels"] != list(LABELS):
        raise SystemExit("the model has other labels")
    with (args.eval / "webhooks.jsonl").open(encoding="utf-8") as file:
        records = [json.loads(line) for line in file if line.strip()]
    names = load_names(args.eval / "reserved.txt")
    rows = features(records, args.binary)
    probabilities = export.probabilities(export.session(args.model / "model.onnx"), rows)
    text = report(records, probabilities, names, facts)
    print(text)
    card.write_evaluation(args.model / "CARD.md", text)


if __name__ == "__main__":
    main()
