"""The peers that `compare.py` times: FAPrompt's published procedure in PyTorch, and the encoder in ONNX Runtime.

All read the checkpoint that the bundles were made from (CLIP's, or DINOv2's, whose encoder alone is run, or an ONNX file). Run as a program, this is a worker: it builds one peer, judges a
first frame, and then answers every line on standard input with the milliseconds of one more frame, as JSON.
Usage: peers.py KIND CHECKPOINT IMAGE_SIZE THREADS FOLDER, KIND one of the keys of KINDS.
"""

import json
import os
import sys
import time

import numpy as np
from safetensors.numpy import load_file

TOKENS, PROMPTS = 77, 11  # the published prompts: one normal, ten abnormal, padded to CLIP's 77 tokens
EPSILON = 1e-5


class Clip:
    """Sizes and f32 tensors of a checkpoint in OpenAI's names."""

    def __init__(self, path, size):
        self.tensors = {k: v.astype(np.float32) for k, v in load_file(path).items()}
        self.width, _, self.patch, _ = self["visual.conv1.weight"].shape
        self.size, self.grid = size, size // self.patch
        self.layers = self.count("visual.")
        self.heads = self.width // 64
        self.vv_layers = self.layers * 19 // 24  # AnomalyCLIP's 19 of ViT-L's 24, in proportion
        self.text_width = self["ln_final.weight"].shape[0]

    def __getitem__(self, name):
        return self.tensors[name]

    def count(self, side):
        return 1 + max(int(k.split("resblocks.")[1].split(".")[0]) for k in self.tensors
                       if k.startswith(f"{side}transformer.resblocks."))

    def positions(self):
        """Positional embeddings, resized bilinearly to the grid: the values do not matter for the time."""
        own = self["visual.positional_embedding"]
        side = int((len(own) - 1) ** 0.5)
        if side == self.grid:
            return own
        at = (np.arange(self.grid) + 0.5) * side / self.grid - 0.5
        low = np.clip(np.floor(at).astype(int), 0, side - 1)
        high, part = np.minimum(low + 1, side - 1), np.clip(at - low, 0, 1)[:, None]
        grid = own[1:].reshape(side, side, -1)
        grid = grid[low] * (1 - part[..., None]) + grid[high] * part[..., None]
        grid = grid[:, low] * (1 - part) + grid[:, high] * part
        return np.concatenate([own[:1], grid.reshape(self.grid ** 2, -1)]).astype(np.float32)


class Network:
    """An ONNX file as it is."""

    def __init__(self, path, size):
        self.path, self.size = path, size


def frame(size):
    return np.random.default_rng(1).standard_normal((1, 3, size, size), dtype=np.float32)


class Graph:
    """An ONNX graph in the making, in the operators that an exporter would use."""

    def __init__(self, opset):
        self.nodes, self.weights, self.opset = [], {}, opset

    def put(self, name, value):
        from onnx import numpy_helper
        self.weights[name] = numpy_helper.from_array(np.ascontiguousarray(value), name)
        return name

    def add(self, op, *inputs, outputs=None, **attributes):
        from onnx import helper
        outputs = outputs or [f"{op}_{len(self.nodes)}"]
        self.nodes.append(helper.make_node(op, list(inputs), outputs, **attributes))
        return outputs[0]

    def norm(self, x, name, weight, bias, epsilon):
        return self.add("LayerNormalization", x, self.put(f"{name}.weight", weight), self.put(f"{name}.bias", bias), axis=-1,
                        epsilon=epsilon)

    def linear(self, x, name, weight, bias):
        return self.add("Add", self.add("MatMul", x, self.put(f"{name}.w", weight.T)), self.put(f"{name}.b", bias))

    def heads(self, width, tokens):
        """`heads_of` and `attend` for heads of 64 channels."""
        split = self.put("split", np.array([1, tokens, width // 64, 64]))
        joined = self.put("joined", np.array([1, tokens, width]))
        scale = self.put("scale", np.float32(0.125))

        def heads_of(x, order):
            return self.add("Transpose", self.add("Reshape", x, split), perm=order)

        def attend(q, k, v):
            weights = self.add("Softmax", self.add("MatMul", self.add("Mul", q, scale), k), axis=-1)
            return self.add("Reshape", self.add("Transpose", self.add("MatMul", weights, v), perm=[0, 2, 1, 3]), joined)

        return heads_of, attend

    def thirds(self, x, at, weight, bias):
        names = [f"{at}.q", f"{at}.k", f"{at}.v"]
        self.add("Split", self.linear(x, f"{at}.qkv", weight, bias), outputs=names, axis=-1, num_outputs=3)
        return names

    def patches(self, clip, weight, bias, class_row):
        """The class row, then the patches, without positions."""
        inputs = ["image", self.put("conv1", weight)] + ([] if bias is None else [self.put("conv1.b", bias)])
        x = self.add("Conv", *inputs, strides=[clip.patch] * 2)
        x = self.add("Reshape", x, self.put("flat", np.array([1, clip.width, clip.grid ** 2])))
        x = self.add("Transpose", x, perm=[0, 2, 1])
        return self.add("Concat", self.put("class", class_row.reshape(1, 1, clip.width)), x, axis=1)

    def model(self, size, outputs):
        from onnx import TensorProto, helper

        def value(name, shape):
            return helper.make_tensor_value_info(name, TensorProto.FLOAT, shape)

        graph = helper.make_graph(self.nodes, "encoder", [value("image", [1, 3, size, size])],
                                  [value(name, shape) for name, shape in outputs], list(self.weights.values()))
        return helper.make_model(graph, opset_imports=[helper.make_opsetid("", self.opset)], ir_version=10)


class Dino:
    """DINOv2's sizes and f32 tensors, in its authors' names."""

    def __init__(self, path, size):
        self.tensors = {k: v.astype(np.float32) for k, v in load_file(path).items()}
        self.width, _, self.patch, _ = self["patch_embed.proj.weight"].shape
        self.size, self.grid = size, size // self.patch
        self.layers = sum(k.endswith(".norm1.weight") for k in self.tensors)

    def __getitem__(self, name):
        return self.tensors[name]

    @staticmethod
    def random(path, width, layers, patch, size):
        """Weights without meaning."""
        from safetensors.numpy import save_file
        draw = np.random.default_rng(1)
        gauss = lambda *shape, std: (draw.standard_normal(shape) * std).astype(np.float32)
        tensors = {"cls_token": gauss(1, 1, width, std=0.1), "pos_embed": gauss(1, 1 + (size // patch) ** 2, width, std=0.1)}

        def layer(name, outputs, inputs, *more):
            tensors[f"{name}.weight"] = gauss(outputs, inputs, *more, std=float(inputs * np.prod(more or 1)) ** -0.5)
            tensors[f"{name}.bias"] = gauss(outputs, std=0.02)

        def norm(name):
            tensors[f"{name}.weight"], tensors[f"{name}.bias"] = 1 + gauss(width, std=0.1), gauss(width, std=0.05)

        layer("patch_embed.proj", width, 3, patch, patch)
        for i in range(layers):
            for name in ("norm1", "norm2"):
                norm(f"blocks.{i}.{name}")
            layer(f"blocks.{i}.attn.qkv", 3 * width, width)
            layer(f"blocks.{i}.attn.proj", width, width)
            layer(f"blocks.{i}.mlp.fc1", 4 * width, width)
            layer(f"blocks.{i}.mlp.fc2", width, 4 * width)
            for scale in ("ls1", "ls2"):
                tensors[f"blocks.{i}.{scale}.gamma"] = 0.5 + gauss(width, std=0.1)
        norm("norm")
        save_file(tensors, path)

    def onnx_model(self):
        """The image encoder as an ONNX graph, layer scale folded into the matrices before it."""
        g = Graph(20)
        heads_of, attend = g.heads(self.width, self.grid ** 2 + 1)
        x = g.patches(self, self["patch_embed.proj.weight"], self["patch_embed.proj.bias"], self["cls_token"])
        x = g.add("Add", x, g.put("positions", self["pos_embed"][0]))
        for i in range(self.layers):
            at = f"blocks.{i}"
            n = g.norm(x, f"{at}.norm1", self[f"{at}.norm1.weight"], self[f"{at}.norm1.bias"], 1e-6)
            q, k, v = g.thirds(n, at, self[f"{at}.attn.qkv.weight"], self[f"{at}.attn.qkv.bias"])
            a = attend(heads_of(q, [0, 2, 1, 3]), heads_of(k, [0, 2, 3, 1]), heads_of(v, [0, 2, 1, 3]))
            scale = self[f"{at}.ls1.gamma"]
            w, b = self[f"{at}.attn.proj.weight"] * scale[:, None], self[f"{at}.attn.proj.bias"] * scale
            x = g.add("Add", x, g.linear(a, f"{at}.out", w, b))
            n = g.norm(x, f"{at}.norm2", self[f"{at}.norm2.weight"], self[f"{at}.norm2.bias"], 1e-6)
            h = g.add("Gelu", g.linear(n, f"{at}.fc1", self[f"{at}.mlp.fc1.weight"], self[f"{at}.mlp.fc1.bias"]))
            scale = self[f"{at}.ls2.gamma"]
            w, b = self[f"{at}.mlp.fc2.weight"] * scale[:, None], self[f"{at}.mlp.fc2.bias"] * scale
            x = g.add("Add", x, g.linear(h, f"{at}.fc2", w, b))
        last = g.norm(x, "norm", self["norm.weight"], self["norm.bias"], 1e-6)
        g.add("Identity", last, outputs=["patches"])
        g.add("Identity", last, outputs=["class_feature"])
        rows = [1, self.grid ** 2 + 1, self.width]
        return g.model(self.size, [("patches", rows), ("class_feature", rows)])


def onnx_model(clip):
    """The image encoder with the V-V stream as an ONNX graph."""
    if isinstance(clip, Dino):
        return clip.onnx_model()
    g = Graph(18)
    width, tokens = clip.width, clip.grid ** 2 + 1

    def norm(x, name):
        return g.norm(x, name, clip[f"{name}.weight"], clip[f"{name}.bias"], EPSILON)

    heads_of, attend = g.heads(width, tokens)
    slope = g.put("slope", np.float32(1.702))
    x = g.patches(clip, clip["visual.conv1.weight"], None, clip["visual.class_embedding"])
    x = norm(g.add("Add", x, g.put("positions", clip.positions())), "visual.ln_pre")
    y = None
    for i in range(clip.layers):
        at = f"visual.transformer.resblocks.{i}"
        out_w, out_b = clip[f"{at}.attn.out_proj.weight"], clip[f"{at}.attn.out_proj.bias"]
        thirds = g.thirds(norm(x, f"{at}.ln_1"), at, clip[f"{at}.attn.in_proj_weight"], clip[f"{at}.attn.in_proj_bias"])
        q, v = (heads_of(t, [0, 2, 1, 3]) for t in (thirds[0], thirds[2]))
        k = heads_of(thirds[1], [0, 2, 3, 1])
        if i >= clip.layers - clip.vv_layers:
            y = y or x
            across = attend(v, heads_of(thirds[2], [0, 2, 3, 1]), v)
            y = g.add("Add", y, g.linear(across, f"{at}.out", out_w, out_b))
        x = g.add("Add", x, g.linear(attend(q, k, v), f"{at}.out", out_w, out_b))
        h = g.linear(norm(x, f"{at}.ln_2"), f"{at}.fc", clip[f"{at}.mlp.c_fc.weight"], clip[f"{at}.mlp.c_fc.bias"])
        h = g.add("Mul", h, g.add("Sigmoid", g.add("Mul", h, slope)))
        x = g.add("Add", x, g.linear(h, f"{at}.proj", clip[f"{at}.mlp.c_proj.weight"], clip[f"{at}.mlp.c_proj.bias"]))
    project = g.put("proj", clip["visual.proj"])
    g.add("MatMul", norm(y, "visual.ln_post"), project, outputs=["patches"])
    g.add("MatMul", x, project, outputs=["class_feature"])
    features = [1, tokens, clip["visual.proj"].shape[1]]
    return g.model(clip.size, [("patches", features), ("class_feature", features)])


def onnxruntime_peer(clip, threads, folder, int8):
    import onnxruntime as ort

    own = isinstance(clip, Network)
    path = clip.path if own else os.path.join(folder, f"encoder-{clip.size}-{'int8' if int8 else 'f32'}.onnx")
    if not os.path.exists(path):
        import onnx
        model = onnx_model(clip)
        if int8:
            from onnxruntime.quantization import QuantType, quantize_dynamic
            quantize_dynamic(model, path, weight_type=QuantType.QInt8, per_channel=True)
        else:
            onnx.save(model, path)
    options = ort.SessionOptions()
    options.intra_op_num_threads, options.inter_op_num_threads = threads, 1
    session = ort.InferenceSession(path, options, providers=["CPUExecutionProvider"])
    image = {session.get_inputs()[0].name: frame(clip.size)}

    def run():
        start = time.perf_counter()
        outputs = session.run(None, image)
        return {"encode": 1e3 * (time.perf_counter() - start)}, outputs

    return run, ort.__version__


def torch_peer(clip, threads, compiled):
    """Image encoder with the V-V stream, then all prompts of 77 tokens again for each image, with the prior added."""
    import torch
    from torch import nn

    torch.set_num_threads(threads)
    torch.set_grad_enabled(False)

    class Block(nn.Module):
        def __init__(self, at, width):
            super().__init__()
            self.attn = nn.MultiheadAttention(width, width // 64, batch_first=True)
            self.ln_1, self.ln_2 = nn.LayerNorm(width), nn.LayerNorm(width)
            self.mlp = nn.ModuleDict({"c_fc": nn.Linear(width, 4 * width), "c_proj": nn.Linear(4 * width, width)})
            own = {k[len(at) + 1:]: torch.from_numpy(v) for k, v in clip.tensors.items() if k.startswith(at + ".")}
            self.load_state_dict(own)

        def forward(self, x, mask=None):
            n = self.ln_1(x)
            x = x + self.attn(n, n, n, need_weights=False, attn_mask=mask)[0]
            h = self.mlp["c_fc"](self.ln_2(x))
            return x + self.mlp["c_proj"](h * torch.sigmoid(1.702 * h))

        def across(self, x):
            tokens, width = x.shape[1:]
            v = self.ln_1(x) @ self.attn.in_proj_weight[2 * width:].T + self.attn.in_proj_bias[2 * width:]
            v = v.view(tokens, width // 64, 64).transpose(0, 1)
            attended = torch.softmax(v @ v.transpose(1, 2) / 8, -1) @ v
            return self.attn.out_proj(attended.transpose(0, 1).reshape(1, tokens, width))

    t = {k: torch.from_numpy(v) for k, v in clip.tensors.items() if "resblocks" not in k}
    positions = torch.from_numpy(clip.positions())
    images = nn.ModuleList([Block(f"visual.transformer.resblocks.{i}", clip.width) for i in range(clip.layers)]).eval()
    texts = nn.ModuleList([Block(f"transformer.resblocks.{i}", clip.text_width) for i in range(clip.count(""))]).eval()
    mask = torch.full((TOKENS, TOKENS), float("-inf")).triu(1)

    def normed(x, name):
        return nn.functional.layer_norm(x, x.shape[-1:], t[f"{name}.weight"], t[f"{name}.bias"], EPSILON)

    def encode(image):
        x = nn.functional.conv2d(image, t["visual.conv1.weight"], stride=clip.patch).flatten(2).transpose(1, 2)
        x = torch.cat([t["visual.class_embedding"].view(1, 1, -1), x], 1) + positions
        x = normed(x, "visual.ln_pre")
        y = x
        for i, block in enumerate(images):
            if i == clip.layers - clip.vv_layers:
                y = x
            if i >= clip.layers - clip.vv_layers:
                y = y + block.across(x)
            x = block(x)
        return normed(y, "visual.ln_post") @ t["visual.proj"], x @ t["visual.proj"]

    def adapt(x):
        for block in texts:
            x = block(x, mask)
        return normed(x[:, -1], "ln_final") @ t["text_projection"]

    if compiled:
        encode, adapt = torch.compile(encode), torch.compile(adapt)
    image = torch.from_numpy(frame(clip.size))
    prompts = torch.randn(PROMPTS, TOKENS, clip.text_width) * 0.02

    def run():
        start = time.perf_counter()
        outputs = encode(image)
        middle = time.perf_counter()
        adapt(prompts)
        end = time.perf_counter()
        return {"encode": 1e3 * (middle - start), "adapt": 1e3 * (end - middle), "total": 1e3 * (end - start)}, \
            [o.numpy() for o in outputs]

    return run, torch.__version__


KINDS = {
    "ONNX Runtime f32": lambda clip, threads, folder: onnxruntime_peer(clip, threads, folder, False),
    "ONNX Runtime int8": lambda clip, threads, folder: onnxruntime_peer(clip, threads, folder, True),
    "PyTorch published": lambda clip, threads, folder: torch_peer(clip, threads, False),
    "PyTorch compiled": lambda clip, threads, folder: torch_peer(clip, threads, True),
}


def main():
    kind, checkpoint, size, threads, folder = sys.argv[1:]
    network = {"dino.safetensors": Dino, "network.onnx": Network}.get(os.path.basename(checkpoint), Clip)
    run, version = KINDS[kind](network(checkpoint, int(size)), int(threads), folder)
    _, outputs = run()
    # A digest of the features: all peers must agree on what they compute.
    first, *_, last = [*outputs, outputs[0]] if network is Network else outputs
    digest = [float(np.abs(first[0, 1:]).mean()), float(np.abs(last[0, 0]).mean())]
    print(json.dumps({"version": version, "digest": digest}), flush=True)
    for _ in sys.stdin:
        print(json.dumps(run()[0]), flush=True)


if __name__ == "__main__":
    main()
