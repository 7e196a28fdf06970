"""Names: writing styles of keys and event names, and brands.

Owns how a name is split and written anew, and how a provider's name is taken
out of a webhook so that the model learns kinds of events rather than senders.
"""

from __future__ import annotations

import re
from random import Random
from typing import Any, Callable

_PARTS = re.compile(r"[A-Z]+(?![a-z])|[A-Z]?[a-z]+|\d+")
#: What an event's name looks like: a few words, no sentence, no address.
EVENT_LIKE = re.compile(r"[A-Za-z][A-Za-z]+(?:[._:/ -]?[A-Za-z]+){0,5}")
#: Keys whose value names the event, in any style.
EVENT_KEYS = frozenset(
    "type event eventtype eventname action topic kind trigger hooktype webhookevent "
    "objectkind notificationtype messagetype operation verb".split()
)
_SYLLABLES = (
    "ba be bri cal cro da den dor el fen fi gal gri hal ho in jo ka kel lar li lu ma mer mi "
    "na nim no or pel pli qua ra ren ri sa sen so ta tel tri ul va vel vin wa wen xi ya zan zu"
).split()


def split(name: str) -> list[str]:
    """The words of `invoice_paid`, `invoicePaid`, `Invoice paid`, in lower case."""
    return [part.lower() for part in _PARTS.findall(name)]


def plain(name: str) -> str:
    """The words of a name without anything between them, to compare by."""
    return "".join(split(name))


def camel(words: list[str]) -> str:
    """`invoicePaid`."""
    return words[0] + "".join(word.capitalize() for word in words[1:])


def pascal(words: list[str]) -> str:
    """`InvoicePaid`."""
    return "".join(word.capitalize() for word in words)


KEY_STYLES: tuple[Callable[[list[str]], str], ...] = ("_".join, camel, pascal, "-".join)
EVENT_STYLES: tuple[Callable[[list[str]], str], ...] = (
    ".".join,
    "_".join,
    "-".join,
    ":".join,
    "/".join,
    pascal,
    camel,
    lambda words: " ".join(words).capitalize(),
    lambda words: "_".join(words).upper(),
    lambda words: ".".join((words[0], "_".join(words[1:]))) if len(words) > 1 else words[0],
)


def restyle_key(key: str, style: Callable[[list[str]], str]) -> str:
    """Writes a key in a style; keys that are no plain name (paths, addresses) stay."""
    words = split(key)
    if not words or not re.fullmatch(r"[A-Za-z][\w\- ]*", key):
        return key
    return style(words)


def restyle_event(name: str, rng: Random) -> str:
    """Writes an event's name in any style."""
    words = split(name)
    return rng.choice(EVENT_STYLES)(words) if words else name


def brand(rng: Random, forbidden: list[str]) -> str:
    """A made-up provider's name, lower case, which contains none of `forbidden`."""
    while True:
        name = "".join(rng.choices(_SYLLABLES, k=rng.randint(2, 4)))
        if not any(word in name for word in forbidden):
            return name


class Rebrand:
    """Takes a provider's name out of texts, or puts another in its place."""

    def __init__(self, provider: str, headers: dict[str, str], substitute: str) -> None:
        words = [word for word in re.split(r"[^A-Za-z0-9]+", provider) if word]
        names = [r"[\W_]?".join(map(re.escape, words))]
        head = words[0].lower() if words else ""
        # `azure-devops` also signs as `x-azure-...`; such a first word is a brand of its own.
        if len(words) > 1 and any(name.lower().startswith(f"x-{head}") for name in headers):
            names.append(re.escape(head))
        self._pattern = re.compile("|".join(names), re.IGNORECASE) if words else None
        self._substitute = substitute

    def text(self, text: str) -> str:
        """One text without the provider's name; capitals are kept."""
        if self._pattern is None:
            return text

        def one(match: re.Match[str]) -> str:
            return self._substitute.capitalize() if match.group()[0].isupper() else self._substitute

        return self._pattern.sub(one, text)

    def tree(self, node: Any) -> Any:
        """A whole JSON value without the provider's name, keys included."""
        if isinstance(node, dict):
            return {self.text(key): self.tree(value) for key, value in node.items()}
        if isinstance(node, list):
            return [self.tree(value) for value in node]
        return self.text(node) if isinstance(node, str) else node
