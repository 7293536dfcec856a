"""The published procedure's text side beside this program's, on one thread, in turn.

FAPrompt's published code encodes all K + 1 prompts of 77 tokens again for each image, with the prior added. This runs that
(a CLIP text encoder of ViT-B/16's size, random weights, PyTorch) and `faprompt-edge bench` alternately and prints the
medians and their ratio. The image encoder with its V-V stream is timed too. Usage: published.py PROGRAM BUNDLE [ROUNDS]
"""

import json
import statistics
import subprocess
import sys
import time

import torch
from torch import nn

PROMPTS, TOKENS, WIDTH, LAYERS = 11, 77, 512, 12
VISION_WIDTH, VISION_TOKENS, VV_LAYERS = 768, 197, 9


class Block(nn.Module):
    def __init__(self, width):
        super().__init__()
        self.attn = nn.MultiheadAttention(width, width // 64)
        self.ln_1, self.ln_2 = nn.LayerNorm(width), nn.LayerNorm(width)
        self.fc, self.proj = nn.Linear(width, 4 * width), nn.Linear(4 * width, width)

    def forward(self, x, mask):
        y = self.ln_1(x)
        x = x + self.attn(y, y, y, need_weights=False, attn_mask=mask)[0]
        h = self.fc(self.ln_2(x))
        return x + self.proj(h * torch.sigmoid(1.702 * h))


def text(blocks, mask):
    x = torch.randn(TOKENS, PROMPTS, WIDTH)
    for block in blocks:
        x = block(x, mask)


def image(blocks):
    width, heads = VISION_WIDTH, VISION_WIDTH // 64
    x = torch.randn(VISION_TOKENS, 1, width)
    y = x
    for i, block in enumerate(blocks):
        if i >= LAYERS - VV_LAYERS:
            weight, bias = block.attn.in_proj_weight[2 * width:], block.attn.in_proj_bias[2 * width:]
            v = (block.ln_1(x) @ weight.T + bias).view(VISION_TOKENS, heads, 64).permute(1, 0, 2)
            attended = torch.softmax(v @ v.transpose(1, 2) / 8, -1) @ v
            y = y + block.attn.out_proj(attended.permute(1, 0, 2).reshape(VISION_TOKENS, 1, width))
        x = block(x, None)


def timed(work):
    start = time.perf_counter()
    work()
    return 1e3 * (time.perf_counter() - start)


def main():
    program, bundle = sys.argv[1:3]
    rounds = int(sys.argv[3]) if len(sys.argv) > 3 else 5
    torch.set_num_threads(1)
    texts = nn.ModuleList([Block(WIDTH) for _ in range(LAYERS)]).eval()
    images = nn.ModuleList([Block(VISION_WIDTH) for _ in range(LAYERS)]).eval()
    mask = torch.full((TOKENS, TOKENS), float("-inf")).triu(1)
    ours, theirs = {"encode": [], "adapt": []}, {"encode": [], "adapt": []}
    with torch.no_grad():
        text(texts, mask), image(images)
        for _ in range(rounds):
            out = subprocess.run([program, "bench", "--bundle", bundle, "--threads", "1", "--frames", "3", "--json"],
                                 check=True, capture_output=True).stdout
            report = json.loads(out)
            for key in ours:
                ours[key].append(report["rows"][0]["ms"][key])
            theirs["encode"].append(timed(lambda: image(images)))
            theirs["adapt"].append(timed(lambda: text(texts, mask)))
    print(f"{report['cpu']}, 1 thread, PyTorch {torch.__version__}, medians of {rounds} rounds in turn, ms")
    for key, what in (("encode", "image encoder"), ("adapt", "prompts for one image")):
        a, b = statistics.median(ours[key]), statistics.median(theirs[key])
        print(f"{what:22} faprompt-edge {a:8.1f}   PyTorch {b:8.1f}   {b / a:5.1f} x")


main()
