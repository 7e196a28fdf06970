"""Webhooks as the model sees them: rows of feature numbers, with labels and providers.

The features are read by the same Rust code that serves the model, through
`stream-workers features`; nothing here knows how they are made.
"""

from __future__ import annotations

import json
import subprocess
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from labels import LABELS

BUCKETS = 32_768
MAX_FEATURES = 256
HERE = Path(__file__).resolve().parent
BINARY = HERE.parents[1] / "target" / "release" / "stream-workers"


@dataclass(frozen=True)
class Rows:
    """Rows of features, one after the other: row `i` is `ids[starts[i]:starts[i + 1]]`."""

    ids: np.ndarray  # int32 [total]
    starts: np.ndarray  # int64 [rows + 1]

    def __len__(self) -> int:
        return len(self.starts) - 1

    def take(self, rows: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """The ids of these rows and, for each id, its place among them: two flat arrays."""
        lengths = self.starts[rows + 1] - self.starts[rows]
        place = np.repeat(np.arange(len(rows)), lengths)
        before = np.cumsum(lengths) - lengths
        offsets = np.arange(lengths.sum()) - np.repeat(before, lengths)
        return self.ids[np.repeat(self.starts[rows], lengths) + offsets], place

    def padded(self, rows: np.ndarray) -> np.ndarray:
        """The rows as int64 [rows, longest], filled up with `BUCKETS`."""
        ids, place = self.take(rows)
        lengths = np.bincount(place, minlength=len(rows))
        table = np.full((len(rows), max(1, int(lengths.max(initial=1)))), BUCKETS, dtype=np.int64)
        before = np.cumsum(lengths) - lengths
        table[place, np.arange(len(ids)) - np.repeat(before, lengths)] = ids
        return table


@dataclass(frozen=True)
class Dataset:
    """Rows with what is known of each."""

    rows: Rows
    labels: np.ndarray  # int64 [rows], an index of LABELS
    providers: np.ndarray  # str [rows]

    def __len__(self) -> int:
        return len(self.rows)


def read_features(path: Path, binary: Path = BINARY) -> Rows:
    """Runs the program over a file of JSON lines. Raises if it fails or writes another number of lines."""
    with path.open("rb") as file:
        expected = sum(1 for line in file if line.strip())
        file.seek(0)
        done = subprocess.run([str(binary), "features"], stdin=file, stdout=subprocess.PIPE, check=True)
    lines = done.stdout.decode().split("\n")[:-1]
    if len(lines) != expected:
        raise ValueError(f"{expected} webhooks gave {len(lines)} lines of features")
    counts = np.array([len(line.split()) for line in lines], dtype=np.int64)
    ids = np.array(" ".join(lines).split(), dtype=np.int32)
    if len(ids) and (ids.min() < 0 or ids.max() >= BUCKETS or counts.max() > MAX_FEATURES):
        raise ValueError("features out of range: is this program of another scheme?")
    return Rows(ids, np.concatenate(([0], np.cumsum(counts))))


def load(path: Path, binary: Path = BINARY) -> Dataset:
    """Reads a file of labelled webhooks."""
    labels: list[int] = []
    providers: list[str] = []
    with path.open(encoding="utf-8") as file:
        for line in file:
            record = json.loads(line)
            labels.append(LABELS.index(record["label"]))
            providers.append(record["provider"])
    return Dataset(read_features(path, binary), np.array(labels), np.array(providers))


def split_by_provider(data: Dataset, share: float, seed: int) -> tuple[np.ndarray, np.ndarray]:
    """Row numbers to train on and to hold out: that share of each label's providers entirely.

    A provider with events of several labels is held out of all of them. Raises
    if a label would be left without a row on either side.
    """
    rng = np.random.default_rng(seed)
    held: set[str] = set()
    counts = np.bincount(data.labels, minlength=len(LABELS))
    for label in np.argsort(counts, kind="stable"):
        names = np.unique(data.providers[data.labels == label])
        wanted = int(np.ceil(share * len(names))) - sum(name in held for name in names)
        free = [name for name in names if name not in held]
        if wanted > 0:
            held.update(rng.choice(free, size=wanted, replace=False))
    out = np.isin(data.providers, sorted(held))
    for side in (out, ~out):
        missing = set(range(len(LABELS))) - set(data.labels[side])
        if missing:
            raise ValueError(f"too few providers of {[LABELS[label] for label in missing]}")
    return np.flatnonzero(~out), np.flatnonzero(out)
