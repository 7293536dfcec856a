"""Writes tests/golden/text.json: what PyTorch's losses and optimizers make of numbers that `numbers` gives.

Needs: torch (made with 1.13.0). The losses are those with which the default bundle's directions, last MLP and text encoder
were taught. Losses are those before each step; `patches`, `images`: the directions after the last step; `features`: image
features of length 1 after the last step; `texts`: text features after the last step, `row`: the token table's row of the
last token.
"""
import json
import os
import torch
import torch.nn.functional as F
from torch import nn

HERE = os.path.dirname(os.path.abspath(__file__))
C, WIDTH, HEAD = 8, 64, 64


def numbers(salt, count, size):
    """`count` numbers between -size and size, the same in every language."""
    out = []
    for i in range(count):
        h = ((i + 1) * 2654435761 + salt * 40503) % 2**32
        h ^= h >> 15
        h = h * 2246822519 % 2**32
        h ^= h >> 13
        out.append(size * (h / 2**31 - 1))
    return out


def tensor(salt, shape, size):
    count = 1
    for n in shape:
        count *= n
    return torch.tensor(numbers(salt, count, size)).view(shape)


def directions():
    b, n, steps = 6, 9, 5
    patches = F.normalize(tensor(1, (b, n, C), 1), dim=-1)
    images = F.normalize(tensor(2, (b, C), 1), dim=-1)
    cover = tensor(3, (b, n), 1).clamp_min(0)
    bad = torch.tensor([0.0, 1.0] * 3)
    cover = cover * bad[:, None]
    masked = torch.tensor([1.0, 1.0, 1.0, 0.0, 1.0, 1.0])
    w, v = torch.zeros(C, requires_grad=True), torch.zeros(C, requires_grad=True)
    adam = torch.optim.Adam([w, v], lr=0.1)
    losses = []
    for step in range(steps):
        logit, image = patches @ w, images @ v
        label = (cover > 0.2).float()
        weight = ((cover == 0) | (cover > 0.2)).float() * masked[:, None] * (1 + 3 * label)
        dense = F.binary_cross_entropy_with_logits(logit, label, weight, reduction="sum") / weight.sum().clamp_min(1)
        # At the first step all are equal: the first ones then.
        largest = logit.sort(dim=1, descending=True, stable=True).values[:, :4].mean(1)
        largest = F.binary_cross_entropy_with_logits(largest, bad)
        whole = F.binary_cross_entropy_with_logits(image, bad)
        loss = dense + 0.3 * largest + 0.5 * whole + 1e-4 * (w.square().sum() + v.square().sum())
        adam.param_groups[0]["lr"] = 0.1 * (1 - step / steps)
        adam.zero_grad()
        loss.backward()
        adam.step()
        losses.append(loss.item())
    return {"losses": losses, "patches": w.tolist(), "images": v.tolist()}


class Block(nn.Module):
    """A pre-norm block; numbers from `salt` on, normalisations that change nothing, biases zero."""

    def __init__(self, salt):
        super().__init__()
        size = WIDTH**-0.5
        self.ln_1, self.ln_2 = nn.LayerNorm(WIDTH), nn.LayerNorm(WIDTH)
        shapes = {"qkv": (3 * WIDTH, WIDTH), "out": (WIDTH, WIDTH), "fc": (4 * WIDTH, WIDTH), "proj": (WIDTH, 4 * WIDTH)}
        for i, (name, shape) in enumerate(shapes.items()):
            layer = nn.Linear(shape[1], shape[0])
            layer.weight = nn.Parameter(tensor(salt + i, shape, size))
            nn.init.zeros_(layer.bias)
            setattr(self, name, layer)

    def think(self, x):
        h = self.fc(self.ln_2(x))
        return x + self.proj(h * torch.sigmoid(1.702 * h))

    def causal(self, x):
        q, k, v = self.qkv(self.ln_1(x)).chunk(3, -1)
        n = x.shape[1]
        scores = q @ k.transpose(1, 2) * HEAD**-0.5
        scores = scores.masked_fill(torch.ones(n, n).triu(1).bool(), float("-inf"))
        return self.think(x + self.out(scores.softmax(-1) @ v))


def last():
    count = 6
    block, proj = Block(10), tensor(15, (WIDTH, C), WIDTH**-0.5)
    rows, direction, own = tensor(16, (count, WIDTH), 1), tensor(17, (C,), 3), tensor(18, (C,), 6)

    def unit(x):
        return F.normalize(block.think(x) @ proj, dim=-1)

    images = unit(rows).detach()
    want = (images @ own).clamp(-8, 8)
    axis = F.normalize(direction, dim=0)
    mlp = [p for m in (block.ln_2, block.fc, block.proj) for p in m.parameters()]
    adam = torch.optim.Adam(mlp, lr=1e-3)
    losses = []
    for step in range(5):
        image = unit(rows)
        along = F.smooth_l1_loss(image @ direction, want)
        across = [F.normalize(t - (t @ axis)[:, None] * axis, dim=-1) for t in (image, images)]
        loss = along + 5 * (1 - (across[0] * across[1]).sum(-1)).mean()
        adam.param_groups[0]["lr"] = 1e-3 * (1 - step / 400)
        adam.zero_grad()
        loss.backward()
        adam.step()
        losses.append(loss.item())
    return {"losses": losses, "features": unit(rows).flatten().tolist()}


# "damaged object." and "a photo of a flawless object." as CLIP's tokenizer numbers them.
TEXTS = ((49406, 13568, 14115, 269, 49407), (49406, 320, 1125, 539, 320, 15531, 14115, 269, 49407))


def text():
    block, steps = Block(20), 6
    ids = sorted({i for t in TEXTS for i in t})
    # The rows of these tokens, in this order.
    table = nn.Embedding(len(ids), WIDTH, sparse=True)
    table.weight = nn.Parameter(tensor(25, (len(ids), WIDTH), 0.1))
    positions = nn.Parameter(tensor(26, (77, WIDTH), 0.1))
    final, proj = nn.LayerNorm(WIDTH), nn.Parameter(tensor(27, (WIDTH, WIDTH), WIDTH**-0.5))
    rest = [*block.parameters(), positions, *final.parameters(), proj]
    adams = [torch.optim.AdamW(rest, lr=1e-3, betas=(0.9, 0.98)), torch.optim.SparseAdam([table.weight], lr=1e-3)]
    want = F.normalize(tensor(28, (2, WIDTH), 1), dim=-1)

    def features(texts):
        out = []
        for t in texts:
            x = table(torch.tensor([[ids.index(i) for i in t]])) + positions[: len(t)]
            out.append(final(block.causal(x))[0, -1] @ proj)
        return torch.stack(out)

    losses = []
    for step in range(steps):
        # The first text alone in every second step: the rows of the other rest.
        shown = slice(0, 1 + step % 2)
        out = features(TEXTS[shown])
        loss = (1 - F.cosine_similarity(out, want[shown], dim=-1)).mean() + 0.05 * (out.norm(dim=-1) - 1).square().mean()
        for adam in adams:
            for group in adam.param_groups:
                group["lr"] = 1e-1 * min(1, (step + 1) / 50) * (1 - step / steps)
            adam.zero_grad()
        loss.backward()
        nn.utils.clip_grad_norm_(rest, 1.0)
        for adam in adams:
            adam.step()
        losses.append(loss.item())
    return {
        "losses": losses,
        "texts": features(TEXTS).flatten().tolist(),
        "row": table.weight[-1].tolist(),
    }


def main():
    torch.set_num_threads(1)
    out = {"directions": directions(), "last": last(), "text": text()}

    def short(v):
        return [short(x) for x in v] if isinstance(v, list) else round(v, 7)

    out = {part: {k: short(v) for k, v in values.items()} for part, values in out.items()}
    with open(os.path.join(HERE, "text.json"), "w") as f:
        json.dump(out, f, separators=(",", ":"))
        f.write("\n")


if __name__ == "__main__":
    main()
