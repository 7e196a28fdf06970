"""The trained network as an ONNX file.

Inputs, int32: `tokens` [N, T] filled up with BUCKETS, `words` and `groups` [N, W] filled
up with the size of the vocabulary and with 0. Outputs, float32: `probabilities`
[N, labels], the temperature included, and `embedding` [N, D], of length 1: by what
the network has learned and by what the words mean, without the label.
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import numpy as np
import onnx
import onnxruntime
from onnx import TensorProto, helper, numpy_helper

from dataset import BUCKETS, GROUPS, Rows
from labels import LABELS

OPSET = 17
#: The oldest format of file that can say opset 17 and every runtime of today reads.
IR_VERSION = 8
#: Columns into which the averages of words are projected for the embedding.
WORD_PART = 64
#: Lengths of the two parts of an embedding; their squares add up to 1.
TOKEN_SHARE, WORD_SHARE = 0.8, 0.6


@dataclass(frozen=True)
class Trained:
    """What goes into the file."""

    params: dict[str, np.ndarray]
    vectors: np.ndarray
    temperature: float
    #: Averages of many webhooks, from which an embedding is measured.
    token_centre: np.ndarray
    word_centre: np.ndarray


def projection(width: int) -> np.ndarray:
    """Random directions, the same for every model of that width (Johnson and Lindenstrauss 1984)."""
    rng = np.random.default_rng(7)
    return (rng.standard_normal((GROUPS * width, WORD_PART)) / np.sqrt(WORD_PART)).astype(np.float32)


def build(trained: Trained) -> onnx.ModelProto:
    """The graph. Tables are kept in half precision, which halves the file."""
    params, vectors = trained.params, trained.vectors
    table = params["table"].astype(np.float16)
    table[BUCKETS] = 0
    weights = np.logaddexp(0, params["weight"]).astype(np.float32)
    weights[-1] = 0
    width = vectors.shape[1]
    constants = {
        "table": table,
        "vectors": vectors.astype(np.float16),
        "weights": weights,
        "none": np.array(BUCKETS, np.int32),
        "numbers": np.arange(GROUPS, dtype=np.int32).reshape(1, GROUPS, 1),
        "axis1": np.array([1], np.int64),
        "axis2": np.array([2], np.int64),
        "one": np.array(1, np.float32),
        "tiny": np.array(1e-6, np.float32),
        "flat": np.array([-1, GROUPS * width], np.int64),
        "w1": params["w1"].astype(np.float32),
        "b1": params["b1"].astype(np.float32),
        "w2": (params["w2"] / trained.temperature).astype(np.float32),
        "b2": (params["b2"] / trained.temperature).astype(np.float32),
        "token_centre": trained.token_centre.astype(np.float32),
        "word_centre": trained.word_centre.astype(np.float32),
        "projection": projection(width),
        "token_share": np.array(TOKEN_SHARE, np.float32),
        "word_share": np.array(WORD_SHARE, np.float32),
    }
    node = helper.make_node

    def unit(name: str, share: str) -> list[onnx.NodeProto]:
        """Nodes that give `name` the length `share`."""
        return [
            node("ReduceL2", [name], [f"{name}_length"], axes=[1], keepdims=1),
            node("Max", [f"{name}_length", "tiny"], [f"{name}_divisor"]),
            node("Div", [name, f"{name}_divisor"], [f"{name}_unit"]),
            node("Mul", [f"{name}_unit", share], [f"{name}_part"]),
        ]

    nodes = [
        node("Gather", ["table", "tokens"], ["token_rows16"], axis=0),
        node("Cast", ["token_rows16"], ["token_rows"], to=TensorProto.FLOAT),
        node("ReduceSum", ["token_rows", "axis1"], ["token_sum"], keepdims=0),
        node("Equal", ["tokens", "none"], ["is_none"]),
        node("Not", ["is_none"], ["is_token"]),
        node("Cast", ["is_token"], ["token_mask"], to=TensorProto.FLOAT),
        node("ReduceSum", ["token_mask", "axis1"], ["token_count"], keepdims=1),
        node("Max", ["token_count", "one"], ["token_divisor"]),
        node("Div", ["token_sum", "token_divisor"], ["token_mean"]),
        node("Gather", ["vectors", "words"], ["word_rows16"], axis=0),
        node("Cast", ["word_rows16"], ["word_rows"], to=TensorProto.FLOAT),
        node("Gather", ["weights", "words"], ["word_weights"], axis=0),
        node("Unsqueeze", ["word_weights", "axis1"], ["word_weights3"]),
        node("Unsqueeze", ["groups", "axis1"], ["groups3"]),
        node("Equal", ["groups3", "numbers"], ["in_group"]),
        node("Cast", ["in_group"], ["group_mask"], to=TensorProto.FLOAT),
        node("Mul", ["group_mask", "word_weights3"], ["spread"]),
        node("MatMul", ["spread", "word_rows"], ["group_sums"]),
        node("ReduceSum", ["spread", "axis2"], ["group_weight"], keepdims=1),
        node("Max", ["group_weight", "one"], ["group_divisor"]),
        node("Div", ["group_sums", "group_divisor"], ["group_means"]),
        node("Reshape", ["group_means", "flat"], ["word_mean"]),
        node("Concat", ["token_mean", "word_mean"], ["looks"], axis=1),
        node("Gemm", ["looks", "w1", "b1"], ["raw"]),
        node("Relu", ["raw"], ["hidden"]),
        node("Gemm", ["hidden", "w2", "b2"], ["logits"]),
        node("Softmax", ["logits"], ["probabilities"], axis=1),
        node("Sub", ["token_mean", "token_centre"], ["by_token"]),
        *unit("by_token", "token_share"),
        node("Sub", ["word_mean", "word_centre"], ["word_offset"]),
        node("MatMul", ["word_offset", "projection"], ["by_word"]),
        *unit("by_word", "word_share"),
        node("Concat", ["by_token_part", "by_word_part"], ["embedding"], axis=1),
    ]
    outputs = table.shape[1] + WORD_PART
    graph = helper.make_graph(
        nodes,
        "webhook-classifier",
        [
            helper.make_tensor_value_info("tokens", TensorProto.INT32, ["N", "T"]),
            helper.make_tensor_value_info("words", TensorProto.INT32, ["N", "W"]),
            helper.make_tensor_value_info("groups", TensorProto.INT32, ["N", "W"]),
        ],
        [
            helper.make_tensor_value_info("probabilities", TensorProto.FLOAT, ["N", len(LABELS)]),
            helper.make_tensor_value_info("embedding", TensorProto.FLOAT, ["N", outputs]),
        ],
        [numpy_helper.from_array(value, name) for name, value in constants.items()],
    )
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", OPSET)], producer_name="train.py")
    model.ir_version = IR_VERSION
    onnx.checker.check_model(model, full_check=True)
    return model


def session(path: Path) -> onnxruntime.InferenceSession:
    """The file in ONNX Runtime, on one thread."""
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = 1
    return onnxruntime.InferenceSession(str(path), options, providers=["CPUExecutionProvider"])


def answers(model: onnxruntime.InferenceSession, rows: Rows, batch: int = 64) -> tuple[np.ndarray, np.ndarray]:
    """Probabilities and embeddings of all rows."""
    parts = []
    for start in range(0, len(rows), batch):
        part = rows.take(np.arange(start, min(start + batch, len(rows))))
        shown = {"tokens": part.tokens, "words": part.words, "groups": part.groups.astype(np.int32)}
        parts.append(model.run(["probabilities", "embedding"], shown))
    return np.concatenate([part[0] for part in parts]), np.concatenate([part[1] for part in parts])
