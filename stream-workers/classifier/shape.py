"""The shape of a JSON body: envelopes, order, what is left out, what is added.

Every function returns a new value and draws from the `random.Random` it is given.
"""

from __future__ import annotations

import json
from random import Random
from typing import Any, Callable
from urllib.parse import urlencode

from naming import EVENT_KEYS, plain
from values import MAKERS

Object = dict[str, Any]

INNER = ("data", "payload", "object", "event", "resource", "body", "content", "details", "record")
#: Neutral fields that say nothing of the kind of event.
NOISE: tuple[tuple[str, Callable[[Random], Any]], ...] = (
    ("id", MAKERS["id"]),
    ("uuid", MAKERS["uuid"]),
    ("webhook_id", MAKERS["id"]),
    ("delivery_id", MAKERS["uuid"]),
    ("request_id", MAKERS["uuid"]),
    ("timestamp", MAKERS["iso"]),
    ("sent_at", MAKERS["unix"]),
    ("created_at", MAKERS["iso"]),
    ("updated_at", MAKERS["iso"]),
    ("tenant_id", MAKERS["id"]),
    ("account_id", MAKERS["id"]),
    ("organization_id", MAKERS["id"]),
    ("workspace", MAKERS["word"]),
    ("environment", lambda r: r.choice(("production", "prod", "live", "sandbox", "test"))),
    ("livemode", MAKERS["bool"]),
    ("test", MAKERS["bool"]),
    ("api_version", MAKERS["version"]),
    ("version", MAKERS["version"]),
    ("attempt", lambda r: r.randint(1, 5)),
    ("url", MAKERS["url"]),
    ("links", lambda r: {"self": MAKERS["url"](r), "html": MAKERS["url"](r)}),
    ("meta", lambda r: {"source": MAKERS["word"](r), "trace_id": MAKERS["hex"](r)}),
    ("metadata", lambda r: {}),
    ("user_agent", lambda r: f"Mozilla/5.0 ({MAKERS['word'](r)})"),
    ("ip", MAKERS["ip"]),
    ("locale", lambda r: r.choice(("en", "en-US", "de", "fr", "pt-BR"))),
    ("timezone", lambda r: r.choice(("UTC", "Europe/Berlin", "America/New_York"))),
    ("region", lambda r: r.choice(("eu-west-1", "us-east-1", "eu", "us"))),
    ("tags", lambda r: [MAKERS["word"](r) for _ in range(r.randrange(3))]),
    ("description", MAKERS["sentence"]),
    ("is_active", MAKERS["bool"]),
    ("secret", MAKERS["hex"]),
)


def drop_leaves(node: Any, share: float, rng: Random) -> Any:
    """Leaves out that share of the leaf fields; names of events are spared more often."""
    if isinstance(node, list):
        return [drop_leaves(value, share, rng) for value in node]
    if not isinstance(node, dict):
        return node
    kept: Object = {}
    for key, value in node.items():
        if isinstance(value, (dict, list)):
            kept[key] = drop_leaves(value, share, rng)
            continue
        risk = share / 4 if plain(key) in EVENT_KEYS else share
        if rng.random() >= risk:
            kept[key] = value
    return kept


def unwrap(body: Object) -> Object:
    """Lifts what stands in an envelope (`data`, `payload`, ...) to the top, if there is one."""
    for name in body:
        inner = body[name]
        if plain(name) in INNER and isinstance(inner, dict) and inner:
            rest = {key: value for key, value in body.items() if key != name}
            return {**inner, **rest}
    return body


def wrap(body: Object, event: str, rng: Random) -> Object:
    """Puts a body into one of the usual envelopes, whose event name is `event`."""
    make = MAKERS
    style = rng.randrange(8)
    if style == 0:
        return {"event": event, "data": body}
    if style == 1:
        return {"type": event, "payload": body}
    if style == 2:
        return {"id": make["id"](rng), "created": make["unix"](rng), "type": event, "object": body}
    if style == 3:
        return {"event_type": event, "timestamp": make["iso"](rng), rng.choice(INNER): body}
    if style == 4:
        return {"event": {"id": make["uuid"](rng), "name": event}, "data": {"object": body}}
    if style == 5:
        return {"topic": event, "webhook_id": make["id"](rng), "body": body}
    if style == 6:
        return {"webhook": {"event": event, "attempt": 1}, rng.choice(INNER): body}
    return {"events": [{"type": event, "occurred_at": make["iso"](rng), **body}]}


def add_noise(body: Object, count: int, rng: Random) -> Object:
    """Adds up to `count` neutral fields at the top; none takes the place of a field that is there."""
    added = {name: make(rng) for name, make in rng.sample(NOISE, count)}
    taken = {plain(key) for key in body}
    return {**body, **{name: value for name, value in added.items() if plain(name) not in taken}}


def rename_keys(node: Any, rename: Callable[[str], str]) -> Any:
    """Writes each key anew."""
    if isinstance(node, dict):
        return {rename(key): rename_keys(value, rename) for key, value in node.items()}
    if isinstance(node, list):
        return [rename_keys(value, rename) for value in node]
    return node


def reorder(node: Any, rng: Random, in_order: bool) -> Any:
    """Keys by the alphabet, or in any order."""
    if isinstance(node, list):
        return [reorder(value, rng, in_order) for value in node]
    if not isinstance(node, dict):
        return node
    keys = sorted(node)
    if not in_order:
        rng.shuffle(keys)
    return {key: reorder(node[key], rng, in_order) for key in keys}


def as_form(body: Object, rng: Random) -> str:
    """The body as a form: `a[b]=c` for each leaf, or the JSON in one field `payload`."""
    if rng.random() < 0.25:
        return urlencode({"payload": json.dumps(body)})
    pairs: list[tuple[str, str]] = []

    def walk(path: str, node: Any) -> None:
        if isinstance(node, dict):
            for key, value in node.items():
                walk(f"{path}[{key}]" if path else key, value)
        elif isinstance(node, list):
            for index, value in enumerate(node):
                walk(f"{path}[{index}]", value)
        elif node is not None:
            pairs.append((path, str(node)))

    walk("", body)
    return urlencode(pairs)
