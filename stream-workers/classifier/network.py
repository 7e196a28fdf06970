"""The network and its training, by hand in numpy.

Embedding of each feature (a row of a table), mean over a webhook's features, one
hidden layer with ReLU, one logit for each label. Adam; only the rows of the table
that a minibatch has met are changed by it.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np

from dataset import BUCKETS, Rows
from labels import LABELS

Params = dict[str, np.ndarray]


@dataclass(frozen=True)
class Settings:
    """What a training run is made of."""

    width: int = 64
    hidden: int = 128
    batch: int = 256
    rate: float = 2e-3
    #: Share of a row's features that a training step does not see.
    feature_dropout: float = 0.5
    smoothing: float = 0.05
    #: Decoupled L2 decay for a step at full rate.
    decay: float = 0.02
    #: Epochs until the rate has sunk to nothing, whether or not training goes on so long.
    horizon: int = 16
    seed: int = 1


def new_params(settings: Settings) -> Params:
    """Fresh parameters: float32."""
    rng = np.random.default_rng(settings.seed)

    def normal(*shape: int, scale: float) -> np.ndarray:
        return (rng.standard_normal(shape) * scale).astype(np.float32)

    labels = len(LABELS)
    return {
        "table": normal(BUCKETS, settings.width, scale=0.1),
        "w1": normal(settings.width, settings.hidden, scale=float(np.sqrt(2 / settings.width))),
        "b1": np.zeros(settings.hidden, np.float32),
        "w2": normal(settings.hidden, labels, scale=float(np.sqrt(1 / settings.hidden))),
        "b2": np.zeros(labels, np.float32),
    }


def softmax(logits: np.ndarray) -> np.ndarray:
    """Row by row."""
    powers = np.exp(logits - logits.max(axis=1, keepdims=True))
    return powers / powers.sum(axis=1, keepdims=True)


def pool(table: np.ndarray, ids: np.ndarray, place: np.ndarray, count: int) -> tuple[np.ndarray, np.ndarray]:
    """Means of the table's rows for each of `count` webhooks, and by what each sum was divided.

    `place` must not fall. A webhook without features has a mean of zeros.
    """
    lengths = np.bincount(place, minlength=count)
    sums = np.zeros((count, table.shape[1]), np.float32)
    some = np.flatnonzero(lengths)
    if len(some):
        starts = (np.cumsum(lengths) - lengths)[some]
        sums[some] = np.add.reduceat(table[ids], starts, axis=0)
    divisors = np.maximum(lengths, 1).astype(np.float32)[:, None]
    return sums / divisors, divisors


def logits_of(params: Params, rows: Rows, which: np.ndarray, batch: int = 2048) -> np.ndarray:
    """Logits [len(which), labels], nothing left out."""
    parts = []
    for start in range(0, len(which), batch):
        part = which[start : start + batch]
        ids, place = rows.take(part)
        mean, _ = pool(params["table"], ids, place, len(part))
        hidden = np.maximum(mean @ params["w1"] + params["b1"], 0)
        parts.append(hidden @ params["w2"] + params["b2"])
    return np.concatenate(parts) if parts else np.zeros((0, len(LABELS)), np.float32)


class Trainer:
    """Parameters, Adam's state and one epoch after the other."""

    def __init__(self, rows: Rows, labels: np.ndarray, which: np.ndarray, settings: Settings) -> None:
        self.params = new_params(settings)
        self._rows, self._labels, self._which, self._settings = rows, labels, which, settings
        self._rng = np.random.default_rng(settings.seed + 1)
        self._first = {name: np.zeros_like(value) for name, value in self.params.items()}
        self._second = {name: np.zeros_like(value) for name, value in self.params.items()}
        self._step = 0
        counts = np.maximum(np.bincount(labels[which], minlength=len(LABELS)), 1)
        # Rare labels count more, but not so much that a few templates rule.
        weights = (counts.mean() / counts) ** 0.5
        self._weights = (weights / weights.mean()).astype(np.float32)

    def epochs(self) -> Iterator[float]:
        """Trains an epoch each time it is asked; yields its mean loss."""
        steps_left = self._settings.horizon * -(-len(self._which) // self._settings.batch)
        total = steps_left
        for _ in range(self._settings.horizon):
            order = self._rng.permutation(self._which)
            losses = []
            for start in range(0, len(order), self._settings.batch):
                rate = self._settings.rate * 0.5 * (1 + np.cos(np.pi * (1 - steps_left / total)))
                losses.append(self._train(order[start : start + self._settings.batch], float(rate)))
                steps_left -= 1
            yield float(np.mean(losses))

    def _train(self, batch: np.ndarray, rate: float) -> float:
        params, count = self.params, len(batch)
        ids, place = self._rows.take(batch)
        keep = self._rng.random(len(ids)) >= self._settings.feature_dropout
        ids, place = ids[keep], place[keep]
        mean, divisors = pool(params["table"], ids, place, count)
        raw = mean @ params["w1"] + params["b1"]
        hidden = np.maximum(raw, 0)
        chances = softmax(hidden @ params["w2"] + params["b2"])

        truth = np.full_like(chances, self._settings.smoothing / len(LABELS))
        labels = self._labels[batch]
        truth[np.arange(count), labels] += 1 - self._settings.smoothing
        weights = self._weights[labels][:, None]
        loss = float(-(weights * truth * np.log(chances + 1e-9)).sum() / count)

        d_logits = weights * (chances - truth) / count
        d_raw = (d_logits @ params["w2"].T) * (raw > 0)
        d_mean = (d_raw @ params["w1"].T) / divisors
        self._step += 1
        self._adam("w2", hidden.T @ d_logits, rate)
        self._adam("b2", d_logits.sum(axis=0), rate)
        self._adam("w1", mean.T @ d_raw, rate)
        self._adam("b1", d_raw.sum(axis=0), rate)
        if len(ids):
            order = np.argsort(ids, kind="stable")
            met, starts = np.unique(ids[order], return_index=True)
            self._adam("table", np.add.reduceat(d_mean[place[order]], starts, axis=0), rate, met)
        return loss

    def _adam(self, name: str, gradient: np.ndarray, rate: float, met: np.ndarray | None = None) -> None:
        """One step of Adam with decoupled decay, on the rows `met` only where these are given."""
        at = slice(None) if met is None else met
        first = 0.9 * self._first[name][at] + 0.1 * gradient
        second = 0.999 * self._second[name][at] + 0.001 * gradient * gradient
        self._first[name][at], self._second[name][at] = first, second
        first = first / (1 - 0.9**self._step)
        second = second / (1 - 0.999**self._step)
        value = self.params[name][at]
        decay = 0.0 if name.startswith("b") else self._settings.decay
        self.params[name][at] = value - rate * (first / (np.sqrt(second) + 1e-8) + decay * value)
