"""DAPO as this project reads the paper, written down plainly in PyTorch: an independent reference.

The authors' code was neither read nor run. What the paper leaves open is decided here and in
src/train/methods/fit/dapo.rs alike. Run once, with PyTorch, NumPy and safetensors:

    python reference.py CLIP.safetensors PREPROCESSED.safetensors MASKS.safetensors

(the golden CLIP with its whole token table, the golden pictures' tensor `preprocessed`, the resized masks and
positions). Writes expected.safetensors and meta.json beside itself.
"""

import json
import sys
from pathlib import Path

import torch
from safetensors.torch import load_file, save_file

clip = {k: v.float() for k, v in load_file(sys.argv[1]).items()}
pixels = load_file(sys.argv[2])["preprocessed"]
shared = load_file(sys.argv[3])
masks = shared["masks"].float()
positions = shared["positions.bilinear"]

TYPES = {"hole": [5341], "bent scratch": [18369, 13258]}
NORMAL, ANOMALY, OBJECT, STOP, START, END = 5967, 46811, 14115, 269, 49406, 49407
E, L, T, VISUAL, STAGES, TEMPERATURE = 2, 5, 4, 4, [2, 3, 5, 6], 0.07
KINDS = torch.tensor([0, 1, 2])  # good, hole, bent scratch
WIDTH, HEADS = 128, 2
PATCH, GRID, SIZE = 14, 6, 84

torch.manual_seed(7)


def f16(*shape, scale=0.05):
    return (torch.randn(*shape) * scale).half().float().requires_grad_()


params = {
    "dapo.normal": f16(E, L, WIDTH),
    "dapo.abnormal": f16(E, L, WIDTH),
    **{f"dapo.deep.{i}": f16(T, WIDTH) for i in range(3)},
    **{f"dapo.visual.{i}": f16(VISUAL, WIDTH) for i in range(6)},
}
for i in range(4):
    params[f"dapo.adapter.{i}.weight"] = f16(WIDTH, WIDTH, scale=0.09)
    params[f"dapo.adapter.{i}.bias"] = f16(WIDTH)


def norm(x, name):
    return torch.nn.functional.layer_norm(
        x, (WIDTH,), clip[f"{name}.weight"], clip[f"{name}.bias"], 1e-5
    )


def block(x, name, causal):
    n = x.shape[1]
    h = norm(x, f"{name}.ln_1")
    qkv = h @ clip[f"{name}.attn.in_proj_weight"].T + clip[f"{name}.attn.in_proj_bias"]
    q, k, v = (
        t.reshape(x.shape[0], n, HEADS, WIDTH // HEADS).transpose(1, 2)
        for t in qkv.chunk(3, -1)
    )
    scores = q @ k.transpose(-1, -2) / (WIDTH // HEADS) ** 0.5
    if causal:
        scores = scores + torch.full((n, n), float("-inf")).triu(1)
    o = (scores.softmax(-1) @ v).transpose(1, 2).reshape(x.shape)
    x = x + o @ clip[f"{name}.attn.out_proj.weight"].T + clip[f"{name}.attn.out_proj.bias"]
    h = norm(x, f"{name}.ln_2") @ clip[f"{name}.mlp.c_fc.weight"].T + clip[f"{name}.mlp.c_fc.bias"]
    h = h * torch.sigmoid(1.702 * h)
    return x + h @ clip[f"{name}.mlp.c_proj.weight"].T + clip[f"{name}.mlp.c_proj.bias"]


def prompt(learned, words):
    """[SOS] learned words . [EOS] with deep prompts before blocks 2, 3, ...: the feature at [EOS]."""
    table = clip["token_embedding.weight"]
    x = torch.cat([table[[START]], learned, table[words + [OBJECT, STOP, END]]])
    x = (x + clip["positional_embedding"][: len(x)])[None]
    for i in range(4):
        if i > 0:
            x = torch.cat([x[:, :1], params[f"dapo.deep.{i - 1}"][None], x[:, 1 + T :]], 1)
        x = block(x, f"transformer.resblocks.{i}", True)
    return norm(x[:, -1], "ln_final")[0] @ clip["text_projection"]


def unit(x):
    return x / x.norm(dim=-1, keepdim=True)


def prototypes():
    """Normal, then each type: the mean of the E raw features, of unit length."""
    sets = [[prompt(params["dapo.normal"][e], [NORMAL]) for e in range(E)]]
    for words in TYPES.values():
        sets.append([prompt(params["dapo.abnormal"][e], words + [ANOMALY]) for e in range(E)])
    return torch.stack([unit(torch.stack(s).mean(0)) for s in sets])


def picture():
    """Raw tokens after each stage, and post(x)[class]."""
    x = torch.nn.functional.conv2d(pixels, clip["visual.conv1.weight"], stride=PATCH)
    x = x.flatten(2).transpose(1, 2)
    cls = clip["visual.class_embedding"].expand(len(x), 1, WIDTH)
    x = norm(torch.cat([cls, x], 1) + positions, "visual.ln_pre")
    stages = []
    for i in range(6):
        learned = params[f"dapo.visual.{i}"].expand(len(x), VISUAL, WIDTH)
        x = block(torch.cat([x, learned], 1), f"visual.transformer.resblocks.{i}", False)
        x = x[:, :-VISUAL]
        if i + 1 in STAGES:
            stages.append(x[:, 1:])
    return stages, norm(x[:, 0], "visual.ln_post") @ clip["visual.proj"]


def forward():
    text = prototypes()
    stages, image = picture()
    maps, grids = [], []
    for i, tokens in enumerate(stages):
        f = unit(tokens @ params[f"dapo.adapter.{i}.weight"].T + params[f"dapo.adapter.{i}.bias"])
        p = (f @ text.T / TEMPERATURE).softmax(-1)
        grids.append(p)
        p = p.transpose(1, 2).reshape(len(p), -1, GRID, GRID)
        maps.append(
            torch.nn.functional.interpolate(p, SIZE, mode="bilinear", align_corners=False)
        )
    return text, image, unit(image) @ text.T / TEMPERATURE, grids, maps


def dice(x, y):
    x, y = x.flatten(1), y.flatten(1)
    return 1 - ((2 * (x * y).sum(1) + 1) / (x.sum(1) + y.sum(1) + 1)).mean()


def focal(p, kinds):
    """Gamma 2, every channel's key smoothed by 1e-5 as in the binary one."""
    classes = p.shape[1]
    key = torch.nn.functional.one_hot(kinds.long(), classes).permute(0, 3, 1, 2).float()
    key = key.clamp(1e-5 / (classes - 1), 1 - 1e-5)
    pt = (key * p).sum(1) + 1e-5
    return -((1 - pt) ** 2 * pt.log()).mean()


def losses():
    _, _, logits, _, maps = forward()
    entropy = torch.nn.functional.cross_entropy(logits, KINDS)
    kinds = masks * KINDS[:, None, None]
    f = sum(focal(p, kinds) for p in maps)
    d = sum(dice(p[:, 0], 1 - masks) + dice(p[:, 1:].sum(1), masks) for p in maps)
    return {"total": entropy + 4 * (f + d), "image_cross_entropy": entropy, "focal": f, "dice": d}


text, image, logits, grids, maps = forward()
grid = torch.stack(grids).mean(0)  # [B, N, 1 + K]
map_ = torch.stack(maps).mean(0)  # [B, 1 + K, S, S]
q = logits.softmax(-1)
abnormal = grid[..., 1:]
worst = abnormal.sum(-1).argmax(1)
patch = abnormal[torch.arange(3), worst]
share = (q[:, 1:] / q[:, 1:].sum(1, keepdim=True) + patch / patch.sum(1, keepdim=True)) / 2

out = {k: v.detach().clone().contiguous() for k, v in params.items()}
out |= {
    "text.unit": text.detach(),
    "image.raw": image.detach(),
    "image.probabilities": q.detach(),
    "image.score": 1 - q[:, 0].detach(),
    "grid.types": abnormal.transpose(1, 2).detach().contiguous(),
    "map": map_[:, 1:].sum(1).detach().contiguous(),
    "type.shares": share.detach(),
}
ids = sorted({START, END, NORMAL, ANOMALY, OBJECT, STOP, *sum(TYPES.values(), [])})
out["token_rows.ids"] = torch.tensor(ids, dtype=torch.int32)
out["token_rows.weight"] = clip["token_embedding.weight"][ids].half()

terms = []
optimizer = torch.optim.Adam(params.values(), lr=1e-3, betas=(0.5, 0.999))
for step in range(3):
    optimizer.zero_grad()
    named = losses()
    named["total"].backward()
    terms.append({k: v.item() for k, v in named.items()})
    if step == 0:
        out |= {f"grad.{k[5:]}": v.grad.clone() for k, v in params.items()}
    optimizer.step()
small = {k: v for k, v in params.items() if "weight" not in k}
out |= {f"after3.{k[5:]}": v.detach() for k, v in small.items()}

here = Path(__file__).parent
save_file({k: v.contiguous() for k, v in out.items()}, here / "expected.safetensors")
meta = {
    "about": "reference.py's numbers; no published code: see its head",
    "types": list(TYPES),
    "stages": STAGES,
    "losses": terms,
}
(here / "meta.json").write_text(json.dumps(meta, indent=1) + "\n")
