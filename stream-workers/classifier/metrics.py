"""Figures of a classifier, and the tables in which they are shown."""

from __future__ import annotations

import numpy as np

from labels import LABELS


def confusion(truth: np.ndarray, found: np.ndarray) -> np.ndarray:
    """Counts [label that is true, label that was found]."""
    table = np.zeros((len(LABELS), len(LABELS)), np.int64)
    np.add.at(table, (truth, found), 1)
    return table


def per_label(table: np.ndarray) -> list[tuple[str, int, float, float]]:
    """Label, rows, precision and recall; a figure without a row is NaN."""
    rows, answers, right = table.sum(axis=1), table.sum(axis=0), np.diag(table)
    with np.errstate(invalid="ignore"):
        precision, recall = right / answers, right / rows
    return [(name, int(rows[i]), float(precision[i]), float(recall[i])) for i, name in enumerate(LABELS)]


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
    """A Markdown table of precision and recall for each label."""
    lines = ["| label | webhooks | precision | recall |", "| --- | --- | --- | --- |"]
    for name, rows, precision, recall in per_label(table):
        lines.append(f"| {name} | {rows} | {percent(precision)} | {percent(recall)} |")
    return lines


def confusion_table(table: np.ndarray, count: int = 10) -> list[str]:
    """A Markdown table of the most frequent mistakes."""
    lines = ["| true | found | webhooks |", "| --- | --- | --- |"]
    lines += [f"| {true} | {found} | {times} |" for true, found, times in top_confusions(table, count)]
    return lines


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
