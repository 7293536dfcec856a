"""What a tower's locked part makes of labelled pictures, kept for state.py: rows before the last block.

    python rows.py --tower tower.safetensors --out rows.pt SET...

A set is a folder with AnomalyCLIP's meta.json. Every picture is kept as it is and, with --views 2, once more
mirrored and in another light.
"""

import argparse
import json
import os
import random

import torch
import torch.nn.functional as F
from PIL import Image

import views
from memory import read, tower
from student import GRID


def entries(folder):
    with open(os.path.join(folder, "meta.json")) as f:
        meta = json.load(f)
    return [e for split in meta.values() for cls in split.values() for e in cls]


def coverage(path):
    """Part of each patch that the mask covers, [N]."""
    mask = Image.open(path).convert("L").point(lambda v: 255 if v else 0)
    mask = mask.resize((GRID * 16, GRID * 16), Image.BOX)
    m = torch.frombuffer(bytearray(mask.tobytes()), dtype=torch.uint8).view(1, 1, GRID * 16, GRID * 16)
    return F.avg_pool2d(m.float() / 255, 16)[0, 0]


@torch.no_grad()
def before_last(net, x):
    h = net.embed(views.normalised(x))
    for block in net.transformer.resblocks[: net.layers - net.vv]:
        h = block(h)
    return h.half()


def main():
    p = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    p.add_argument("sets", nargs="+")
    p.add_argument("--tower", required=True)
    p.add_argument("--out", required=True)
    p.add_argument("--views", type=int, default=1)
    p.add_argument("--cap", type=int, default=10**6, help="pictures of a set")
    a = p.parse_args()
    net = tower(a.tower)
    g = torch.Generator().manual_seed(3)
    kept = {"rows": [], "set": [], "bad": [], "masked": [], "cover": [], "kind": []}
    for number, folder in enumerate(a.sets):
        chosen = entries(folder)
        random.Random(1).shuffle(chosen)
        for e in chosen[: a.cap]:
            bad = int(e["anomaly"])
            cover = torch.zeros(GRID, GRID)
            if bad and e.get("mask_path"):
                cover = coverage(os.path.join(folder, e["mask_path"]))
            x = read(os.path.join(folder, e["img_path"]), GRID * 16)
            for view in range(a.views):
                if view:
                    x, cover = x.flip(2), cover.flip(1)
                    x = views.light(x[None], g)[0]
                kept["rows"].append(before_last(net, x[None])[0])
                kept["set"].append(number)
                kept["bad"].append(bad)
                kept["masked"].append(int(not bad or bool(e.get("mask_path"))))
                kept["cover"].append(cover.flatten().half())
                kept["kind"].append(e["cls_name"] + "/" + e["specie_name"])
        print(folder, len(kept["bad"]), flush=True)
    out = {k: torch.stack(v) if k in ("rows", "cover") else v for k, v in kept.items()}
    out["names"] = [os.path.basename(s.rstrip("/")) for s in a.sets]
    torch.save(out, a.out)


if __name__ == "__main__":
    main()
