"""Caffe's bvlc_googlenet as an ONNX graph with random weights, as the ONNX model zoo has it.

Source: BVLC/caffe models/bvlc_googlenet/deploy.prototxt. Names of initializers are the zoo's
(NAME_w_0, NAME_b_0, and integers that are shapes); the input is [n, 3, h, w], blue, green, red,
in 0..255 less the mean (104, 117, 123).
"""

import numpy as np
from onnx import TensorProto, helper, numpy_helper
from published_names import CONVOLUTIONS

POOL_BEFORE = ("conv2/3x3_reduce", "inception_3a/1x1", "inception_4a/1x1", "inception_5a/1x1")
NORM_BEFORE = "conv2/3x3_reduce"  # after pool 1; the other is before pool 2
HEADS = {"inception_4a": "loss1", "inception_4d": "loss2"}


class _Graph:
    def __init__(self, rng, width):
        self.rng, self.width = rng, width
        self.nodes, self.initializers = [], []

    def scaled(self, units):
        return max(1, round(units * self.width))

    def add(self, operator, inputs, output, **attributes):
        self.nodes.append(helper.make_node(operator, inputs, [output], output, **attributes))
        return output

    def constant(self, name, values):
        self.initializers.append(numpy_helper.from_array(values, name))
        return name

    def weights(self, name, shape, deviation):
        bias = self.rng.normal(0.05, 0.1, shape[0]).astype(np.float32)
        kernel = self.rng.normal(0, deviation, shape).astype(np.float32)
        return [self.constant(f"{name}_w_0", kernel), self.constant(f"{name}_b_0", bias)]

    def convolution(self, x, name, filters, channels, kernel, stride=1):
        filters = self.scaled(filters)
        channels = channels if x == "data_0" else self.scaled(channels)
        # Deviations as large as keeps the activations' size; the first layer's input is large.
        deviation = (2 / (channels * kernel**2)) ** 0.5 / (50 if x == "data_0" else 1)
        parameters = self.weights(name, (filters, channels, kernel, kernel), deviation)
        pads, strides = [kernel // 2] * 4, [stride, stride]
        size = [kernel, kernel]
        x = self.add("Conv", [x, *parameters], name, kernel_shape=size, strides=strides, pads=pads)
        return self.add("Relu", [x], f"{name}/relu")

    def linear(self, x, name, units, features):
        parameters = self.weights(name, (units, features), (2 / features) ** 0.5)
        return self.add("Gemm", [x, *parameters], name, transB=1)

    def flat(self, x, name, features):
        shape = self.constant(f"OC2_DUMMY_{name}", np.array([-1, features], np.int64))
        return self.add("Reshape", [x, shape], f"{name}/flat")

    def norm(self, x, name):
        return self.add("LRN", [x], name, size=5, alpha=1e-4, beta=0.75, bias=1.0)


def build(rng, size, classes, auxiliary, width=1.0):
    """The bytes of a model, with `width` times Caffe's filters and hidden units.

    Outputs: the logits `loss3/classifier` and probabilities `prob`, and with `auxiliary` also
    `loss1/classifier` and `loss2/classifier`.
    """
    graph = _Graph(rng, width)
    x, outputs = "data_0", []
    for index, row in enumerate(CONVOLUTIONS[:3]):
        if row.caffe in POOL_BEFORE:
            x = graph.add("MaxPool", [x], "pool1", kernel_shape=[3, 3], strides=[2, 2], ceil_mode=1)
        if row.caffe == NORM_BEFORE:
            x = graph.norm(x, "pool1/norm1")
        x = graph.convolution(x, *row[:4], stride=1 if index else 2)
    x = graph.norm(x, "conv2/norm2")
    for start in range(3, 57, 6):
        rows = CONVOLUTIONS[start : start + 6]
        module = rows[0].caffe.split("/")[0]
        if rows[0].caffe in POOL_BEFORE:
            name = f"pool_before_{module}"
            x = graph.add("MaxPool", [x], name, kernel_shape=[3, 3], strides=[2, 2], ceil_mode=1)
        one, three_reduce, three, five_reduce, five, projection = (row[:4] for row in rows)
        pooled = graph.add(
            "MaxPool", [x], f"{module}/pool", kernel_shape=[3, 3], strides=[1, 1], pads=[1] * 4
        )
        branches = [
            graph.convolution(x, *one),
            graph.convolution(graph.convolution(x, *three_reduce), *three),
            graph.convolution(graph.convolution(x, *five_reduce), *five),
            graph.convolution(pooled, *projection),
        ]
        x = graph.add("Concat", branches, f"{module}/output", axis=1)
        channels = one[1] + three[1] + five[1] + projection[1]
        if auxiliary and module in HEADS:
            outputs.append(_head(graph, x, HEADS[module], channels, classes))
    x = graph.add("GlobalAveragePool", [x], "pool5/7x7_s1")
    x = graph.flat(graph.add("Dropout", [x], "pool5/drop"), "loss3", graph.scaled(1024))
    logits = graph.linear(x, "loss3/classifier", classes, graph.scaled(1024))
    graph.add("Softmax", [logits], "prob", axis=1)
    described = helper.make_graph(
        graph.nodes,
        "GoogleNet",
        [helper.make_tensor_value_info("data_0", TensorProto.FLOAT, ["n", 3, size, size])],
        [
            helper.make_tensor_value_info(name, TensorProto.FLOAT, ["n", classes])
            for name in ("prob", logits, *outputs)
        ],
        graph.initializers,
    )
    opset = [helper.make_opsetid("", 12)]
    return helper.make_model(described, opset_imports=opset, ir_version=7).SerializeToString()


def _head(graph, x, name, channels, classes):
    """Average pool 5x5/3, 1x1 convolution, fully connected, linear; Caffe flattens C, H, W."""
    x = graph.add("AveragePool", [x], f"{name}/ave_pool", kernel_shape=[5, 5], strides=[3, 3])
    features, hidden = 4 * 4 * graph.scaled(128), graph.scaled(1024)
    x = graph.flat(graph.convolution(x, f"{name}/conv", 128, channels, 1), name, features)
    x = graph.add("Relu", [graph.linear(x, f"{name}/fc", hidden, features)], f"{name}/relu_fc")
    return graph.linear(x, f"{name}/classifier", classes, hidden)
