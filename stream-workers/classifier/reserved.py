"""Keeps reserved providers out of the corpus.

The evaluation set reserves some providers so that there is a figure for senders
the model has never seen. A template that names one of them anywhere must not
reach training. This module decides that; `generate.py` refuses or skips by it.
"""

from __future__ import annotations

import json
import re
from functools import cache
from pathlib import Path
from typing import Any, Iterator

_NOT_WORD = re.compile(r"[^a-z0-9]+")
_BETWEEN = re.compile(r"[^a-z0-9\n]+")
_WORDS = re.compile(r"[A-Z]+(?![a-z])|[A-Z]?[a-z]+|\d+")
#: A field of every address, and no provider.
_POSTAL_CODE = re.compile(r"postal[-_ ]?code", re.IGNORECASE)
#: Reserved names that are plain words of English: these count only where they stand as a word of their own. The
#: others count within a word, too, since nothing else is called so.
PLAIN_WORDS = frozenset("beanstalk box folk fountain groove pinch postal refiner semaphore vero".split())


def normalise(text: str) -> str:
    """Lower-case letters and digits only: `Ko-fi` and `ko_fi` are both `kofi`."""
    return _NOT_WORD.sub("", text.lower())


def named(text: str, names: list[str]) -> str | None:
    """The reserved name that a text holds, whatever its spelling: `X-Zeplin-Id`, `ko_fi`, `customer.io`."""
    words = [word.lower() for word in _WORDS.findall(_POSTAL_CODE.sub("", text))]
    runs = {"".join(words[at : at + length]) for at in range(len(words)) for length in (1, 2, 3)}
    for name in names:
        if name in runs:
            return name
        if name not in PLAIN_WORDS and any(name in word for word in words):
            return name
    return None


def strings(node: Any) -> Iterator[str]:
    """Every key and every value of a JSON value, as text."""
    if isinstance(node, dict):
        for key, value in node.items():
            yield str(key)
            yield from strings(value)
    elif isinstance(node, list):
        for value in node:
            yield from strings(value)
    elif node is not None:
        yield str(node)


def load_names(path: Path) -> list[str]:
    """The normalised names of a file with one provider a line."""
    lines = path.read_text(encoding="utf-8").splitlines()
    return [name for name in map(normalise, lines) if name]


@cache
def _any_of(names: tuple[str, ...]) -> re.Pattern[str]:
    return re.compile("|".join(map(re.escape, names)) or "(?!)")


def violation(record: dict[str, Any], names: list[str]) -> str | None:
    """Says where `record` names a reserved provider, or None."""
    # Where no name stands even when everything between letters is taken out, no closer look is needed.
    everything = [str(record.get("provider", "")), *strings(record.get("headers", {})), *strings(record.get("body"))]
    if not _any_of(tuple(names)).search(_BETWEEN.sub("", "\n".join(everything).lower())):
        return None
    headers = record.get("headers", {})
    places = [("provider", [record.get("provider", "")])]
    places.append(("header", [text for pair in headers.items() for text in pair]))
    places.append(("body", list(strings(record.get("body")))))
    for place, texts in places:
        for text in texts:
            name = named(str(text), names)
            if name:
                return f"{place} {json.dumps(text)[:80]} contains the reserved name {name!r}"
    return None
