"""Keeps reserved providers out of the corpus.

The evaluation set reserves some providers so that there is a figure for senders
the model has never seen. A template that names one of them anywhere must not
reach training. This module decides that; `generate.py` refuses or skips by it.
"""

from __future__ import annotations

import json
import re
from pathlib import Path
from typing import Any, Iterator

_NOT_WORD = re.compile(r"[^a-z0-9]+")


def normalise(text: str) -> str:
    """Lower-case letters and digits only: `Ko-fi` and `ko_fi` are both `kofi`."""
    return _NOT_WORD.sub("", text.lower())


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


def violation(record: dict[str, Any], names: list[str]) -> str | None:
    """Says where `record` names a reserved provider, or None.

    Containing is enough, on purpose: a hit in `postal_code` costs a template,
    a miss would cost the figure its meaning.
    """
    headers = record.get("headers", {})
    places = [("provider", [record.get("provider", "")])]
    places.append(("header", [text for pair in headers.items() for text in pair]))
    places.append(("body", list(strings(record.get("body")))))
    for place, texts in places:
        for text in texts:
            plain = normalise(str(text))
            for name in names:
                if name in plain:
                    shown = json.dumps(text)[:80]
                    return f"{place} {shown} contains the reserved name {name!r}"
    return None
