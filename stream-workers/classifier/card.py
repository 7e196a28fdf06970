"""Writes the model's card. Every figure comes from a run that writes it, and the command stands beside it.

`train.py` writes the card; `compare.py` and `evaluate.py` put theirs under their headings. Each section is
kept when another is written anew.
"""

from __future__ import annotations

import os
from collections import Counter
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

import metrics
from dataset import BUCKETS, GROUPS, MAX_TOKENS, MAX_WORDS, Webhooks
from labels import LABELS

if TYPE_CHECKING:
    from train import HeldOut

TRAINING = "<!-- written by train.py -->"
DESIGNS = "<!-- written by compare.py -->"
EVALUATION = "<!-- written by evaluate.py -->"
SECTIONS = (TRAINING, DESIGNS, EVALUATION)

_WHAT = """# Model card: webhook classifier {version}

## What it is
A small network that says which of {labels} kinds of event a webhook reports:
{names}.
Below the threshold of {threshold} the answer is `other`.

It looks at a webhook in two ways. Its tokens (at most {tokens}: words of headers, keys and values
by place, whole keys, keys within keys, short values with their keys, kinds of values) are hashed into {buckets}
buckets, each with a learned row of {token_width} numbers, which are averaged. Its words (at most {max_words}) have
the vectors of a pretrained base, all-MiniLM-L6-v2, reduced to {word_width} numbers, averaged for each of
{groups} groups of places by learned weights; so words that the corpus lacks still mean something. Both go
through one hidden layer of {hidden}. The second output is an embedding of length 1, for labels of a
project's own and for corrections. The file has {size:.1f} MB.

## Data (`make train`)
{webhooks} webhooks of {providers} providers, made by `generate.py` from templates written by hand. Values are
random, and each webhook differs from its template in spelling, envelope, order, fields left out and added;
seven of ten lose the sender's name. No payload of the evaluation set was used, and no template that names a provider
reserved there.

| label | webhooks | providers |
| --- | --- | --- |
{data}

## Procedure (`make train`)
{held_providers} of the providers were held out entirely while {trained_on} others trained. On one half of the
held-out providers the temperature ({temperature:.2f}) and the likeness of the same event ({same_event:.3f}) were
fitted, on the other half the figures below were measured. The network kept here was then trained on everything.
Settings: {settings}. Trained in {seconds:.0f} s on {cores} cores, base and figures included.

## Figures on held-out providers (`make train`)
On {tested} mildly varied webhooks of held-out providers: accuracy {accuracy} ({lenient} with the labels that could
be defended as well), macro F1 {f1:.3f}, expected calibration error {ece:.3f}. By likeness alone a correction
takes {recall} of the webhooks of its own kind, mildly varied, and {siblings} of the other kinds of the same provider; of
these the workers leave out those whose event has another name.

{table}

{mistakes}

{calibration}

## What the errors have in common
Read from the wrong answers on real payloads (`stream-workers/classifier/run eval FILE --wrong`) and on held-out providers:
- Half of them give the other label that could be defended: a payment for an order, a fraud score of a payment, an interview
  stage of an applicant.
- Small events of a sender whose every payload carries the same large object: a label, a wiki page or a commit status of a
  forge is taken for code, since the repository around it weighs more than the few words that tell.
- Bare records without an event's name whose fields are those of another kind: a person with groups (identity or crm), a
  reply to a campaign (messaging or crm), a booking with a price (billing or scheduling).
- Words of a product for a thing of its own (a note, a question, a task, a link), which mean something else elsewhere.

Tried on held-out providers and left: a weight for each token, an average for each half of the tokens, wider tables, other
shares of dropout (worse, or no better), an average of several networks (better, at several times the cost: see below), and a
fine-tuned MiniLM as a teacher (no better than its pupil: see below). What brought most was more senders.

## Limits
- Trained on made webhooks: their variety is that of the templates. The figures on real payloads
  below are the ones to go by.
- Words are mostly English; an event in another language is known by its keys.
- A body without words (numbers, binary) gives no tokens, and a guess that means nothing.
- A body is read for its first 256 KB, from the outer levels inwards.
"""


def _data_rows(data: Webhooks) -> list[str]:
    counts = Counter(data.labels.tolist())
    return [
        f"| {name} | {counts[index]} | {len(np.unique(data.providers[data.labels == index]))} |"
        for index, name in enumerate(LABELS)
    ]


def write_training(
    path: Path,
    facts: dict[str, Any],
    data: Webhooks,
    settings: dict[str, Any],
    held: HeldOut,
    seconds: float,
    size: int,
) -> None:
    """Writes what training has found."""
    found, confidence = held.chances.argmax(axis=1), held.chances.max(axis=1)
    right = found == held.labels
    lenient = np.array([f == label or f in also for f, label, also in zip(found, held.labels, held.also)])
    table = metrics.confusion(held.labels, found)
    text = _WHAT.format(
        version=facts["version"],
        labels=len(LABELS),
        names=", ".join(f"`{name}`" for name in LABELS),
        threshold=facts["threshold"],
        tokens=MAX_TOKENS,
        max_words=MAX_WORDS,
        buckets=BUCKETS,
        groups=GROUPS,
        token_width=settings["token_width"],
        word_width=settings["word_width"],
        hidden=settings["hidden"],
        size=size / 1e6,
        webhooks=len(data),
        providers=len(np.unique(data.providers)),
        data="\n".join(_data_rows(data)),
        held_providers=held.providers,
        trained_on=held.trained_on,
        temperature=held.temperature,
        same_event=held.same_event,
        settings=", ".join(f"{name} {value}" for name, value in settings.items()),
        seconds=seconds,
        cores=os.cpu_count(),
        tested=len(held.labels),
        accuracy=metrics.percent(float(right.mean())),
        lenient=metrics.percent(float(lenient.mean())),
        f1=metrics.macro_f1(table),
        ece=metrics.calibration_error(confidence, right),
        recall=metrics.percent(held.recall),
        siblings=metrics.percent(held.siblings),
        table="\n".join(metrics.label_table(table)),
        mistakes="\n".join(metrics.mistakes(table)),
        calibration="\n".join(metrics.calibration_table(confidence, right)),
    )
    put(path, TRAINING, text)


def put(path: Path, section: str, text: str) -> None:
    """Writes a section in place of what stood there, and leaves the others."""
    before = path.read_text(encoding="utf-8") if path.exists() else ""
    parts = {}
    for name in SECTIONS:
        _, found, rest = before.partition(name)
        end = min((rest.index(other) for other in SECTIONS if other in rest), default=len(rest))
        parts[name] = rest[:end].strip() if found else "Not measured yet."
    parts[section] = text.strip()
    path.write_text("\n\n".join(f"{name}\n{parts[name]}" for name in SECTIONS) + "\n", encoding="utf-8")


def replace_line(path: Path, line: str) -> None:
    """Puts a line of a table in place of the one with the same first column."""
    start = "|".join(line.split("|")[:2]) + "|"
    lines = path.read_text(encoding="utf-8").split("\n")
    path.write_text("\n".join(line if old.startswith(start) else old for old in lines), encoding="utf-8")
