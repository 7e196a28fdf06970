"""Writes the model's card. All figures come from the run that writes them.

`train.py` writes the card, `evaluate.py` puts its figures under the last heading.
"""

from __future__ import annotations

from collections import Counter
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from dataset import BUCKETS, MAX_FEATURES, Dataset
from labels import LABELS
from metrics import confusion_table, label_table, percent

if TYPE_CHECKING:
    from train import Search

EVALUATION = "## Figures on real payloads"
_NOT_YET = "Not measured yet for this model: run `evaluate.py`."

_WHAT = """# Model card: webhook classifier {version}

## What it is
A small network that says which of {labels} kinds of event a webhook reports, from its header
names and values and from the keys and values of its body. Each word is hashed into one of
{buckets} features, at most {max} for a webhook; each feature has a row of {width} numbers; their
mean goes through one hidden layer of {hidden} to one probability for each label:
{names}.
Below the threshold of {threshold} the answer is `other`.

## Data
Webhooks made by `generate.py` from templates written by hand: {webhooks} webhooks of
{providers} providers. Values are random, and each webhook differs from its template in
spelling, envelope, order, fields left out and added; seven of ten lose the sender's name.
No payload of the evaluation set was used, and no template that names a provider reserved there.

| label | webhooks | providers |
| --- | --- | --- |
{data}

## Procedure
{held_providers} of the providers ({held_webhooks} webhooks) were held out entirely while
{train_providers} trained; the best epoch on them was {epochs}, the temperature fitted on them
{temperature:.2f}. The model kept here was then trained on everything for {epochs} epochs.
Settings: {settings}. Trained in {seconds:.0f} s.

## Figures on held-out providers
Accuracy {accuracy} on made webhooks of providers that training had not seen. The epoch and the
temperature were chosen on the same providers, so the figure is a little kind.

{table}

Most frequent mistakes:

{mistakes}

## Limits
- Trained on made webhooks: their variety is that of the templates. The figures on real payloads
  below are the ones to go by.
- Words are English; an event in another language is known by its keys alone.
- A body without words (numbers, binary) gives no features, and a guess that means nothing.
- Documents are read from the top and no further than {max} features.
- Confidence is calibrated on made webhooks; on real ones it can be too high.

## How to make it again
The commands stand in `../README.md`. The same templates, seed and versions give the same data;
the file can differ in its last digits between processors.
"""


def _data_rows(data: Dataset) -> list[str]:
    counts = Counter(data.labels.tolist())
    return [
        f"| {name} | {counts[index]} | {len(np.unique(data.providers[data.labels == index]))} |"
        for index, name in enumerate(LABELS)
    ]


def write_training(
    path: Path,
    facts: dict[str, Any],
    data: Dataset,
    settings: dict[str, Any],
    found: Search,
    seconds: float,
) -> None:
    """Writes the card of a newly trained model, without figures on real payloads."""
    text = _WHAT.format(
        version=facts["version"],
        labels=len(LABELS),
        names=", ".join(f"`{name}`" for name in LABELS),
        buckets=BUCKETS,
        max=MAX_FEATURES,
        width=settings["width"],
        hidden=settings["hidden"],
        threshold=facts["threshold"],
        webhooks=len(data),
        providers=len(np.unique(data.providers)),
        data="\n".join(_data_rows(data)),
        held_providers=found.held_providers,
        held_webhooks=found.held_webhooks,
        train_providers=f"{found.train_providers} others",
        epochs=found.epochs,
        temperature=found.temperature,
        settings=", ".join(f"{name} {value}" for name, value in settings.items()),
        seconds=seconds,
        accuracy=percent(found.accuracy),
        table="\n".join(label_table(found.confusion)),
        mistakes="\n".join(confusion_table(found.confusion)),
    )
    path.write_text(f"{text}\n{EVALUATION}\n{_NOT_YET}\n", encoding="utf-8")


def write_evaluation(path: Path, report: str) -> None:
    """Puts the report of `evaluate.py` in place of what stood under the last heading."""
    text = path.read_text(encoding="utf-8")
    before, heading, _ = text.partition(EVALUATION)
    if not heading:
        raise ValueError(f"{path} has no heading {EVALUATION!r}")
    path.write_text(f"{before}{EVALUATION}\n{report.rstrip()}\n", encoding="utf-8")
