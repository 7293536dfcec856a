"""A text tower that meets a locked image tower, and both as one CLIP file.

    python words.py --state state.safetensors --names names.pt --out clip.safetensors

Texts of sound and damaged things learn to lie where the image tower puts them: the two directions of state.py,
moved towards what the thing is called (the mean image feature of its photos) and what the damage is called (the
mean feature of the patches that show it). The text tower is CLIP's, 192 x 3, with CLIP's whole vocabulary.
Needs `open_clip_torch` for the tokenizer.
"""

import argparse
import random

import torch
import torch.nn.functional as F
from safetensors.torch import load_file, save_file
from torch import nn

from student import HEAD

VOCABULARY, CONTEXT, LAYERS = 49408, 77, 3

SOUND = [
    "a photo of a flawless {x}.", "a photo of a normal {x}.", "a photo of a perfect {x}.", "a photo of a good {x}.",
    "a photo of a {x} without defect.", "a close-up photo of a flawless {x}.", "a cropped photo of a {x}.",
    "a cropped photo of a perfect {x}.", "a photo of the {x} without damage.", "flawless {x}.", "a good {x}.",
    "a photo of an unblemished {x}.", "a {x} in good condition.", "a photo of a {x}.", "{x}.", "perfect {x}.",
    "a cropped photo of a {x}", "an inspection picture of a good {x}.", "a photo of my new {x}.",
]  # fmt: skip
DAMAGED = [
    "a photo of a damaged {x}.", "a cropped photo of a damaged {x}.", "damaged {x}.", "a damaged {x}.",
    "a photo of a defective {x}.", "a photo of a {x} with a defect.", "a photo of a {x} with damage.",
    "a photo of a flawed {x}.", "a close-up photo of a damaged {x}.", "a photo of an abnormal {x}.",
    "a broken {x}.", "an inspection picture of a defective {x}.", "a cropped photo of a {d} {e} damaged {x}.",
    "a cropped photo of a {d} {e} damaged {x}.", "a cropped photo of a damaged {x}.",
]  # fmt: skip
OF_KIND = [
    "a photo of a {x} with a {d}.", "a {x} with {d}.", "a close-up photo of a {x} with a {d}.", "{d} damaged {x}.",
    "a cropped photo of a {d} {x}.", "a photo of {d} on a {x}.", "a cropped photo of a {d} damaged {x}.", "{d}.",
    "a photo of a damaged {x} with {d}.", "a cropped photo of a a photo {d} damaged {x}.",
]  # fmt: skip
OTHER_DEFECTS = [
    "bent",
    "broken",
    "discoloration",
    "compound",
    "contamination",
    "crack",
    "cut",
    "fabric",
    "faulty",
    "imprint",
    "gluing",
    "hole",
    "missing",
    "puncture",
    "rough",
    "scratch",
    "compressed",
    "threading",
    "liquid",
    "misaligned",
    "wear",
]


class Text(nn.Module):
    def __init__(self, width):
        super().__init__()
        from student import Block

        # What no text uses keeps its first numbers.
        self.token_embedding = nn.Embedding(VOCABULARY, width, sparse=True)
        nn.init.normal_(self.token_embedding.weight, std=0.02)
        self.positional_embedding = nn.Parameter(torch.randn(CONTEXT, width) * 0.01)
        self.transformer = nn.Module()
        self.transformer.resblocks = nn.ModuleList([Block(width, LAYERS) for _ in range(LAYERS)])
        self.ln_final = nn.LayerNorm(width)
        self.text_projection = nn.Parameter(torch.randn(width, width) * width**-0.5)

    def forward(self, ids, ends):
        x = self.token_embedding(ids) + self.positional_embedding[: ids.shape[1]]
        for block in self.transformer.resblocks:
            b, n, w = x.shape
            qkv = F.linear(block.ln_1(x), block.attn.in_proj_weight, block.attn.in_proj_bias)
            q, k, v = qkv.view(b, n, 3, w // HEAD, HEAD).permute(2, 0, 3, 1, 4)
            a = F.scaled_dot_product_attention(q, k, v, is_causal=True)
            x = block.think(x + block.attn.out_proj(a.transpose(1, 2).flatten(2)))
        return self.ln_final(x)[torch.arange(len(ids)), ends] @ self.text_projection


def main():
    p = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    p.add_argument("--state", required=True)
    p.add_argument("--names", required=True, help="what names.py wrote")
    p.add_argument("--out", required=True)
    p.add_argument("--steps", type=int, default=1200)
    p.add_argument("--batch", type=int, default=64)
    p.add_argument("--lr", type=float, default=1e-3)
    p.add_argument("--seed", type=int, default=7)
    a = p.parse_args()
    from open_clip.tokenizer import SimpleTokenizer

    bpe = SimpleTokenizer()
    torch.manual_seed(a.seed)
    dice = random.Random(a.seed)
    image = load_file(a.state)
    normal, damaged = image.pop("state").float()
    names = torch.load(a.names)
    things, kinds = names["things"], names["kinds"]
    words = sorted(kinds)
    width = normal.numel()
    net = Text(width)
    table = net.token_embedding.weight
    rest = [p for p in net.parameters() if p is not table]
    adams = [torch.optim.AdamW(rest, lr=a.lr, betas=(0.9, 0.98)), torch.optim.SparseAdam([table], lr=a.lr)]

    def one():
        thing = dice.choice(["object", "object", "object", *things])
        target = things.get(thing, torch.zeros(width)) * 0.5
        part = dice.random()
        if part < 0.4:
            return dice.choice(SOUND).format(x=thing), target + normal
        if part < 0.6:
            return dice.choice(DAMAGED).format(
                x=thing, d=dice.choice(OTHER_DEFECTS), e=dice.choice(OTHER_DEFECTS)
            ), target + damaged
        kind = dice.choice(words + OTHER_DEFECTS)
        target = target + damaged + 0.5 * kinds.get(kind, torch.zeros(width))
        return dice.choice(OF_KIND).format(x=thing, d=kind), target

    for step in range(a.steps):
        texts, targets = zip(*(one() for _ in range(a.batch)))
        rows = [[bpe.sot_token_id, *bpe.encode(t), bpe.eot_token_id] for t in texts]
        longest = max(map(len, rows))
        ids = torch.tensor([r + [0] * (longest - len(r)) for r in rows])
        out = net(ids, torch.tensor([len(r) - 1 for r in rows]))
        want = F.normalize(torch.stack(targets), dim=-1)
        # Unit length too: the mean of the raw abnormal features is taken before they are normalised.
        loss = (1 - F.cosine_similarity(out, want, dim=-1)).mean() + 0.05 * (out.norm(dim=-1) - 1).square().mean()
        for adam in adams:
            for group in adam.param_groups:
                group["lr"] = a.lr * min(1, (step + 1) / 50) * (1 - step / a.steps)
            adam.zero_grad()
        loss.backward()
        nn.utils.clip_grad_norm_(rest, 1.0)
        for adam in adams:
            adam.step()
        if step % 100 == 0 or step + 1 == a.steps:
            print(step, round(float(loss.detach()), 4), flush=True)
    with torch.no_grad():
        for text, want in (
            ("a photo of a flawless object.", normal),
            ("damaged object.", damaged),
            ("object.", normal),
        ):
            row = [bpe.sot_token_id, *bpe.encode(text), bpe.eot_token_id]
            out = net(torch.tensor([row]), torch.tensor([len(row) - 1]))
            print(text, round(F.cosine_similarity(out, want[None]).item(), 3))
    tensors = {k: v.float().contiguous() for k, v in image.items()}
    for k, v in net.state_dict().items():
        tensors[k] = v.contiguous()
    save_file(tensors, a.out, {"faprompt.vv_layers": "1"})


if __name__ == "__main__":
    main()
