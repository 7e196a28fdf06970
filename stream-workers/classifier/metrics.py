"""Figures of a classifier, and the tables in which they are shown."""

from __future__ import annotations

import numpy as np

from labels import LABELS

BINS = 10


def softmax(logits: np.ndarray) -> np.ndarray:
    """Row by row."""
    powers = np.exp(logits - logits.max(axis=1, keepdims=True))
    return powers / powers.sum(axis=1, keepdims=True)


def confusion(truth: np.ndarray, found: np.ndarray) -> np.ndarray:
    """Counts [label that is true, label that was found]."""
    table = np.zeros((len(LABELS), len(LABELS)), np.int64)
    np.add.at(table, (truth, found), 1)
    return table


def per_label(table: np.ndarray) -> list[tuple[str, int, float, float, float]]:
    """Label, rows, precision, recall and F1; a figure without a row is NaN."""
    rows, answers, right = table.sum(axis=1), table.sum(axis=0), np.diag(table)
    with np.errstate(invalid="ignore"):
        precision, recall, f1 = right / answers, right / rows, 2 * right / (rows + answers)
    return [
        (name, int(rows[i]), float(precision[i]), float(recall[i]), float(f1[i])) for i, name in enumerate(LABELS)
    ]


def macro_f1(table: np.ndarray) -> float:
    """The mean of the labels' F1, over labels that have rows."""
    return float(np.mean([f1 for _, rows, _, _, f1 in per_label(table) if rows]))


def top_confusions(table: np.ndarray, count: int) -> list[tuple[str, str, int]]:
    """The most frequent mistakes: true label, found label, how often."""
    wrong = table.copy()
    np.fill_diagonal(wrong, 0)
    order = np.argsort(-wrong, axis=None, kind="stable")[:count]
    pairs = [divmod(int(place), len(LABELS)) for place in order]
    return [(LABELS[a], LABELS[b], int(wrong[a, b])) for a, b in pairs if wrong[a, b]]


def percent(value: float) -> str:
    """`93.1 %`, or a dash where there is no figure."""
    return "-" if np.isnan(value) else f"{100 * value:.1f} %"


def label_table(table: np.ndarray) -> list[str]:
    """A Markdown table of precision, recall and F1 for each label."""
    lines = ["| label | webhooks | precision | recall | F1 |", "| --- | --- | --- | --- | --- |"]
    for name, rows, precision, recall, f1 in per_label(table):
        lines.append(f"| {name} | {rows} | {percent(precision)} | {percent(recall)} | {percent(f1)} |")
    return lines


def confusion_table(table: np.ndarray) -> list[str]:
    """The whole table of confusions in Markdown: a row for each true label."""
    lines = ["| true \\ found | " + " | ".join(LABELS) + " |", "| --- |" + " --- |" * len(LABELS)]
    for name, row in zip(LABELS, table):
        lines.append(f"| {name} | " + " | ".join(str(count) if count else "" for count in row) + " |")
    return lines


def mistakes(table: np.ndarray, count: int = 10) -> list[str]:
    """A Markdown table of the most frequent mistakes."""
    lines = ["| true | found | webhooks |", "| --- | --- | --- |"]
    lines += [f"| {true} | {found} | {times} |" for true, found, times in top_confusions(table, count)]
    return lines


def calibration_error(confidence: np.ndarray, right: np.ndarray) -> float:
    """Expected calibration error over ten bins of equal width (Guo et al. 2017)."""
    bins = np.minimum((confidence * BINS).astype(int), BINS - 1)
    gaps = [
        (bins == b).sum() * abs(confidence[bins == b].mean() - right[bins == b].mean())
        for b in range(BINS)
        if (bins == b).any()
    ]
    return float(np.sum(gaps) / len(confidence))


def calibration_table(confidence: np.ndarray, right: np.ndarray) -> list[str]:
    """How often answers of each confidence are right, in Markdown."""
    bins = np.minimum((confidence * BINS).astype(int), BINS - 1)
    lines = ["| confidence | webhooks | mean | right |", "| --- | --- | --- | --- |"]
    for b in range(BINS):
        here = bins == b
        if here.any():
            mean, good = percent(float(confidence[here].mean())), percent(float(right[here].mean()))
            lines.append(f"| {b / BINS:.1f} to {(b + 1) / BINS:.1f} | {here.sum()} | {mean} | {good} |")
    return lines


def coverage(confidence: np.ndarray, right: np.ndarray, precision: float) -> tuple[float, float]:
    """The largest share of answers, the surest first, that keeps this precision; and its least confidence."""
    order = np.argsort(-confidence, kind="stable")
    shares = np.cumsum(right[order]) / np.arange(1, len(order) + 1)
    good = np.flatnonzero(shares >= precision)
    if not len(good):
        return 0.0, 1.0
    return float((good[-1] + 1) / len(order)), float(confidence[order[good[-1]]])


def nll(logits: np.ndarray, labels: np.ndarray, temperature: float = 1.0) -> float:
    """Mean negative log likelihood at a temperature."""
    scaled = logits / temperature
    scaled = scaled - scaled.max(axis=1, keepdims=True)
    log_sum = np.log(np.exp(scaled).sum(axis=1))
    return float((log_sum - scaled[np.arange(len(labels)), labels]).mean())


def best_temperature(logits: np.ndarray, labels: np.ndarray) -> float:
    """The temperature with the least loss, among steps of 2 % from 0.3 to 6."""
    steps = 0.3 * 1.02 ** np.arange(152)
    return float(min(steps, key=lambda temperature: nll(logits, labels, float(temperature))))
