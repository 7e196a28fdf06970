"""One template becomes one varied webhook.

Owns the order and the odds of the changes; `values`, `naming` and `shape` make
them. The changes are those by which a sender that was never seen differs from
the ones that were: its name, its spelling, its envelope, what it leaves out.
"""

from __future__ import annotations

import json
from random import Random
from typing import Any
from urllib.parse import parse_qsl, urlencode

import naming
import shape
import values

FORM = "application/x-www-form-urlencoded"
SIGNATURES = ("x-signature", "x-webhook-id", "x-delivery-id", "x-hub-signature-256", "webhook-id")

Record = dict[str, Any]


def expand(template: Record, rng: Random, forbidden: list[str], untouched: bool = False) -> Record:
    """Makes a webhook of a template.

    `forbidden` are names that a made-up brand may not contain. `untouched` fills
    the placeholders and changes nothing else.
    """
    headers = {key: values.fill_text(str(text), rng) for key, text in template.get("headers", {}).items()}
    content_type = template.get("content_type", "application/json")
    body = template["body"]
    if isinstance(body, str) and FORM in content_type:
        body = dict(parse_qsl(body, keep_blank_values=True))
    body = values.fill(body, rng)
    event = str(template["event"])
    if not untouched:
        headers, body, event = _rebrand(template, headers, body, event, rng, forbidden)
        headers = _headers(headers, event, rng)
        if isinstance(body, dict):
            body = _body(body, event, rng)
            if FORM not in content_type and rng.random() < 0.06:
                content_type, body = FORM, shape.as_form(body, rng)
    return {
        "provider": template["provider"],
        "event": template["event"],
        "label": template["label"],
        "also": template.get("also", []),
        "headers": headers,
        "content_type": content_type,
        "body": _text(body, content_type, rng),
    }


def expand_mildly(template: Record, rng: Random, forbidden: list[str]) -> Record:
    """As a real sender would send it, but for chance: a few fields less, in half of the cases another name."""
    headers = {key: values.fill_text(str(text), rng) for key, text in template.get("headers", {}).items()}
    content_type = template.get("content_type", "application/json")
    body = template["body"]
    if isinstance(body, str) and FORM in content_type:
        body = dict(parse_qsl(body, keep_blank_values=True))
    body = values.fill(body, rng)
    masked = rng.random() < 0.5
    if masked:
        other = naming.Rebrand(str(template["provider"]), headers, naming.brand(rng, forbidden))
        headers, body = other.tree(headers), other.tree(body)
    if rng.random() < 0.6:
        headers = {}
    if isinstance(body, dict):
        body = shape.drop_leaves(body, rng.uniform(0, 0.15), rng) or body
    return {
        "provider": template["provider"],
        "event": template["event"],
        "label": template["label"],
        "also": template.get("also", []),
        "masked": masked,
        "headers": headers,
        "content_type": content_type,
        "body": _text(body, content_type, rng),
    }


def _rebrand(
    template: Record,
    headers: dict[str, str],
    body: Any,
    event: str,
    rng: Random,
    forbidden: list[str],
) -> tuple[dict[str, str], Any, str]:
    """Seven of ten webhooks lose the provider's name; most of these get a made-up one."""
    if rng.random() >= 0.7:
        return headers, body, event
    substitute = naming.brand(rng, forbidden) if rng.random() < 0.8 else "app"
    other = naming.Rebrand(str(template["provider"]), headers, substitute)
    return other.tree(headers), other.tree(body), other.text(event)


def _headers(headers: dict[str, str], event: str, rng: Random) -> dict[str, str]:
    """Half of the webhooks keep their headers; some of these gain a signature or a user agent."""
    if rng.random() < 0.5:
        return {}
    kept = {
        key: naming.restyle_event(text, rng)
        if naming.plain(text) == naming.plain(event) and rng.random() < 0.5
        else text
        for key, text in headers.items()
        if rng.random() >= 0.15
    }
    if rng.random() < 0.3:
        kept[rng.choice(SIGNATURES)] = values.hexadecimal(rng, 32)
    if rng.random() < 0.3:
        kept["user-agent"] = rng.choice(("okhttp/4.9", "python-requests/2.31", "axios/1.6.2", "Go-http-client/1.1"))
    return kept


def _body(body: dict[str, Any], event: str, rng: Random) -> dict[str, Any]:
    """The changes of a JSON object or of a form's fields, each with its own odds."""
    lighter = shape.drop_leaves(body, rng.uniform(0, 0.4), rng)
    body = lighter or body
    if rng.random() < 0.6:
        body = _restyle_events(body, event, rng)
    if rng.random() < 0.2:
        body = shape.unwrap(body)
    if rng.random() < 0.3:
        body = shape.wrap(body, naming.restyle_event(event, rng), rng)
    if rng.random() < 0.5:
        body = shape.add_noise(body, rng.randint(1, 5), rng)
    if rng.random() < 0.5:
        style = rng.choice(naming.KEY_STYLES)
        body = shape.rename_keys(body, lambda key: naming.restyle_key(key, style))
    order = rng.random()
    if order < 0.6:
        body = shape.reorder(body, rng, in_order=order < 0.2)
    return body


def _restyle_events(node: Any, event: str, rng: Random) -> Any:
    """Writes the event's name, wherever it stands as a value, in another style."""
    wanted = naming.plain(event)

    def walk(key: str, part: Any) -> Any:
        if isinstance(part, dict):
            return {name: walk(name, value) for name, value in part.items()}
        if isinstance(part, list):
            return [walk(key, value) for value in part]
        if not isinstance(part, str) or not naming.EVENT_LIKE.fullmatch(part):
            return part
        names_event = naming.plain(key) in naming.EVENT_KEYS and len(part) <= 40
        return naming.restyle_event(part, rng) if names_event or naming.plain(part) == wanted else part

    return walk("", node)


def _text(body: Any, content_type: str, rng: Random) -> str:
    """The body as it travels."""
    if isinstance(body, str):
        return body
    if FORM in content_type:
        pairs = {key: value if isinstance(value, str) else json.dumps(value) for key, value in body.items()}
        return urlencode(pairs)
    if rng.random() < 0.15:
        return json.dumps(body, indent=2, ensure_ascii=False)
    return json.dumps(body, separators=(",", ":"), ensure_ascii=False)
