"""ResNets of several sizes as ONNX files, with random weights: how long they take does not depend on the values.

He et al., *Deep residual learning for image recognition*, CVPR 2016, table 1; batch normalisation is folded into the
convolutions, as every runtime does, and the stride of a bottleneck is at its 3 × 3 convolution, as in torchvision.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np

#: Blocks of each of the four stages, and whether a block is a bottleneck of three convolutions.
DEPTHS = {
    18: ((2, 2, 2, 2), False),
    50: ((3, 4, 6, 3), True),
    152: ((3, 8, 36, 3), True),
}
PIXELS, CLASSES = 224, 1_000


class _Graph:
    """Nodes and weights so far; a tensor is known by its name."""

    def __init__(self) -> None:
        self.nodes: list[object] = []
        self.weights: list[object] = []
        self._random = np.random.default_rng(0)

    def weight(self, *shape: int) -> str:
        from onnx import numpy_helper

        fan_in = int(np.prod(shape[1:])) if len(shape) > 1 else shape[0]
        values = self._random.normal(0.0, 1.0 / np.sqrt(fan_in), shape).astype(np.float32)
        name = f"w{len(self.weights)}"
        self.weights.append(numpy_helper.from_array(values, name))
        return name

    def node(self, kind: str, inputs: list[str], **attributes: object) -> str:
        from onnx import helper

        name = f"t{len(self.nodes)}"
        self.nodes.append(helper.make_node(kind, inputs, [name], **attributes))
        return name

    def conv(self, x: str, taken: int, made: int, size: int, stride: int = 1) -> str:
        pads = [size // 2] * 4
        weights = [self.weight(made, taken, size, size), self.weight(made)]
        return self.node("Conv", [x, *weights], strides=[stride] * 2, pads=pads)

    def relu(self, x: str) -> str:
        return self.node("Relu", [x])

    def block(self, x: str, taken: int, width: int, stride: int, is_bottleneck: bool) -> tuple[str, int]:
        made = 4 * width if is_bottleneck else width
        if is_bottleneck:
            y = self.relu(self.conv(x, taken, width, 1))
            y = self.conv(self.relu(self.conv(y, width, width, 3, stride)), width, made, 1)
        else:
            y = self.conv(self.relu(self.conv(x, taken, width, 3, stride)), width, made, 3)
        if stride != 1 or taken != made:
            x = self.conv(x, taken, made, 1, stride)
        return self.relu(self.node("Add", [x, y])), made


def write(depth: int, path: Path) -> None:
    """Write a ResNet of so many layers."""
    import onnx

    onnx.save(build(depth), str(path))


def build(depth: int) -> Any:
    """Make a ResNet of so many layers; its first axis, the batch, is free."""
    from onnx import TensorProto, helper

    stages, is_bottleneck = DEPTHS[depth]
    graph = _Graph()
    x = graph.relu(graph.conv("image", 3, 64, 7, 2))
    x, channels = graph.node("MaxPool", [x], kernel_shape=[3, 3], strides=[2, 2], pads=[1] * 4), 64
    for number, blocks in enumerate(stages):
        for block in range(blocks):
            stride = 2 if number and not block else 1
            x, channels = graph.block(x, channels, 64 * 2**number, stride, is_bottleneck)
    pooled = graph.node("Flatten", [graph.node("GlobalAveragePool", [x])])
    last = graph.node("Gemm", [pooled, graph.weight(channels, CLASSES), graph.weight(CLASSES)])
    image = helper.make_tensor_value_info("image", TensorProto.FLOAT, ["batch", 3, PIXELS, PIXELS])
    logits = helper.make_tensor_value_info(last, TensorProto.FLOAT, ["batch", CLASSES])
    made = helper.make_graph(graph.nodes, f"resnet-{depth}", [image], [logits], graph.weights)
    return helper.make_model(made, opset_imports=[helper.make_opsetid("", 13)], ir_version=8)
