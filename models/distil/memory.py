"""What a memory of good parts makes of an encoder's patches, before the program is asked: for choosing taps.

    python memory.py --tower tower.safetensors [--teachers teachers.safetensors] SET...

Sets have AnomalyCLIP's meta.json. Image AUROC and pb2 (part of the bad found while 2 % of the good are lost) of
two kinds of memory: `anywhere` (nearest stored patch) and `place` (nearest within one cell, as z of its place).
"""

import argparse
import json
import os
import random
from functools import partial

import numpy as np
import torch
import torch.nn.functional as F
from PIL import Image
from safetensors.torch import load_file

import teachers
import views
from student import Tower

KEEP = 128


def pictures(folder, cap, seed=5):
    """Paths of at most `cap` good and `cap` defective pictures."""
    with open(os.path.join(folder, "meta.json")) as f:
        meta = json.load(f)
    entries = [e for split in meta.values() for cls in split.values() for e in cls]
    out = []
    for wanted in (0, 1):
        paths = sorted({os.path.join(folder, e["img_path"]) for e in entries if int(e["anomaly"]) == wanted})
        random.Random(seed).shuffle(paths)
        out.append(paths[:cap])
    return out


def read(path, side):
    picture = Image.open(path).convert("RGB").resize((side, side), Image.BICUBIC)
    return torch.from_numpy(np.asarray(picture).transpose(2, 0, 1).copy()).float() / 255


def tower(path):
    """A saved tower; its text half and heads, if there, are left aside."""
    t = {k.removeprefix("visual."): v.float() for k, v in load_file(path).items() if k.startswith("visual.")}
    width, joint = t["proj"].shape
    layers = 1 + max(int(k.split(".")[2]) for k in t if k.startswith("transformer"))
    from safetensors import safe_open

    with safe_open(path, "pt") as f:
        vv = int((f.metadata() or {}).get("faprompt.vv_layers", 1))
    net = Tower(width, layers, vv, joint)
    net.load_state_dict(t)
    return net.eval()


@torch.no_grad()
def student_taps(net, x):
    patches, _, kept = net(views.normalised(x), tuple(range(1, net.layers)))
    kept["patch"] = patches
    return {str(k): v for k, v in kept.items()}


@torch.no_grad()
def teacher_taps(nets, x, grid):
    out = {}
    for net in nets:
        for k, m in net(x).items():
            if m.dim() == 4:
                m = F.adaptive_avg_pool2d(m, grid) if m.shape[-1] > grid else F.interpolate(m, size=grid)
                out[k] = m.flatten(2).transpose(1, 2)
    return out


def smooth(f):
    """Mean over 3 x 3 cells, [M, N, D]."""
    m, n, d = f.shape
    g = int(n**0.5)
    f = f.transpose(1, 2).reshape(m, d, g, g)
    f = F.avg_pool2d(f, 3, 1, 1, count_include_pad=False)
    return f.flatten(2).transpose(1, 2)


def join(features, taps, mean):
    """Each tap at unit length, joined."""
    parts = []
    for t in taps:
        f = F.normalize(features[t].float(), dim=-1)
        parts.append(F.normalize(smooth(f), dim=-1) if mean else f)
    joined = torch.cat(parts, -1) / len(parts) ** 0.5
    d = joined.shape[-1]
    if d <= KEEP:
        return joined
    # Distances survive a random projection, and cost a third.
    g = torch.Generator().manual_seed(1)
    return joined @ (torch.randn(d, KEEP, generator=g) / KEEP**0.5)


def nearest(test, stored):
    """Distance of each row of [M, N, D] to the nearest of [K, D]."""
    return torch.stack([torch.cdist(t, stored).amin(1) for t in test])


def near_place(test, stored, radius, own=False):
    """Distances to the nearest stored row [S, N, D] within `radius` cells of the same place, [M, N]; `own`: the test
    pictures are the stored ones and must not find themselves."""
    s, n, d = stored.shape
    g = int(n**0.5)
    grid = stored.view(s, g, g, d)
    best = torch.full((len(test), g, g), float("inf"))
    for dy in range(-radius, radius + 1):
        for dx in range(-radius, radius + 1):
            ys, xs = (slice(max(0, -k), g - max(0, k)) for k in (dy, dx))
            yt, xt = (slice(max(0, k), g - max(0, -k)) for k in (dy, dx))
            a = test.view(-1, g, g, d)[:, ys, xs]
            b = grid[:, yt, xt]
            dots = torch.einsum("myxd,syxd->msyx", a, b)
            dist = (a.square().sum(-1)[:, None] + b.square().sum(-1)[None] - 2 * dots).clamp_min(0).sqrt()
            if own:
                dist[range(s), range(s)] = float("inf")
            best[:, ys, xs] = torch.minimum(best[:, ys, xs], dist.amin(1))
    return best.view(len(test), n)


def places(test, stored, radius):
    """z of each place's distance, spread taken from the stored pictures left out one at a time."""
    left = near_place(stored, stored, radius, own=True)
    mean, std = left.mean(0), left.std(0)
    g = int(mean.numel() ** 0.5)
    mean, std = (F.avg_pool2d(v.view(1, 1, g, g), 3, 1, 1, count_include_pad=False).flatten() for v in (mean, std))
    return (near_place(test, stored, radius) - mean) / (std + 0.25 * std.mean() + 1e-6)


def top(scores, part):
    return scores.topk(max(1, round(scores.shape[1] * part)), dim=1).values.mean(1)


def auroc(good, bad):
    both = torch.cat([good, bad])
    ranks = both.unique(return_inverse=True, return_counts=True)
    ends = ranks[2].cumsum(0).double()
    middle = ends - (ranks[2].double() - 1) / 2
    r = middle[ranks[1]][len(good) :].sum()
    return ((r - len(bad) * (len(bad) + 1) / 2) / (len(good) * len(bad))).item() * 100


def pb2(good, bad):
    return (bad > torch.quantile(good, 0.98)).double().mean().item() * 100


def judge(features, good, shots, draws, taps, mean=True, part=0.05):
    """Mean (AUROC, pb2) of each kind over draws; rows 0..good are good."""
    f = join(features, taps, mean)
    out = {}
    for draw in range(draws):
        order = torch.randperm(good, generator=torch.Generator().manual_seed(100 + draw))
        stored = f[order[:shots]]
        test = torch.cat([f[order[shots:]], f[good:]])
        normal = good - shots
        kinds = {"anywhere": nearest(test, stored.flatten(0, 1)), "place": places(test, stored, 1)}
        for k, v in kinds.items():
            for p in (0.01, part):
                s = top(v, p)
                pair = auroc(s[:normal], s[normal:]), pb2(s[:normal], s[normal:])
                out.setdefault(f"{k} {p:g}", []).append(pair)
    return {k: np.mean(v, 0) for k, v in out.items()}


def extract(paths, side, taps_of):
    kept = {}
    for i in range(0, len(paths), 8):
        x = torch.stack([read(p, side) for p in paths[i : i + 8]])
        for k, v in taps_of(x).items():
            kept.setdefault(k, []).append(v.half())
    return {k: torch.cat(v) for k, v in kept.items()}


def main():
    p = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    p.add_argument("sets", nargs="+")
    p.add_argument("--tower", action="append", default=[])
    p.add_argument("--teachers")
    p.add_argument("--taps", action="append", default=[], help="comma-separated; for a tower its blocks and `patch`")
    p.add_argument("--side", type=int, default=224)
    p.add_argument("--cap", type=int, default=100)
    p.add_argument("--shots", type=int, default=16)
    p.add_argument("--draws", type=int, default=3)
    p.add_argument("--cache")
    a = p.parse_args()
    sources = [(t, partial(student_taps, tower(t))) for t in a.tower]
    if a.teachers:
        w = teachers.load(a.teachers)
        nets = [c(w, "cpu", torch.float32) for c in (teachers.EfficientNetLite, teachers.ResNet)]
        sources.append((a.teachers, partial(teacher_taps, nets, grid=a.side // 16)))
    for name, taps_of in sources:
        table = {}
        for folder in a.sets:
            good, bad = pictures(folder, a.cap)
            key = f"{name}-{os.path.basename(folder)}-{a.side}-{a.cap}.pt".replace("/", "_")
            cached = os.path.join(a.cache, key) if a.cache else None
            if cached and os.path.exists(cached):
                features = torch.load(cached)
            else:
                features = extract(good + bad, a.side, taps_of)
                if cached:
                    torch.save(features, cached)
            shots = min(a.shots, 4) if "crackforest" in folder else a.shots
            for taps in a.taps:
                wanted = taps.split(",")
                if all(t in features for t in wanted):
                    for kind, pair in judge(features, len(good), shots, a.draws, wanted).items():
                        table.setdefault((taps, kind), []).append((os.path.basename(folder), *pair))
        for (taps, kind), rows in table.items():
            cells = " ".join(f"{n[:8]} {u:.1f}/{q:.0f}" for n, u, q in rows)
            means = np.mean([r[1:] for r in rows], 0)
            print(
                f"{os.path.basename(name):20} {taps:16} {kind:14} {means[0]:.1f}/{means[1]:.0f} | {cells}", flush=True
            )


if __name__ == "__main__":
    main()
