"""Webhooks as the model sees them: tokens as buckets, words with the places where they stood.

Tokens are read by the same Rust code that serves the model (`stream-workers tokens`).
Buckets and words are made of them here as `src/classify/features.rs` and `vocabulary.rs`
do there; that both agree is what the model's stored cases check when it is loaded.
"""

from __future__ import annotations

import json
import subprocess
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from labels import LABELS

BUCKETS = 32_768
MAX_TOKENS = 128
MAX_WORDS = 96
GROUPS = 6
SCHEME = 2
#: Places of tokens that are single words, and which words are averaged together.
GROUP_OF = {"e": 0, "k": 1, "d": 2, "z": 3, "v": 3, "u": 3, "n": 4, "t": 4, "x": 4, "h": 5, "w": 5}
HERE = Path(__file__).resolve().parent
BINARY = HERE.parents[1] / "target" / "release" / "stream-workers"


@dataclass(frozen=True)
class Rows:
    """What a model is shown of webhooks, filled up to the largest size."""

    tokens: np.ndarray  # int32 [rows, MAX_TOKENS], filled with BUCKETS
    words: np.ndarray  # int32 [rows, MAX_WORDS], filled with the size of the vocabulary
    groups: np.ndarray  # int8 [rows, MAX_WORDS]

    def __len__(self) -> int:
        return len(self.tokens)

    def take(self, which: np.ndarray) -> "Rows":
        """These rows."""
        return Rows(self.tokens[which], self.words[which], self.groups[which])


@dataclass(frozen=True)
class Webhooks:
    """Labelled webhooks and their tokens."""

    tokens: list[list[str]]
    labels: np.ndarray  # int64 [rows], an index of LABELS
    also: list[tuple[int, ...]]
    providers: np.ndarray  # str [rows]

    def __len__(self) -> int:
        return len(self.tokens)

    def take(self, which: np.ndarray) -> "Webhooks":
        """These webhooks."""
        some = [int(i) for i in which]
        return Webhooks(
            [self.tokens[i] for i in some], self.labels[which], [self.also[i] for i in some], self.providers[which]
        )


def read_tokens(path: Path, binary: Path = BINARY) -> list[list[str]]:
    """Runs the program over a file of JSON lines. Raises if it fails or writes another number of lines."""
    with path.open("rb") as file:
        expected = sum(1 for line in file if line.strip())
    done = subprocess.run([str(binary), "tokens", "--input", str(path)], stdout=subprocess.PIPE, check=True)
    found = [json.loads(line) for line in done.stdout.decode().split("\n")[:-1]]
    if len(found) != expected:
        raise ValueError(f"{expected} webhooks gave {len(found)} lines of tokens")
    return found


def load(path: Path, binary: Path = BINARY) -> Webhooks:
    """Reads a file of labelled webhooks."""
    with path.open(encoding="utf-8") as file:
        records: list[dict[str, Any]] = [json.loads(line) for line in file]
    return Webhooks(
        read_tokens(path, binary),
        np.array([LABELS.index(record["label"]) for record in records]),
        [tuple(LABELS.index(label) for label in record.get("also", [])) for record in records],
        np.array([record["provider"] for record in records]),
    )


def corrections(path: Path) -> Webhooks:
    """What `control-plane correction export` wrote: tokens and the right label. Others than LABELS are left out."""
    with path.open(encoding="utf-8") as file:
        records = [json.loads(line) for line in file if line.strip()]
    usable = [r for r in records if r["scheme"] == SCHEME and r["label"] in LABELS]
    return Webhooks(
        [record["tokens"] for record in usable],
        np.array([LABELS.index(record["label"]) for record in usable], np.int64),
        [() for _ in usable],
        np.array([f"correction-{i}" for i in range(len(usable))]),
    )


def join(first: Webhooks, second: Webhooks) -> Webhooks:
    """One after the other."""
    return Webhooks(
        first.tokens + second.tokens,
        np.concatenate([first.labels, second.labels]),
        first.also + second.also,
        np.concatenate([first.providers, second.providers]),
    )


def bucket(token: str) -> int:
    """FNV-1a of place and text, finished as MurmurHash3 does."""
    hashed = ((0x811C9DC5 ^ ord(token[0])) * 0x01000193) & 0xFFFFFFFF
    for byte in token[2:].encode():
        hashed = ((hashed ^ byte) * 0x01000193) & 0xFFFFFFFF
    hashed = ((hashed ^ (hashed >> 16)) * 0x85EBCA6B) & 0xFFFFFFFF
    hashed = ((hashed ^ (hashed >> 13)) * 0xC2B2AE35) & 0xFFFFFFFF
    return (hashed ^ (hashed >> 16)) % BUCKETS


class Vocabulary:
    """The words that a model knows, by number."""

    def __init__(self, words: list[str]) -> None:
        self.words = words
        self.numbers = {word: number for number, word in enumerate(words)}

    def __len__(self) -> int:
        return len(self.words)

    def find(self, word: str) -> tuple[int, ...]:
        """The number of a word, or of the two words of which it is made, the first as long as possible."""
        if word in self.numbers:
            return (self.numbers[word],)
        if len(word) >= 5 and word.isascii():
            for cut in range(len(word) - 2, 2, -1):
                if word[:cut] in self.numbers and word[cut:] in self.numbers:
                    return (self.numbers[word[:cut]], self.numbers[word[cut:]])
        return ()


def stem(word: str) -> str:
    """A word without a plural `s`, as the tokens have it."""
    return word[:-1] if len(word) > 3 and word[-1] == "s" and word[-2] not in "sui" else word


def vocabulary(data: Webhooks, known: list[str], least: int = 3) -> Vocabulary:
    """Words that at least that many providers use, the most used first, and those that the base knows."""
    users: dict[str, set[str]] = {}
    for tokens, provider in zip(data.tokens, data.providers):
        for token in tokens:
            if token[0] in GROUP_OF:
                users.setdefault(token[2:], set()).add(provider)
    common = [word for word, names in users.items() if len(names) >= least and word.isalpha() and len(word) > 1]
    common.sort(key=lambda word: (-len(users[word]), word))
    return Vocabulary(list(dict.fromkeys(common + [stem(word) for word in known])))


def rows(tokens: list[list[str]], vocabulary: Vocabulary) -> Rows:
    """Tokens as numbers, without doubles, in their order, cut at the largest size."""
    table = Rows(
        np.full((len(tokens), MAX_TOKENS), BUCKETS, np.int32),
        np.full((len(tokens), MAX_WORDS), len(vocabulary), np.int32),
        np.zeros((len(tokens), MAX_WORDS), np.int8),
    )
    known: dict[str, tuple[int, list[tuple[int, int]]]] = {}
    for row, texts in enumerate(tokens):
        buckets: dict[int, None] = {}
        words: dict[tuple[int, int], None] = {}
        for token in texts:
            entry = known.get(token)
            if entry is None:
                group = GROUP_OF.get(token[0])
                pairs = [] if group is None else [(word, group) for word in vocabulary.find(token[2:])]
                entry = known[token] = (bucket(token), pairs)
            buckets.setdefault(entry[0])
            for pair in entry[1]:
                words.setdefault(pair)
        cut = list(buckets)[:MAX_TOKENS]
        table.tokens[row, : len(cut)] = cut
        pairs = list(words)[:MAX_WORDS]
        if pairs:
            table.words[row, : len(pairs)] = [word for word, _ in pairs]
            table.groups[row, : len(pairs)] = [group for _, group in pairs]
    return table


def folds(providers: np.ndarray, count: int, seed: int) -> np.ndarray:
    """A fold for each row, whole providers together."""
    names = np.unique(providers)
    order = np.random.default_rng(seed).permutation(len(names))
    of = {name: int(place) % count for name, place in zip(names[order], range(len(names)))}
    return np.array([of[name] for name in providers])
