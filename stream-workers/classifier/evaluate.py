"""Measures the classifier on real webhooks; for measuring only, never for tuning.

Reads JSON lines `{"id", "provider", "label", "also", "headers", "content_type", "body"}`, lets
`stream-workers classify` say what each is, as a user would, prints the figures, and puts
them into the model's `CARD.md`. A file `reserved.txt` beside it names the providers that
are in no training data.
"""

from __future__ import annotations

import argparse
import json
import re
import subprocess
import tempfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np

import card
import metrics
from labels import LABELS
from naming import Rebrand
from reserved import load_names, normalise

HERE = Path(__file__).resolve().parent
BINARY = HERE.parents[1] / "target" / "release" / "stream-workers"
PRECISION = 0.9
#: What the product aims at, strictly counted.
AIM_ALL, AIM_RESERVED, AIM_MASKED = 0.92, 0.88, 0.85
_HOST = re.compile(r"(https?:(?:\\?/){2})[\w.-]+", re.IGNORECASE)
Record = dict[str, Any]


def classify(records: list[Record], binary: Path, model: Path) -> list[Record]:
    """What the program says of webhooks; it is shown what a sender sends and nothing more."""
    with tempfile.NamedTemporaryFile("w", suffix=".jsonl", encoding="utf-8") as file:
        for record in records:
            shown = {name: record[name] for name in ("id", "headers", "content_type", "body") if name in record}
            file.write(json.dumps(shown) + "\n")
        file.flush()
        command = [str(binary), "classify", "--input", file.name, "--model", str(model)]
        done = subprocess.run(command, stdout=subprocess.PIPE, check=True)
    answers = [json.loads(line) for line in done.stdout.decode().split("\n")[:-1]]
    if [answer.get("id") for answer in answers] != [record.get("id") for record in records]:
        raise ValueError("the answers are not those of the webhooks")
    return answers


def masked(record: Record) -> Record:
    """The webhook without its provider's name, without hosts, and without a user agent."""
    other = Rebrand(str(record["provider"]), record["headers"], "acme")

    def plain(text: str) -> str:
        return _HOST.sub(r"\1example.com", other.text(text))

    headers = {plain(name): plain(text) for name, text in record["headers"].items() if name != "user-agent"}
    return {**record, "headers": headers, "body": plain(record["body"])}


class Figures:
    """Answers beside the truth."""

    def __init__(self, records: list[Record], answers: list[Record]) -> None:
        unknown = {answer["category"] for answer in answers} - set(LABELS)
        if unknown:
            raise SystemExit(f"the model has labels of its own: {sorted(unknown)}")
        self.records = records
        self.truth = np.array([LABELS.index(record["label"]) for record in records])
        self.found = np.array([LABELS.index(answer["category"]) for answer in answers])
        self.confidence = np.array([answer["confidence"] for answer in answers])
        self.unsure = np.array([answer["decided_by"] == "threshold" for answer in answers])
        self.strict = self.found == self.truth
        wanted = [{record["label"], *record.get("also", [])} for record in records]
        self.lenient = np.array([LABELS[label] in labels for label, labels in zip(self.found, wanted)])

    def aim(self, title: str, which: np.ndarray, aim: float) -> str:
        """How far the macro F1 of a part is from what is aimed at."""
        if not which.any():
            return f"{title} not measured"
        found = metrics.macro_f1(metrics.confusion(self.truth[which], self.found[which]))
        return f"{title} {aim:.2f}, {'met' if found >= aim else f'missed by {aim - found:.3f}'}"

    def line(self, title: str, which: np.ndarray) -> str:
        """One line of the table of parts."""
        if not which.any():
            return f"| {title} | 0 | - | - | - | - |"
        table = metrics.confusion(self.truth[which], self.found[which])
        # The defensible labels count as the truth where they were answered.
        kind = np.where(self.lenient, self.found, self.truth)[which]
        kinder = metrics.confusion(kind, self.found[which])
        strict, lenient = (metrics.percent(float(hits[which].mean())) for hits in (self.strict, self.lenient))
        return (
            f"| {title} | {which.sum()} | {metrics.macro_f1(table):.3f} | {strict} "
            f"| {metrics.macro_f1(kinder):.3f} | {lenient} |"
        )


def providers_of(corpus: Path) -> set[str]:
    """The providers that the corpus has: a file of its own, or named in each line."""
    found: set[str] = set()
    for path in corpus.rglob("*.jsonl"):
        lines = path.read_text(encoding="utf-8").splitlines()
        found.update(normalise(json.loads(line).get("provider", path.stem)) for line in lines if line.strip())
    return found


def report(records: list[Record], run: Callable[[list[Record]], list[Record]], names: list[str], corpus: Path) -> str:
    """All figures as Markdown."""
    plain, hidden = Figures(records, run(records)), Figures(records, run([masked(record) for record in records]))
    known = providers_of(corpus)
    provider = [normalise(str(record["provider"])) for record in records]
    reserved = np.array([name in names for name in provider])
    in_corpus = np.array([name in known for name in provider])
    everything = np.ones(len(records), bool)
    table = metrics.confusion(plain.truth, plain.found)
    share, least = metrics.coverage(plain.confidence, plain.strict, PRECISION)
    kind_share, _ = metrics.coverage(plain.confidence, plain.lenient, PRECISION)
    error = metrics.calibration_error(plain.confidence, plain.strict)
    kind_error = metrics.calibration_error(plain.confidence, plain.lenient)
    return "\n".join(
        [
            "## Figures on real payloads (`make eval FILE=...`)",
            f"{len(records)} payloads that no training has seen. \"Lenient\" also counts the other labels that a careful",
            "reader could defend. A reserved provider is in no training data in any form. Masked: without the provider's",
            "name, hosts and user agents.",
            "",
            "| payloads | count | macro F1 | accuracy | macro F1, lenient | accuracy, lenient |",
            "| --- | --- | --- | --- | --- | --- |",
            plain.line("all", everything),
            plain.line("reserved providers", reserved),
            plain.line("providers that the corpus has", in_corpus),
            plain.line("other providers, not reserved", ~in_corpus & ~reserved),
            plain.line("without headers", np.array([not record["headers"] for record in records])),
            hidden.line("all, masked", everything),
            hidden.line("reserved providers, masked", reserved),
            "",
            f"Aims for the macro F1: {plain.aim('all', everything, AIM_ALL)}; "
            f"{plain.aim('reserved providers', reserved, AIM_RESERVED)}; {hidden.aim('masked', everything, AIM_MASKED)}.",
            "",
            f"Expected calibration error {error:.3f} (lenient {kind_error:.3f}). The surest {metrics.percent(share)} of the",
            f"answers (confidence {least:.2f} and above) are right in {PRECISION:.0%} of cases; lenient",
            f"{metrics.percent(kind_share)}. Below the threshold: {metrics.percent(float(plain.unsure.mean()))}. Of"
            f" {int((~plain.strict).sum())} wrong answers {int((plain.lenient & ~plain.strict).sum())} are among the labels"
            " that could be defended.",
            "",
            *metrics.label_table(table),
            "",
            *metrics.confusion_table(table),
            "",
            *metrics.calibration_table(plain.confidence, plain.strict),
        ]
    )


def main() -> None:
    """Command line."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--file", type=Path, required=True, help="labelled webhooks, JSON lines")
    parser.add_argument("--reserved", type=Path, help="providers in no training data (reserved.txt beside the file)")
    parser.add_argument("--model", type=Path, default=HERE / "model", help="model directory")
    parser.add_argument("--binary", type=Path, default=BINARY, help="the stream-workers program")
    parser.add_argument("--no-card", action="store_true", help="only print")
    parser.add_argument("--wrong", action="store_true", help="also list the wrong answers")
    args = parser.parse_args()

    with args.file.open(encoding="utf-8") as file:
        records = [json.loads(line) for line in file if line.strip()]
    beside = args.reserved or args.file.with_name("reserved.txt")
    names = load_names(beside) if beside.exists() else []
    text = report(records, lambda some: classify(some, args.binary, args.model), names, HERE / "corpus")
    print(text)
    if args.wrong:
        for record, answer in zip(records, classify(records, args.binary, args.model)):
            if answer["category"] != record["label"]:
                print(f"{record['id']}: {record['label']} {record.get('also', [])} -> {answer['category']}", end=" ")
                print(f"{answer['confidence']:.2f}, then {answer['runner_up']['category']}")
    if not args.no_card:
        card.put(args.model / "CARD.md", card.EVALUATION, text)


if __name__ == "__main__":
    main()
