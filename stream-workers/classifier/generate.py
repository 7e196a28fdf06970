"""Expands the templates of `corpus/` into the webhooks the model is trained on.

Reads `corpus/<provider>.jsonl`, and files of several providers whose lines name theirs; writes JSON lines `{"template", "provider", "event",
"label", "also", "headers", "content_type", "body"}` (the body as text). The same seed
and templates give the same bytes. Exits with 1 if a template names a reserved
provider or is malformed. Needs only the standard library.
"""

from __future__ import annotations

import argparse
import json
import re
import sys
from functools import partial
from multiprocessing import Pool
from pathlib import Path
from random import Random
from typing import Any, Iterator
from urllib.parse import unquote_plus

import reserved
import values
from augment import expand, expand_mildly
from labels import LABELS

HERE = Path(__file__).resolve().parent
FIELDS = ("event", "label", "source", "headers", "content_type", "body")
SOURCES = ("documented", "recalled", "invented")


def templates(corpus: Path) -> Iterator[tuple[str, dict[str, Any] | str]]:
    """Each line of the corpus as (place, template), or (place, complaint) if it is malformed."""
    for path in sorted(corpus.rglob("*.jsonl")):
        for number, line in enumerate(path.read_text(encoding="utf-8").splitlines(), 1):
            if line.strip():
                yield f"{path.name}:{number}", parse(line, path.stem)


def parse(line: str, provider: str) -> dict[str, Any] | str:
    """The template of a line, or what is wrong with it."""
    try:
        template = json.loads(line)
    except json.JSONDecodeError as error:
        return f"not JSON: {error}"
    if not isinstance(template, dict):
        return "not an object"
    missing = [field for field in FIELDS if field not in template]
    if missing:
        return f"lacks {', '.join(missing)}"
    unknown = [label for label in (template["label"], *template.get("also", [])) if label not in LABELS]
    if unknown:
        return f"labels that do not exist: {unknown}"
    if template["source"] not in SOURCES or (template["source"] == "documented") != ("ref" in template):
        return f"the source is one of {SOURCES}, and a documented one has a ref"
    if not isinstance(template["body"], (dict, list, str)):
        return "the body is neither an object, an array nor a string"
    if not isinstance(template["headers"], dict):
        return "headers are not an object"
    unknown = sorted(set(re.findall(r"\{\{(\w+)\}\}", line)) - set(values.MAKERS))
    if unknown or values.leftover(line):
        return f"unknown placeholders {unknown or values.leftover(line)}"
    return {"provider": provider, **template}


def sound(corpus: Path, names: list[str]) -> tuple[list[tuple[str, dict[str, Any]]], list[str]]:
    """The templates that may be used, and a complaint for each of the others."""
    good: list[tuple[str, dict[str, Any]]] = []
    complaints: list[str] = []
    for place, template in templates(corpus):
        problem = template if isinstance(template, str) else reserved.violation(template, names)
        if problem:
            complaints.append(f"{place}: {problem}")
        elif isinstance(template, dict):
            good.append((place, template))
    return good, complaints


def main() -> int:
    """Command line; returns the exit code."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--corpus", type=Path, default=HERE / "corpus", help="directory of templates")
    parser.add_argument("--reserved", type=Path, help="file of providers that may not be in the corpus")
    parser.add_argument("--skip", action="store_true", help="leave refused templates out instead of failing")
    parser.add_argument("--count", type=int, default=10, help="webhooks for each template (default 10)")
    parser.add_argument("--mild", action="store_true", help="change little, as for a real sender: for measuring")
    parser.add_argument("--seed", type=int, default=1, help="seed of all randomness (default 1)")
    parser.add_argument("--out", type=Path, required=True, help="file to write")
    args = parser.parse_args()

    names = reserved.load_names(args.reserved) if args.reserved else []
    good, complaints = sound(args.corpus, names)
    for complaint in complaints:
        print(complaint, file=sys.stderr)
    if complaints and not args.skip:
        print(f"{len(complaints)} templates refused", file=sys.stderr)
        return 1
    written, dropped = write(good, names, args.out, args.count, args.seed, args.mild)
    print(
        f"{len(good)} templates ({len(complaints)} left out), {written} webhooks"
        f" ({dropped} left out for a reserved name that chance had made)",
        file=sys.stderr,
    )
    return 0


def pieces(body: str) -> Any:
    """The keys and values of a body that has become text."""
    try:
        return json.loads(body)
    except json.JSONDecodeError:
        return re.split(r"[<>&=\s\"]+", unquote_plus(body))


#: A place in the corpus and what stands there.
Placed = tuple[str, dict[str, Any]]


def webhooks(placed: Placed, names: list[str], count: int, seed: int, mild: bool) -> list[str | None]:
    """The webhooks of one template as lines; None for one left out.

    Chance can put a reserved name together out of two syllables, so that what was made is looked at again.
    """
    place, template = placed
    lines: list[str | None] = []
    for copy in range(count):
        rng = Random(f"{seed}/{mild}/{template['label']}/{place}/{copy}")
        record = expand_mildly(template, rng, names) if mild else expand(template, rng, names, untouched=copy == 0)
        refused = reserved.violation({**record, "body": pieces(record["body"])}, names)
        lines.append(None if refused else json.dumps({"template": place, **record}, ensure_ascii=False))
    return lines


def write(good: list[Placed], names: list[str], out: Path, count: int, seed: int, mild: bool) -> tuple[int, int]:
    """Writes the webhooks on all cores; returns how many were written and how many left out."""
    written = dropped = 0
    make = partial(webhooks, names=names, count=count, seed=seed, mild=mild)
    with out.open("w", encoding="utf-8") as file, Pool() as pool:
        for done, lines in enumerate(pool.imap(make, good, chunksize=16), 1):
            kept = [line for line in lines if line is not None]
            file.writelines(f"{line}\n" for line in kept)
            written += len(kept)
            dropped += len(lines) - len(kept)
            if done % 500 == 0:
                print(f"  {done}/{len(good)} templates", file=sys.stderr)
    return written, dropped


if __name__ == "__main__":
    sys.exit(main())
