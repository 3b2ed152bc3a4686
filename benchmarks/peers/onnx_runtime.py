"""ONNX Runtime on a model of one Conv node, its weights known ahead, as in a deployed model."""

from __future__ import annotations

from ..layers import Arrays, Layer
from .base import Peer, Prepared, Run


class OnnxRuntime(Peer):
    name = "ONNX Runtime"
    modules = ("onnx", "onnxruntime")

    def prepare(self, layer: Layer, arrays: Arrays) -> Prepared:
        import onnxruntime

        options = onnxruntime.SessionOptions()
        options.intra_op_num_threads = self.threads
        options.inter_op_num_threads = 1
        options.log_severity_level = 3
        session = onnxruntime.InferenceSession(
            _model(layer, arrays), options, providers=["CPUExecutionProvider"]
        )
        feed = {"x": arrays.x}
        return Prepared(Run(lambda: session.run(None, feed)[0]))


def _model(layer: Layer, arrays: Arrays) -> bytes:
    from onnx import TensorProto, helper, numpy_helper

    conv = helper.make_node(
        "Conv",
        ["x", "w", "b"],
        ["y"],
        strides=[layer.stride] * 2,
        pads=[layer.padding] * 4,
        group=layer.groups,
    )
    graph = helper.make_graph(
        [conv],
        "conv",
        [helper.make_tensor_value_info("x", TensorProto.FLOAT, layer.x_shape)],
        [helper.make_tensor_value_info("y", TensorProto.FLOAT, layer.y_shape)],
        [numpy_helper.from_array(arrays.w, "w"), numpy_helper.from_array(arrays.b, "b")],
    )
    # Versions that runtimes some years old still read.
    opset = helper.make_opsetid("", 17)
    model = helper.make_model(graph, opset_imports=[opset], ir_version=9)
    return bytes(model.SerializeToString())
