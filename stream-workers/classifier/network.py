"""The network: what it computes, and how it learns.

Two looks at a webhook. Its tokens, hashed: a learned row of a table for each, averaged.
Its words: the pretrained base's vectors, averaged for each group of places, each word
with a learned weight. Both go through one hidden layer to one logit for each label.

The first knows what the corpus has; the second knows what words mean. In training many
of the tokens and of the words, and for a third of the webhooks all tokens are left out,
so that neither look leans on the other.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

import jax
import jax.numpy as jnp
import numpy as np

from dataset import BUCKETS, GROUPS, Rows, Webhooks
from labels import LABELS

Params = dict[str, jax.Array]


@dataclass(frozen=True)
class Settings:
    """What a training run is made of."""

    #: Columns of the table of tokens, of the vectors of words, and of the hidden layer.
    token_width: int = 64
    word_width: int = 96
    hidden: int = 384
    batch: int = 256
    epochs: int = 8
    rate: float = 3e-3
    #: Shares that a training step does not see: of tokens, of words, of webhooks all tokens, of hidden units.
    token_dropout: float = 0.4
    word_dropout: float = 0.5
    blind: float = 0.3
    hidden_dropout: float = 0.3
    smoothing: float = 0.05
    #: Share of the truth that goes to the other labels that could be defended.
    also: float = 0.3
    #: Power of a label's rareness by which it counts more.
    balance: float = 0.2
    #: Decoupled L2 decay for a step at full rate.
    decay: float = 0.02
    seed: int = 1


def new_params(settings: Settings, words: int) -> Params:
    """Fresh parameters: float32."""
    keys = jax.random.split(jax.random.PRNGKey(settings.seed), 3)
    inputs = settings.token_width + GROUPS * settings.word_width
    labels = len(LABELS)
    return {
        "table": 0.1 * jax.random.normal(keys[0], (BUCKETS + 1, settings.token_width)),
        "weight": jnp.full((words + 1,), 0.5),
        "w1": jax.random.normal(keys[1], (inputs, settings.hidden)) * np.sqrt(2 / inputs),
        "b1": jnp.zeros(settings.hidden),
        "w2": jax.random.normal(keys[2], (settings.hidden, labels)) * np.sqrt(1 / settings.hidden),
        "b2": jnp.zeros(labels),
    }


def pooled(
    params: Params, vectors: jax.Array, tokens: jax.Array, words: jax.Array, groups: jax.Array, seen: jax.Array, read: jax.Array
) -> tuple[jax.Array, jax.Array]:
    """Averages of the tokens that are `seen` [rows, token_width] and of the words that are `read`
    [rows, GROUPS * word_width].

    A group of little weight is averaged towards nothing.
    """
    token_mean = (params["table"][tokens] * seen[:, :, None]).sum(1) / jnp.maximum(seen.sum(1, keepdims=True), 1)
    weights = jax.nn.softplus(params["weight"][words]) * read
    spread = (groups[:, :, None] == jnp.arange(GROUPS)) * weights[:, :, None]
    sums = jnp.einsum("bwg,bwd->bgd", spread, vectors[words])
    word_mean = sums / jnp.maximum(spread.sum(1), 1)[:, :, None]
    return token_mean, word_mean.reshape(len(tokens), -1)


def logits_of(params: Params, vectors: jax.Array, tokens: jax.Array, words: jax.Array, groups: jax.Array) -> jax.Array:
    """Logits [rows, labels], nothing left out."""
    seen = (tokens < BUCKETS).astype(jnp.float32)
    read = (words < len(vectors) - 1).astype(jnp.float32)
    looks = jnp.concatenate(pooled(params, vectors, tokens, words, groups, seen, read), 1)
    return jax.nn.relu(looks @ params["w1"] + params["b1"]) @ params["w2"] + params["b2"]


def predict(params: Params, vectors: np.ndarray, rows: Rows, batch: int = 1024) -> np.ndarray:
    """Logits of all rows, [rows, labels] float32."""
    run = jax.jit(logits_of)
    device = jnp.asarray(vectors)
    parts = []
    for start in range(0, len(rows), batch):
        which = np.arange(start, start + batch).clip(max=len(rows) - 1)
        part = rows.take(which)
        parts.append(np.asarray(run(params, device, part.tokens, part.words, part.groups)))
    return np.concatenate(parts)[: len(rows)]


def targets(data: Webhooks, settings: Settings) -> np.ndarray:
    """What each webhook should be answered with, [rows, labels]."""
    table = np.full((len(data), len(LABELS)), settings.smoothing / len(LABELS), np.float32)
    for row, (label, also) in enumerate(zip(data.labels, data.also)):
        shared = settings.also if also else 0.0
        table[row, label] += (1 - settings.smoothing) * (1 - shared)
        for other in also:
            table[row, other] += (1 - settings.smoothing) * shared / len(also)
    return table


def importance(labels: np.ndarray, power: float) -> np.ndarray:
    """How much each row counts; on average 1."""
    counts = np.maximum(np.bincount(labels, minlength=len(LABELS)), 1)
    weights = (counts.mean() / counts) ** power
    return (weights / weights.mean())[labels].astype(np.float32)


def train(rows: Rows, data: Webhooks, vectors: np.ndarray, settings: Settings) -> Iterator[tuple[Params, float]]:
    """Trains; yields the parameters and the mean loss after each epoch.

    Adam with decoupled decay (Loshchilov and Hutter 2017), the rate falling as half a cosine.
    """
    truth, counts = targets(data, settings), importance(data.labels, settings.balance)
    words = jnp.asarray(vectors)
    params = new_params(settings, len(vectors) - 1)
    first = jax.tree.map(jnp.zeros_like, params)
    second = jax.tree.map(jnp.zeros_like, params)
    steps_an_epoch = max(1, len(rows) // settings.batch)
    steps = steps_an_epoch * settings.epochs

    def loss_of(params: Params, key: jax.Array, part: tuple[jax.Array, ...]) -> jax.Array:
        tokens, words_, groups, truth, counts = part
        keys = jax.random.split(key, 4)
        seen = (tokens < BUCKETS) & (jax.random.uniform(keys[0], tokens.shape) >= settings.token_dropout)
        seen &= jax.random.uniform(keys[1], (len(tokens), 1)) >= settings.blind
        read = (words_ < len(words) - 1) & (jax.random.uniform(keys[2], words_.shape) >= settings.word_dropout)
        looks = pooled(params, words, tokens, words_, groups, seen.astype(jnp.float32), read.astype(jnp.float32))
        hidden = jax.nn.relu(jnp.concatenate(looks, 1) @ params["w1"] + params["b1"])
        kept = jax.random.uniform(keys[3], hidden.shape) >= settings.hidden_dropout
        hidden = hidden * kept / (1 - settings.hidden_dropout)
        chances = jax.nn.log_softmax(hidden @ params["w2"] + params["b2"])
        return -(counts[:, None] * truth * chances).sum() / len(tokens)

    @jax.jit
    def step(
        state: tuple[Params, Params, Params], number: jax.Array, key: jax.Array, part: tuple[jax.Array, ...]
    ) -> tuple[tuple[Params, Params, Params], jax.Array]:
        params, first, second = state
        loss, slopes = jax.value_and_grad(loss_of)(params, key, part)
        rate = settings.rate * 0.5 * (1 + jnp.cos(jnp.pi * number / steps))
        first = jax.tree.map(lambda old, new: 0.9 * old + 0.1 * new, first, slopes)
        second = jax.tree.map(lambda old, new: 0.999 * old + 0.001 * new * new, second, slopes)

        def move(name: str) -> jax.Array:
            change = first[name] / (1 - 0.9 ** (number + 1))
            change = change / (jnp.sqrt(second[name] / (1 - 0.999 ** (number + 1))) + 1e-8)
            decay = settings.decay if name in ("table", "w1", "w2") else 0.0
            return params[name] - rate * (change + decay * params[name])

        return ({name: move(name) for name in params}, first, second), loss

    rng = np.random.default_rng(settings.seed)
    key = jax.random.PRNGKey(settings.seed + 1)
    state, number = (params, first, second), 0
    for _ in range(settings.epochs):
        order, losses = rng.permutation(len(rows)), []
        for start in range(0, steps_an_epoch * settings.batch, settings.batch):
            which = order[start : start + settings.batch]
            key, now = jax.random.split(key)
            part = rows.take(which)
            state, loss = step(state, number, now, (part.tokens, part.words, part.groups, truth[which], counts[which]))
            losses.append(loss)
            number += 1
        yield state[0], float(np.mean(losses))
