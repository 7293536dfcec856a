"""Writes tests/golden/networks: tiny image encoders as ONNX files, and what ONNX Runtime makes of them.

Needs: onnx, onnxruntime, torch, safetensors (made with 1.23.2, 1.32.0, 2.15.0 and 0.8.0).
`maps.onnx`: convolutions, any size; maps `/body/out` (stride 4) and `last` (stride 8). `rows.onnx`: a ViT's rows,
32 px, a class token before the patches. `odd.onnx`: an operator that nobody knows. `half.onnx`, `four.onnx`,
`grey.onnx`: inputs that are no f32 picture. `expected.safetensors`: `pixels`
[3, 32, 32] (normalised); the taps as rows of an 8 x 8 grid, `maps.stride4` [64, 8], `maps.stride8` [64, 12] (enlarged by
PyTorch, bilinear), and of a 4 x 4 grid, `rows.tokens` [16, 12].
"""
import os
import numpy as np
import onnx
import onnxruntime
import torch
from onnx import TensorProto, helper, numpy_helper
from safetensors.numpy import save_file

HERE = os.path.join(os.path.dirname(os.path.abspath(__file__)), "networks")
os.makedirs(HERE, exist_ok=True)
random = np.random.default_rng(7)


def weights(name, *shape):
    fan = int(np.prod(shape[1:])) or 1
    return numpy_helper.from_array((random.standard_normal(shape) * (2 / fan) ** 0.5).astype(np.float32), name)


def vector(name, n):
    return numpy_helper.from_array((random.standard_normal(n) * 0.2).astype(np.float32), name)


def save(name, nodes, tensors, inputs, outputs):
    graph = helper.make_graph(nodes, name, inputs, outputs, tensors)
    opsets = [helper.make_opsetid("", 17), helper.make_opsetid("com.example", 1)]
    model = helper.make_model(graph, opset_imports=opsets, ir_version=8)
    path = os.path.join(HERE, name)
    onnx.save(model, path)
    return path


node = helper.make_node
info = lambda name, *shape: helper.make_tensor_value_info(name, TensorProto.FLOAT, list(shape))

half = dict(strides=[2, 2], pads=[1, 1, 1, 1], kernel_shape=[3, 3])
body = [
    node("Conv", ["image", "w1", "b1"], ["c1"], "/stem/conv", **half),
    node("Relu", ["c1"], ["r1"], "/stem/relu"),
    node("Conv", ["r1", "w2", "b2"], ["c2"], "/body/conv", **half),
    node("HardSwish", ["c2"], ["/body/out"], "/body/act"),
    node("Conv", ["/body/out", "w3", "b3"], ["c3"], "/deep/depthwise", group=8, **half),
    node("Clip", ["c3", "zero", "six"], ["k3"], "/deep/clip"),
    node("Conv", ["k3", "w4", "b4"], ["c4"], "/deep/point", kernel_shape=[1, 1]),
    node("Sigmoid", ["c4"], ["s4"], "/deep/gate"),
    node("Mul", ["c4", "s4"], ["last"], "/deep/silu"),
]
constants = [
    weights("w1", 8, 3, 3, 3), vector("b1", 8), weights("w2", 8, 8, 3, 3), vector("b2", 8),
    weights("w3", 8, 1, 3, 3), vector("b3", 8), weights("w4", 12, 8, 1, 1), vector("b4", 12),
    numpy_helper.from_array(np.float32(0), "zero"), numpy_helper.from_array(np.float32(6), "six"),
]
image = info("image", "N", 3, "H", "W")
maps = save("maps.onnx", body, constants, [image], [info("/body/out", "N", 8, None, None), info("last", "N", 12, None, None)])

shape = lambda name, *dims: numpy_helper.from_array(np.array(dims, np.int64), name)
rows = save(
    "rows.onnx",
    [
        node("Conv", ["image", "w", "b"], ["patches"], "embed", strides=[8, 8], kernel_shape=[8, 8]),
        node("Reshape", ["patches", "flat"], ["flattened"], "flatten"),
        node("Transpose", ["flattened"], ["turned"], "turn", perm=[0, 2, 1]),
        node("Concat", ["class", "turned"], ["all"], "join", axis=1),
        node("LayerNormalization", ["all", "scale", "shift"], ["normed"], "norm", axis=-1, epsilon=1e-6),
        node("MatMul", ["normed", "mix"], ["mixed"], "mix_in"),
        node("Softmax", ["mixed"], ["soft"], "softmax", axis=-1),
        node("Add", ["all", "soft"], ["tokens"], "residual"),
    ],
    [weights("w", 12, 3, 8, 8), vector("b", 12), shape("flat", 1, 12, 16), weights("class", 1, 1, 12), vector("scale", 12),
     vector("shift", 12), weights("mix", 12, 12)],
    [info("image", 1, 3, 32, 32)],
    [info("tokens", 1, 17, 12)],
)
save("odd.onnx", body[:2] + [node("Mystery", ["r1"], ["m"], "riddle", domain="com.example"), node("Relu", ["m"], ["last"], "end")],
     constants[:2], [image], [info("last", "N", 8, None, None)])

# Inputs that are no f32 picture.
for name, kind, dims in [("half", TensorProto.FLOAT16, (1, 3)), ("four", TensorProto.FLOAT, (4, 3)), ("grey", TensorProto.FLOAT, (1, 1))]:
    sides = [helper.make_tensor_value_info(n, kind, [*dims, 32, 32]) for n in ("image", "last")]
    save(f"{name}.onnx", [node("Relu", ["image"], ["last"], "relu")], [], sides[:1], sides[1:])

pixels = random.standard_normal((3, 32, 32)).astype(np.float32)
run = lambda path: onnxruntime.InferenceSession(path, providers=["CPUExecutionProvider"]).run(None, {"image": pixels[None]})
stride4, stride8 = run(maps)
stride8 = torch.nn.functional.interpolate(torch.from_numpy(stride8), size=(8, 8), mode="bilinear", align_corners=False).numpy()
on_grid = lambda m: np.ascontiguousarray(m[0].reshape(m.shape[1], -1).T)
save_file(
    {"pixels": pixels, "maps.stride4": on_grid(stride4), "maps.stride8": on_grid(stride8),
     "rows.tokens": np.ascontiguousarray(run(rows)[0][0, 1:])},
    os.path.join(HERE, "expected.safetensors"),
)
