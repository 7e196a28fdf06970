"""Other designs of the classifier beside the one that was chosen, on providers that none of them has seen.

The same split, the same webhooks, the same machine; quality on mildly varied webhooks of the held-out fifth of the
providers, cost as microseconds a webhook of the whole machine, features ready. Then the chosen design with a part of
the providers, for how much a larger corpus would bring. Writes both tables into the card. Takes about 15 minutes, most
of it for the transformers.
"""

from __future__ import annotations

import argparse
import json
import sys
import time
from collections.abc import Callable
from dataclasses import dataclass, replace
from pathlib import Path

import jax
import jax.numpy as jnp
import numpy as np

import base
import card
import dataset
import metrics
import network
from labels import LABELS

#: Pieces of one webhook that a transformer reads, and webhooks it is trained on.
PIECES = 64
FINE_TUNED_ON = 6_000
FROZEN_ON = 8_000
#: Places of tokens in the order in which they are written out for a transformer, and pieces for each.
PARTS = (("event", "e", 14), ("status", "z", 6), ("fields", "k", 22), ("name", "n", 14), ("details", "d", 24))
SHARES = (0.25, 0.5, 0.75, 1.0)


@dataclass(frozen=True)
class Found:
    """What a design has come to."""

    logits: np.ndarray  # [held, labels]
    us: float  # a webhook
    size: int  # bytes as it would be stored: tables in half precision


@dataclass(frozen=True)
class Split:
    """What to train on and what to measure with."""

    train: dataset.Webhooks
    train_rows: dataset.Rows
    held: dataset.Webhooks
    held_rows: dataset.Rows
    vectors: np.ndarray
    pieces: base.Pieces


def say(text: str) -> None:
    """One line of progress."""
    print(text, file=sys.stderr, flush=True)


def timed(predict: Callable[[], np.ndarray], rows: int, size: int) -> Found:
    """Predicts once more when everything is compiled, and takes the time of that."""
    predict()
    began = time.perf_counter()
    logits = predict()
    return Found(logits, (time.perf_counter() - began) * 1e6 / rows, size)


def stored(params: dict, halves: tuple[str, ...] = ("table",)) -> int:
    """Bytes of parameters, those named in half precision."""
    return sum(int(np.size(value)) * (2 if name in halves else 4) for name, value in params.items())


def fit(rows: dataset.Rows, data: dataset.Webhooks, vectors: np.ndarray, settings: network.Settings) -> network.Params:
    """Trains to the end."""
    params: network.Params = {}
    for params, _ in network.train(rows, data, vectors, settings):
        pass
    return params


def without_tokens(rows: dataset.Rows) -> dataset.Rows:
    """Rows whose words alone are left."""
    return replace(rows, tokens=np.full_like(rows.tokens, dataset.BUCKETS))


def chosen(split: Split) -> Found:
    """Tokens and words."""
    params = fit(split.train_rows, split.train, split.vectors, network.Settings())
    size = stored(params) + 2 * split.vectors.size
    return timed(lambda: network.predict(params, split.vectors, split.held_rows), len(split.held), size)


def three(split: Split) -> Found:
    """The mean of three of the chosen networks."""
    parts = [
        fit(split.train_rows, split.train, split.vectors, network.Settings(seed=seed)) for seed in range(1, 4)
    ]
    all_of = lambda: sum(network.predict(params, split.vectors, split.held_rows) for params in parts)  # noqa: E731
    size = sum(stored(params) + 2 * split.vectors.size for params in parts)
    return timed(all_of, len(split.held), size)


def tokens_alone(split: Split) -> Found:
    """Learned rows of hashed tokens, without a base."""
    nothing = np.zeros_like(split.vectors)
    params = fit(split.train_rows, split.train, nothing, replace(network.Settings(), blind=0.0))
    # Of the words' part of the first layer nothing is needed.
    size = stored(params) - 4 * network.Settings().hidden * dataset.GROUPS * nothing.shape[1]
    return timed(lambda: network.predict(params, nothing, split.held_rows), len(split.held), size)


def words_alone(split: Split) -> Found:
    """Vectors of the base with a head."""
    rows, held = without_tokens(split.train_rows), without_tokens(split.held_rows)
    params = fit(rows, split.train, split.vectors, replace(network.Settings(), blind=1.0))
    size = stored({name: value for name, value in params.items() if name != "table"}) + 2 * split.vectors.size
    params = {**params, "table": jnp.zeros_like(params["table"])}
    return timed(lambda: network.predict(params, split.vectors, held), len(split.held), size)


def adam(loss_of: Callable, params: dict, steps: int, rate: float, batches: Callable[[], tuple]) -> dict:
    """Trains anything by Adam, the rate rising for a sixteenth and falling as half a cosine."""
    first, second = jax.tree.map(jnp.zeros_like, params), jax.tree.map(jnp.zeros_like, params)

    @jax.jit
    def step(params: dict, first: dict, second: dict, number: jax.Array, key: jax.Array, part: tuple) -> tuple:
        slopes = jax.grad(loss_of)(params, key, part)
        size = jnp.sqrt(sum(jnp.sum(slope**2) for slope in jax.tree.leaves(slopes)))
        slopes = jax.tree.map(lambda slope: slope * jnp.minimum(1, 1 / (size + 1e-9)), slopes)
        now = rate * jnp.minimum(1, 16 * (number + 1) / steps) * 0.5 * (1 + jnp.cos(jnp.pi * number / steps))
        first = jax.tree.map(lambda old, new: 0.9 * old + 0.1 * new, first, slopes)
        second = jax.tree.map(lambda old, new: 0.999 * old + 0.001 * new * new, second, slopes)
        move = lambda p, m, v: p - now * (m / (1 - 0.9 ** (number + 1))) / (  # noqa: E731
            jnp.sqrt(v / (1 - 0.999 ** (number + 1))) + 1e-8
        )
        return jax.tree.map(move, params, first, second), first, second

    key = jax.random.PRNGKey(0)
    for number in range(steps):
        key, now = jax.random.split(key)
        params, first, second = step(params, first, second, number, now, batches())
        if number % 100 == 0:
            say(f"    step {number} of {steps}")
    return params


def linear(split: Split) -> Found:
    """Logistic regression over hashed tokens: one weight for each bucket and label."""
    truth = network.targets(split.train, network.Settings())
    rng = np.random.default_rng(0)

    def logits(params: dict, tokens: jax.Array, seen: jax.Array) -> jax.Array:
        summed = (params["weights"][tokens] * seen[:, :, None]).sum(1)
        return summed / jnp.sqrt(jnp.maximum(seen.sum(1, keepdims=True), 1)) + params["bias"]

    def loss(params: dict, key: jax.Array, part: tuple) -> jax.Array:
        tokens, wanted = part
        seen = (tokens < dataset.BUCKETS) & (jax.random.uniform(key, tokens.shape) >= 0.3)
        chances = jax.nn.log_softmax(logits(params, tokens, seen.astype(jnp.float32)))
        return -(wanted * chances).sum() / len(tokens) + 1e-5 * (params["weights"] ** 2).sum()

    def batch() -> tuple:
        which = rng.integers(0, len(split.train), 256)
        return split.train_rows.tokens[which], truth[which]

    params = {"weights": jnp.zeros((dataset.BUCKETS + 1, len(LABELS))), "bias": jnp.zeros(len(LABELS))}
    params = adam(loss, params, 5 * len(split.train) // 256, 0.02, batch)
    run = jax.jit(lambda tokens: logits(params, tokens, (tokens < dataset.BUCKETS).astype(jnp.float32)))
    size = stored(params, ("weights",))
    return timed(lambda: np.asarray(run(split.held_rows.tokens)), len(split.held), size)


def written_out(tokens: list[str], pieces: base.Pieces) -> list[int]:
    """A webhook as pieces of text, what says most first."""
    found: list[int] = []
    for title, place, room in PARTS:
        words = dict.fromkeys(token[2:] for token in tokens if token[0] == place)
        part = list(pieces.of(title)) if words else []
        for word in words:
            more = pieces.of(word)
            if len(part) + len(more) > room:
                break
            part += more
        found += part
    return pieces.sequence(found[: PIECES - 2])


def padded(sequences: list[list[int]]) -> tuple[np.ndarray, np.ndarray]:
    """Pieces [rows, PIECES] and which of them are there."""
    ids = np.zeros((len(sequences), PIECES), np.int32)
    mask = np.zeros((len(sequences), PIECES), np.float32)
    for row, sequence in enumerate(sequences):
        ids[row, : len(sequence)] = sequence
        mask[row, : len(sequence)] = 1
    return ids, mask


def head() -> dict[str, jax.Array]:
    """Weights from a sentence's vector to labels."""
    return {"weights": jnp.zeros((384, len(LABELS))), "bias": jnp.zeros(len(LABELS))}


def frozen(split: Split) -> Found:
    """Sentence vectors of MiniLM as it is, with a linear head."""
    rng = np.random.default_rng(0)
    some = rng.choice(len(split.train), min(FROZEN_ON, len(split.train)), replace=False)
    weights = base.weights()
    vector = lambda sequences: base.encode(weights, sequences, 64)  # noqa: E731
    learned = vector([written_out(split.train.tokens[i], split.pieces) for i in some])
    truth = network.targets(split.train.take(some), network.Settings())
    # Some of its dimensions are the same for everything.
    centre, spread = learned.mean(0), learned.std(0) + 1e-3

    def batch() -> tuple:
        which = rng.integers(0, len(some), 256)
        return (learned[which] - centre) / spread, truth[which]

    def loss(params: dict, key: jax.Array, part: tuple) -> jax.Array:
        vectors, wanted = part
        kept = jax.random.uniform(key, vectors.shape) >= 0.2
        chances = jax.nn.log_softmax(vectors * kept / 0.8 @ params["weights"] + params["bias"])
        return -(wanted * chances).sum() / len(vectors)

    params = adam(loss, head(), 2_000, 0.003, batch)
    sequences = [written_out(tokens, split.pieces) for tokens in split.held.tokens]
    predict = lambda: np.asarray((vector(sequences) - centre) / spread @ params["weights"] + params["bias"])  # noqa: E731
    return timed(predict, len(sequences), stored({**weights, **params}, ()))


def fine_tuned(split: Split) -> Found:
    """MiniLM with a linear head, all of it trained on."""
    rng = np.random.default_rng(0)
    some = rng.choice(len(split.train), min(FINE_TUNED_ON, len(split.train)), replace=False)
    ids, mask = padded([written_out(split.train.tokens[i], split.pieces) for i in some])
    truth = network.targets(split.train.take(some), network.Settings())
    order = iter(np.concatenate([rng.permutation(len(some)) for _ in range(2)]))

    def batch() -> tuple:
        which = np.array([next(order) for _ in range(32)])
        return ids[which], mask[which], truth[which]

    def logits(params: dict, ids: jax.Array, mask: jax.Array) -> jax.Array:
        # The head learns faster than what is pretrained.
        return base.forward(params["base"], ids, mask) @ (10 * params["head"]["weights"]) + params["head"]["bias"]

    def loss(params: dict, key: jax.Array, part: tuple) -> jax.Array:
        ids, mask, wanted = part
        del key
        return -(wanted * jax.nn.log_softmax(logits(params, ids, mask))).sum() / len(ids)

    weights = {name: value for name, value in base.weights().items() if "pooler" not in name}
    params = adam(loss, {"base": weights, "head": head()}, len(some) // 32, 1e-4, batch)
    run = jax.jit(logits)
    held_ids, held_mask = padded([written_out(tokens, split.pieces) for tokens in split.held.tokens])

    def predict() -> np.ndarray:
        parts = [
            np.asarray(run(params, held_ids[at : at + 64], held_mask[at : at + 64]))
            for at in range(0, len(held_ids), 64)
        ]
        return np.concatenate(parts)

    return timed(predict, len(held_ids), stored({**params["base"], **params["head"]}, ()))


DESIGNS: tuple[tuple[str, Callable[[Split], Found]], ...] = (
    ("linear over hashed tokens", linear),
    ("hashed tokens, one hidden layer", tokens_alone),
    ("vectors of words from MiniLM, one hidden layer", words_alone),
    ("MiniLM as it is, linear head", frozen),
    ("MiniLM fine-tuned, linear head", fine_tuned),
    ("**both looks (the one in use)**", chosen),
    ("three of these, averaged", three),
)


def line(title: str, split: Split, found: Found) -> str:
    """One line of the table of designs."""
    answers = found.logits.argmax(axis=1)
    table = metrics.confusion(split.held.labels, answers)
    right = answers == split.held.labels
    lenient = right | np.array([answer in also for answer, also in zip(answers, split.held.also)])
    quality = f"{metrics.macro_f1(table):.3f} | {metrics.percent(float(right.mean()))}"
    cost = f"{metrics.percent(float(lenient.mean()))} | {found.us:,.0f}"
    return f"| {title} | {found.size / 1e6:.1f} MB | {quality} | {cost} |"


def designs(split: Split, only: str | None, skip: str | None) -> list[str]:
    """The table of designs."""
    lines = ["| design | size | macro F1 | accuracy | lenient | us |", "| --- | --- | --- | --- | --- | --- |"]
    for title, design in DESIGNS:
        if only and only not in title:
            continue
        if skip and skip in title:
            lines.append(f"| {title} | - | - | - | - | - |")
            continue
        say(f"{title} ...")
        lines.append(line(title, split, design(split)))
        say(lines[-1])
    return lines


def curve(split: Split) -> list[str]:
    """The chosen design with a part of the providers."""
    lines = ["| providers trained on | webhooks | macro F1 | accuracy |", "| --- | --- | --- | --- |"]
    names = np.random.default_rng(1).permutation(np.unique(split.train.providers))
    for share in SHARES:
        some = np.flatnonzero(np.isin(split.train.providers, names[: int(share * len(names))]))
        # As many steps for a part as for the whole would overfit, and as many epochs would fall short.
        settings = replace(network.Settings(), epochs=round(network.Settings().epochs / share**0.5))
        params = fit(split.train_rows.take(some), split.train.take(some), split.vectors, settings)
        found = network.predict(params, split.vectors, split.held_rows).argmax(axis=1)
        table = metrics.confusion(split.held.labels, found)
        right = metrics.percent(float((found == split.held.labels).mean()))
        lines.append(f"| {int(share * len(names))} | {len(some)} | {metrics.macro_f1(table):.3f} | {right} |")
        say(lines[-1])
    return lines


def main() -> None:
    """Command line."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--data", type=Path, required=True, help="webhooks written by generate.py")
    parser.add_argument("--mild", type=Path, required=True, help="webhooks written by generate.py --mild")
    parser.add_argument("--binary", type=Path, default=dataset.BINARY, help="the stream-workers program")
    parser.add_argument("--model", type=Path, default=dataset.HERE / "model", help="directory with the card")
    parser.add_argument("--skip", help="leave one design out, by a part of its name, to be measured later with --only")
    parser.add_argument("--only", help="measure one design again, by a part of its name, and replace its line in the card")
    args = parser.parse_args()

    data, mild = dataset.load(args.data, args.binary), dataset.load(args.mild, args.binary)
    pieces = base.Pieces()
    words = dataset.vocabulary(data, pieces.words())
    vectors = base.word_vectors(words.words, pieces, network.Settings().word_width)
    fold = dataset.folds(np.concatenate([data.providers, mild.providers]), 5, 1)
    train, held = data.take(np.flatnonzero(fold[: len(data)] != 0)), mild.take(np.flatnonzero(fold[len(data) :] == 0))
    split = Split(
        train, dataset.rows(train.tokens, words), held, dataset.rows(held.tokens, words), vectors, pieces
    )
    table = designs(split, args.only, args.skip)
    if args.only:
        print("\n".join(table))
        for row in table[2:]:
            card.replace_line(args.model / "CARD.md", row)
        return
    providers = len(np.unique(train.providers))
    text = [
        "## Designs (`make compare`)",
        f"Trained on {len(train)} webhooks of {providers} providers, measured on {len(held)} of "
        f"{len(np.unique(held.providers))} others; the transformers on {FINE_TUNED_ON} and {FROZEN_ON} of them and on",
        f"the first {PIECES} pieces. Cost is the time of the whole machine for a webhook in JAX, features ready.",
        "",
        *table,
        "",
        "The design in use with a part of the providers, the others measured alike: a larger corpus still helps.",
        "",
        *curve(split),
    ]
    print("\n".join(text))
    card.put(args.model / "CARD.md", card.DESIGNS, "\n".join(text))


if __name__ == "__main__":
    main()
