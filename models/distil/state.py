"""The words' two directions: what is normal and what is damaged, in a tower's joint space.

    python state.py --tower tower.safetensors --rows rows.pt --rows drawn.pt --drawn rendered --out state.safetensors

The patches of a distilled tower are looked at as they are: a direction that separates damaged patches from
sound ones (by masks), another that separates pictures by their image feature. FAPrompt has one direction for
both, so the last block's MLP, which touches nothing but the image feature, learns to answer along the first as
the second would. Blocks, V-V stream and patch features stay what they were, and so does the memory of good parts.

`--leave-out` judges instead: each set that is not --drawn by what all others teach.
"""

import argparse

import torch
import torch.nn.functional as F
from safetensors.torch import save_file
from torch import nn

from memory import auroc, tower
from student import HEAD

TEMPERATURE = 0.07


class Last(nn.Module):
    """The last block of both streams, one class row and patches: rows [B, 1 + N, width]."""

    def __init__(self, net):
        super().__init__()
        if net.vv != 1:
            raise SystemExit("state.py wants a tower with the V-V stream in its last block alone")
        self.block, self.ln_post, self.proj = net.transformer.resblocks[-1], net.ln_post, net.proj

    def forward(self, x):
        """Patch features [B, N, joint], and the class row before the MLP [B, width]."""
        b, _, w = x.shape
        block, heads = self.block, w // HEAD
        h = block.ln_1(x)
        weight, bias = block.attn.in_proj_weight, block.attn.in_proj_bias

        def split(rows, part):
            at = slice(part * w, (part + 1) * w)
            return F.linear(rows, weight[at], bias[at]).view(b, -1, heads, HEAD).transpose(1, 2)

        q, k, v = split(h[:, :1], 0), split(h, 1), split(h, 2)
        y = x + block.attend(v, v, v)
        row = x[:, :1] + block.attend(q, k, v)
        return self.ln_post(y[:, 1:]) @ self.proj, row[:, 0]

    def image(self, row):
        return self.block.think(row) @ self.proj


class Data:
    """Files of rows.py as one."""

    def __init__(self, paths):
        files = [torch.load(p) for p in paths]
        self.names = [n for f in files for n in f["names"]]
        self.set, shift = [], 0
        for f in files:
            self.set += [s + shift for s in f["set"]]
            shift += len(f["names"])
        self.set = torch.tensor(self.set)
        self.rows = torch.cat([f["rows"] for f in files])
        self.cover = torch.cat([f["cover"] for f in files]).float()
        self.bad = torch.tensor([b for f in files for b in f["bad"]])
        self.masked = torch.tensor([b for f in files for b in f["masked"]])

    @torch.no_grad()
    def look(self, last):
        """Unit patch features, class rows, unit image features."""
        patches, rows = [], []
        for i in torch.arange(len(self.rows)).split(32):
            p, r = last(self.rows[i].float())
            patches.append(F.normalize(p, dim=-1).half())
            rows.append(r)
        self.patches, self.class_rows = torch.cat(patches), torch.cat(rows)
        self.images = F.normalize(last.image(self.class_rows), dim=-1)

    def of(self, name):
        return (self.set == self.names.index(name)).nonzero()[:, 0]


def directions(a, data, names, seed):
    """Weights of damaged against sound, of patches and of pictures, [joint] each."""
    groups = {n: [i[data.bad[i] == bad] for bad in (0, 1)] for n in names for i in [data.of(n)]}
    drawn = [n for n in names if n in a.drawn]
    real = [n for n in names if n not in a.drawn]
    g = torch.Generator().manual_seed(seed)
    c = data.images.shape[1]
    w, v = torch.zeros(c, requires_grad=True), torch.zeros(c, requires_grad=True)
    adam = torch.optim.Adam([w, v], lr=a.lr)
    for step in range(a.steps):
        index = []
        for k in range(a.batch):
            pool = drawn if drawn and (not real or k < a.batch * a.drawn_part) else real
            side = groups[pool[torch.randint(len(pool), (1,), generator=g)]][k % 2]
            index.append(side[torch.randint(len(side), (1,), generator=g)])
        i = torch.cat(index)
        logit, image, bad, cover = data.patches[i].float() @ w, data.images[i] @ v, data.bad[i].float(), data.cover[i]
        # A patch that a defect hardly touches is neither.
        label = (cover > 0.2).float()
        weight = ((cover == 0) | (cover > 0.2)).float() * data.masked[i][:, None] * (1 + 3 * label)
        dense = F.binary_cross_entropy_with_logits(logit, label, weight, reduction="sum") / weight.sum().clamp_min(1)
        largest = F.binary_cross_entropy_with_logits(logit.topk(4, 1).values.mean(1), bad)
        whole = F.binary_cross_entropy_with_logits(image, bad)
        loss = dense + 0.3 * largest + 0.5 * whole + a.decay * (w.square().sum() + v.square().sum())
        adam.param_groups[0]["lr"] = a.lr * (1 - step / a.steps)
        adam.zero_grad()
        loss.backward()
        adam.step()
    return w.detach(), v.detach()


def judge(data, index, w, v):
    patch, image, bad = data.patches[index].float() @ w, data.images[index] @ v, data.bad[index] == 1
    score = image.sigmoid() + patch.amax(1).sigmoid()
    m = data.masked[index] == 1
    cover, s = data.cover[index][m].flatten(), patch[m].flatten()
    out = {"score": score, "image": image, "largest": patch.amax(1)}
    out = {k: auroc(s[~bad], s[bad]) for k, s in out.items()}
    return {**out, "pixel": auroc(s[cover == 0], s[cover > 0.5])}


def teach_image(last, data, w, v, steps, seed):
    """The last MLP answers along w what v would have; everything across w stays."""
    g = torch.Generator().manual_seed(seed)
    mlp = [p for m in (last.block.ln_2, last.block.mlp) for p in m.parameters()]
    adam = torch.optim.Adam(mlp, lr=1e-3)
    unit = F.normalize(w, dim=0)
    want = (data.images @ v).clamp(-8, 8)
    for step in range(steps):
        i = torch.randint(len(want), (128,), generator=g)
        image = F.normalize(last.image(data.class_rows[i]), dim=-1)
        along = F.smooth_l1_loss(image @ w, want[i])
        across = [F.normalize(t - (t @ unit)[:, None] * unit, dim=-1) for t in (image, data.images[i])]
        loss = along + 5 * (1 - (across[0] * across[1]).sum(-1)).mean()
        adam.param_groups[0]["lr"] = 1e-3 * (1 - step / steps)
        adam.zero_grad()
        loss.backward()
        adam.step()
    with torch.no_grad():
        image = F.normalize(last.image(data.class_rows), dim=-1)
        r = torch.corrcoef(torch.stack([image @ w, want]))[0, 1]
        print(f"image feature along the patches' direction: correlation with its own {r:.3f}", flush=True)


def save(a, net, w):
    normal, damaged = axis(w)
    t = {"visual." + k: v.detach().half() for k, v in net.state_dict().items()}
    t["state"] = torch.stack([normal, damaged])
    save_file({k: v.contiguous() for k, v in t.items()}, a.out, {"faprompt.vv_layers": "1"})


def axis(w):
    """Unit vectors, normal and damaged, whose difference over the temperature is w."""
    half = w * TEMPERATURE / 2
    if half.norm() > 0.95:
        half = half / half.norm() * 0.95
    other = torch.randn(len(w), generator=torch.Generator().manual_seed(0))
    other = F.normalize(other - (other @ w) * w / w.square().sum(), dim=0) * (1 - half.square().sum()).sqrt()
    return other - half, other + half


def main():
    p = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    p.add_argument("--tower", required=True)
    p.add_argument("--rows", action="append", required=True)
    p.add_argument("--out")
    p.add_argument("--leave-out", action="store_true")
    p.add_argument("--drawn", action="append", default=[], help="sets that are rendered")
    p.add_argument("--drawn-part", type=float, default=0.85, help="their part of a batch")
    p.add_argument("--steps", type=int, default=150)
    p.add_argument("--batch", type=int, default=64)
    p.add_argument("--lr", type=float, default=0.1)
    p.add_argument("--decay", type=float, default=1e-4)
    p.add_argument("--seeds", type=int, default=3)
    a = p.parse_args()
    net = tower(a.tower)
    last, data = Last(net), Data(a.rows)
    data.look(last)
    if a.leave_out:
        for n in [n for n in data.names if n not in a.drawn]:
            w, v = directions(a, data, [m for m in data.names if m != n], 0)
            print("without", n, {k: round(s, 1) for k, s in judge(data, data.of(n), w, v).items()}, flush=True)
    if a.out:
        found = [directions(a, data, data.names, seed) for seed in range(a.seeds)]
        w, v = (torch.stack(part).mean(0) for part in zip(*found))
        print(f"length of the patches' direction {w.norm():.1f}, of the pictures' {v.norm():.1f}", flush=True)
        teach_image(last, data, w, v, 400, 0)
        save(a, net, w)


if __name__ == "__main__":
    main()
