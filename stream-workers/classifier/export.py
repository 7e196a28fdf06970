"""The trained network as an ONNX file.

Input `ids` int64 [N, L], filled up with `BUCKETS`; output `probabilities` float32
[N, labels], the temperature included.
"""

from __future__ import annotations

from pathlib import Path

import numpy as np
import onnx
import onnxruntime
from onnx import TensorProto, helper, numpy_helper

from dataset import BUCKETS, Rows
from labels import LABELS
from network import Params, logits_of, softmax

OPSET = 17
#: The oldest format of file that can say opset 17 and every runtime of today reads.
IR_VERSION = 8


def build(params: Params, temperature: float) -> onnx.ModelProto:
    """The graph. The table is kept in half precision, which halves the file."""
    table = np.zeros((BUCKETS + 1, params["table"].shape[1]), np.float16)
    table[:BUCKETS] = params["table"].astype(np.float16)
    constants = {
        "table": table,
        "padding": np.array(BUCKETS, np.int64),
        "features_axis": np.array([1], np.int64),
        "one": np.array(1, np.float32),
        "w1": params["w1"],
        "b1": params["b1"],
        "w2": (params["w2"] / temperature).astype(np.float32),
        "b2": (params["b2"] / temperature).astype(np.float32),
    }
    node = helper.make_node
    nodes = [
        node("Gather", ["table", "ids"], ["rows16"], axis=0),
        node("Cast", ["rows16"], ["rows"], to=TensorProto.FLOAT),
        node("ReduceSum", ["rows", "features_axis"], ["sums"], keepdims=0),
        node("Equal", ["ids", "padding"], ["is_padding"]),
        node("Not", ["is_padding"], ["is_feature"]),
        node("Cast", ["is_feature"], ["mask"], to=TensorProto.FLOAT),
        node("ReduceSum", ["mask", "features_axis"], ["counts"], keepdims=1),
        node("Max", ["counts", "one"], ["divisors"]),
        node("Div", ["sums", "divisors"], ["mean"]),
        node("Gemm", ["mean", "w1", "b1"], ["raw"]),
        node("Relu", ["raw"], ["hidden"]),
        node("Gemm", ["hidden", "w2", "b2"], ["logits"]),
        node("Softmax", ["logits"], ["probabilities"], axis=1),
    ]
    graph = helper.make_graph(
        nodes,
        "webhook-classifier",
        [helper.make_tensor_value_info("ids", TensorProto.INT64, ["N", "L"])],
        [helper.make_tensor_value_info("probabilities", TensorProto.FLOAT, ["N", len(LABELS)])],
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


def probabilities(model: onnxruntime.InferenceSession, rows: Rows, batch: int = 64) -> np.ndarray:
    """The answers of a loaded model for all rows, [rows, labels]."""
    parts = [np.zeros((0, len(LABELS)), np.float32)]
    for start in range(0, len(rows), batch):
        which = np.arange(start, min(start + batch, len(rows)))
        parts.append(model.run(["probabilities"], {"ids": rows.padded(which)})[0])
    return np.concatenate(parts)


def difference(path: Path, params: Params, temperature: float, rows: Rows, which: np.ndarray) -> float:
    """The largest difference between ONNX Runtime's answers and numpy's, an empty webhook included."""
    ids = np.concatenate([rows.padded(which), np.full((1, rows.padded(which).shape[1]), BUCKETS)])
    found = session(path).run(["probabilities"], {"ids": ids})[0]
    wanted = softmax(logits_of(params, rows, which) / temperature)
    hidden = np.maximum(params["b1"], 0)
    empty = softmax((hidden @ params["w2"] + params["b2"])[None] / temperature)
    return float(np.abs(found - np.concatenate([wanted, empty])).max())
