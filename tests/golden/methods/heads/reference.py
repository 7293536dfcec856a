"""The language-free heads as this project defines them, written down plainly in NumPy (float64): an independent reference.

Run once, with NumPy and safetensors:

    python reference.py CLIP.safetensors EXPECTED.safetensors SHARED.safetensors

(faprompt-tiny's clip.safetensors and its expected.safetensors with the tensor `preprocessed`; shared/expected.safetensors with
masks and resized positions). Gradients are central differences. Writes expected.safetensors and meta.json beside itself.
"""

import json
import sys
from pathlib import Path

import numpy as np
from safetensors.numpy import load_file, save_file

clip = {k: v.astype(np.float64) for k, v in load_file(sys.argv[1]).items()}
pixels = load_file(sys.argv[2])["preprocessed"].astype(np.float64)
shared = load_file(sys.argv[3])
masks = shared["masks"].astype(np.float64).reshape(3, -1)
positions = shared["positions.bilinear"].astype(np.float64).reshape(-1, 128)
STAGES, VV, LAYERS, T, LABELS = [3, 5, 6], 4, 6, 0.07, np.array([0.0, 1.0, 1.0])
WIDTH, HEADS, PATCH, GRID, SIZE = 128, 2, 14, 6, 84
SMOOTH = 1e-5


def norm(x, name):
    x = x - x.mean(-1, keepdims=True)
    x = x / np.sqrt((x**2).mean(-1, keepdims=True) + 1e-5)
    return x * clip[f"{name}.weight"] + clip[f"{name}.bias"]


def softmax(x):
    x = np.exp(x - x.max(-1, keepdims=True))
    return x / x.sum(-1, keepdims=True)


def unit(x):
    return x / np.linalg.norm(x, axis=-1, keepdims=True)


def heads(x):
    return x.reshape(len(x), -1, HEADS, WIDTH // HEADS).transpose(0, 2, 1, 3)


def joined(x):
    return x.transpose(0, 2, 1, 3).reshape(len(x), -1, WIDTH)


def out(x, name):
    return joined(x) @ clip[f"{name}.attn.out_proj.weight"].T + clip[f"{name}.attn.out_proj.bias"]


def streams():
    """The ordinary stream's class row and the V-V stream's patches after each stage, through ln_post and the projection."""
    b = len(pixels)
    cut = pixels.reshape(b, 3, GRID, PATCH, GRID, PATCH).transpose(0, 2, 4, 1, 3, 5).reshape(b, GRID * GRID, -1)
    x = cut @ clip["visual.conv1.weight"].reshape(WIDTH, -1).T
    first = np.broadcast_to(clip["visual.class_embedding"], (b, 1, WIDTH))
    x = norm(np.concatenate([first, x], 1) + positions, "visual.ln_pre")
    y, image, patches = None, [], []
    post = lambda rows: norm(rows, "visual.ln_post") @ clip["visual.proj"]
    for i in range(LAYERS):
        name = f"visual.transformer.resblocks.{i}"
        h = norm(x, f"{name}.ln_1")
        q, k, v = np.split(h @ clip[f"{name}.attn.in_proj_weight"].T + clip[f"{name}.attn.in_proj_bias"], 3, -1)
        q, k, v = heads(q), heads(k), heads(v)
        scale = (WIDTH // HEADS) ** -0.5
        if i >= LAYERS - VV:
            y = x if y is None else y
            y = y + out(softmax(v @ v.swapaxes(-1, -2) * scale) @ v, name)
        x = x + out(softmax(q @ k.swapaxes(-1, -2) * scale) @ v, name)
        h = norm(x, f"{name}.ln_2") @ clip[f"{name}.mlp.c_fc.weight"].T + clip[f"{name}.mlp.c_fc.bias"]
        h = h / (1 + np.exp(-1.702 * h))
        x = x + h @ clip[f"{name}.mlp.c_proj.weight"].T + clip[f"{name}.mlp.c_proj.bias"]
        if i + 1 in STAGES:
            image.append(post(x[:, 0]))
            patches.append(post(y[:, 1:]))
    return image, patches


def enlargement():
    """Bilinear, corners not aligned: a grid g becomes U g U^T."""
    u = np.zeros((SIZE, GRID))
    for i in range(SIZE):
        at = max((i + 0.5) * GRID / SIZE - 0.5, 0.0)
        low = min(int(at), GRID - 1)
        u[i, low] += 1 - (at - low)
        u[i, min(low + 1, GRID - 1)] += at - low
    return u


IMAGE, PATCHES = streams()
U = enlargement()


def abnormality(rows, pair):
    """softmax of both cosines over T: the abnormal one."""
    normal, abnormal = unit(pair)
    return 1 / (1 + np.exp(-(unit(rows) @ (abnormal - normal)) / T))


def enlarge(p):
    return np.einsum("ij,bjk,lk->bil", U, p.reshape(-1, GRID, GRID), U).reshape(len(p), -1)


def dice(x, y):
    return 1 - ((2 * (x * y).sum(1) + 1) / (x.sum(1) + y.sum(1) + 1)).mean()


def focal(p):
    key = masks * (1 - 2 * SMOOTH) + SMOOTH
    pt = key * p + (1 - key) * (1 - p) + SMOOTH
    return -((1 - pt) ** 2 * np.log(pt)).mean()


def losses(patch, image):
    segmentation = entropy = 0.0
    for i in range(len(STAGES)):
        p = abnormality(IMAGE[i], image[i])
        entropy -= (LABELS * np.log(p) + (1 - LABELS) * np.log(1 - p)).mean()
        p = enlarge(abnormality(PATCHES[i], patch[i]))
        segmentation += focal(p) + dice(p, masks) + dice(1 - p, 1 - masks)
    return {"total": segmentation + entropy, "segmentation": segmentation, "image_cross_entropy": entropy}


def gradient(all, names):
    slopes = {}
    for name in names:
        slope, values = np.zeros_like(all[name]), all[name]
        for at in np.ndindex(values.shape):
            kept, h = values[at], 1e-5
            values[at] = kept + h
            above = losses(all["patch"], all["image"])["total"]
            values[at] = kept - h
            below = losses(all["patch"], all["image"])["total"]
            values[at] = kept
            slope[at] = (above - below) / (2 * h)
        slopes[name] = slope
    return slopes


rng = np.random.default_rng(7)
first = {n: rng.normal(size=(len(STAGES), 2, WIDTH)).astype(np.float32).astype(np.float64) for n in ("patch", "image")}
all = {n: v.copy() for n, v in first.items()}
grid = np.mean([abnormality(p, w) for p, w in zip(PATCHES, all["patch"])], 0)
probability = np.mean([abnormality(x, w) for x, w in zip(IMAGE, all["image"])], 0)
out_ = {
    "heads.patch": first["patch"],
    "heads.image": first["image"],
    "grid": grid,
    "map": enlarge(grid),
    "image.probability": probability,
    "image.score": (probability + grid.max(1)) / 2,
    **{f"class.{i}": v for i, v in enumerate(IMAGE)},
    **{f"patches.{i}": v for i, v in enumerate(PATCHES)},
}
terms, m, v = [], {}, {}
for step in range(1, 4):
    terms.append(losses(all["patch"], all["image"]))
    slopes = gradient(all, ("patch", "image"))
    if step == 1:
        out_ |= {f"grad.{n}": s for n, s in slopes.items()}
    for n, s in slopes.items():  # Adam, lr 1e-3, betas (0.5, 0.999)
        m[n] = 0.5 * m.get(n, 0) + 0.5 * s
        v[n] = 0.999 * v.get(n, 0) + 0.001 * s**2
        all[n] = all[n] - 1e-3 * (m[n] / (1 - 0.5**step)) / (np.sqrt(v[n] / (1 - 0.999**step)) + 1e-8)
out_ |= {f"after3.{n}": x for n, x in all.items()}
here = Path(__file__).parent
save_file({k: np.ascontiguousarray(x, dtype=np.float32) for k, x in out_.items()}, here / "expected.safetensors")
about = "reference.py's numbers: the heads are this project's own"
(here / "meta.json").write_text(json.dumps({"about": about, "stages": STAGES, "losses": terms}, indent=1) + "\n")
