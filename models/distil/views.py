"""What student and teachers look at: random crops of photos, changed in light and spoilt a little.

All on the device that trains: photos lie there as bytes, [M, 3, side, side].
"""

import math

import torch
import torch.nn.functional as F


def load(folders, side, workers=16):
    """Every picture below the folders as a square of `side` pixels, uint8 [M, 3, side, side], in the order of
    their sorted names."""
    import os
    from concurrent.futures import ThreadPoolExecutor

    import numpy as np
    from PIL import Image

    names = sorted(
        os.path.join(d, f)
        for folder in folders
        for d, _, files in os.walk(folder)
        for f in files
        if f.lower().endswith((".webp", ".jpg", ".jpeg", ".png", ".bmp"))
    )
    if not names:
        raise SystemExit(f"no pictures in {', '.join(folders)}: --photos wants folders with .webp, .jpg or .png")

    def one(name):
        picture = Image.open(name).convert("RGB")
        if picture.size != (side, side):
            scale = side / min(picture.size)
            w, h = (max(side, round(n * scale)) for n in picture.size)
            x, y = (w - side) // 2, (h - side) // 2
            picture = picture.resize((w, h), Image.LANCZOS).crop((x, y, x + side, y + side))
        return torch.from_numpy(np.asarray(picture).transpose(2, 0, 1).copy())

    with ThreadPoolExecutor(workers) as pool:
        return torch.stack(list(pool.map(one, names)))


def uniform(b, low, high, like, g):
    return torch.rand(b, device=like.device, generator=g) * (high - low) + low


def chance(b, p, like, g):
    return torch.rand(b, device=like.device, generator=g) < p


def crop(photos, side, g):
    """Random windows: a third to one and a quarter of a side, slightly stretched, turned, mirrored; what lies
    outside of the photo has one colour (some) or is its mirror image."""
    b = len(photos)
    zoom = uniform(b, math.log(0.34), math.log(1.0), photos, g).exp()
    zoom = torch.where(chance(b, 0.25, photos, g), torch.ones_like(zoom), zoom)
    out = chance(b, 0.1, photos, g)
    zoom = torch.where(out, uniform(b, 1.0, 1.4, photos, g), zoom)
    stretch = uniform(b, -0.25, 0.25, photos, g).exp()
    sx, sy = zoom * stretch.sqrt(), zoom / stretch.sqrt()
    quarter = torch.randint(0, 4, (b,), device=photos.device, generator=g) * (math.pi / 2)
    angle = torch.where(chance(b, 0.3, photos, g), uniform(b, -0.6, 0.6, photos, g), torch.zeros_like(zoom))
    angle = angle + torch.where(chance(b, 0.5, photos, g), quarter, torch.zeros_like(angle))
    flip = torch.where(chance(b, 0.5, photos, g), -1.0, 1.0)
    room = (1 - zoom).clamp_min(0)
    tx, ty = (uniform(b, -1, 1, photos, g) * torch.maximum(room, out * 0.3) for _ in range(2))
    c, s = angle.cos(), angle.sin()
    theta = torch.stack([c * sx * flip, -s * sy, tx, s * sx * flip, c * sy, ty], 1).view(b, 2, 3)
    grid = F.affine_grid(theta, (b, 3, side, side), align_corners=False)
    x = photos.float() / 255
    colour = torch.rand(b, 3, 1, 1, device=x.device, generator=g)
    plain = F.grid_sample(x - colour, grid, padding_mode="zeros", align_corners=False) + colour
    mirrored = F.grid_sample(x, grid, padding_mode="reflection", align_corners=False)
    return torch.where(out.view(b, 1, 1, 1), plain, mirrored).clamp_(0, 1)


def boxes(b, side, like, g, thin):
    """Masks of rotated boxes, [b, 1, side, side]; `thin` ones are scratches."""
    at = (torch.arange(side, device=like.device) + 0.5) / side
    y, x = torch.meshgrid(at, at, indexing="ij")
    cx, cy = (uniform(b, 0.05, 0.95, like, g).view(b, 1, 1) for _ in range(2))
    a = uniform(b, 0, math.pi, like, g).view(b, 1, 1)
    length = uniform(b, math.log(0.02), math.log(0.35), like, g).exp().view(b, 1, 1)
    ratio = uniform(b, 0.02, 0.15, like, g) if thin else uniform(b, 0.3, 1.0, like, g)
    u = (x - cx) * a.cos() + (y - cy) * a.sin()
    v = (y - cy) * a.cos() - (x - cx) * a.sin()
    inside = (u.abs() < length) & (v.abs() < (length * ratio.view(b, 1, 1)).clamp_min(0.004))
    return inside.unsqueeze(1)


def spoil(x, g):
    """Foreign boxes, scratches and stains on some."""
    b, side = len(x), x.shape[-1]
    foreign = boxes(b, side, x, g, False) & chance(b, 0.35, x, g).view(b, 1, 1, 1)
    x = torch.where(foreign, x.roll(1, 0), x)
    moved = boxes(b, side, x, g, False) & chance(b, 0.15, x, g).view(b, 1, 1, 1)
    x = torch.where(moved, x.roll((side // 3, side // 4), (2, 3)), x)
    scratch = boxes(b, side, x, g, True) & chance(b, 0.25, x, g).view(b, 1, 1, 1)
    colour = torch.rand(b, 3, 1, 1, device=x.device, generator=g)
    part = uniform(b, 0.3, 1.0, x, g).view(b, 1, 1, 1)
    return torch.where(scratch, x * (1 - part) + colour * part, x)


def light(x, g):
    """Brightness, contrast, gamma, colour; grey and negative pictures; blur and noise."""
    b = len(x)

    def some(p, yes, no):
        return torch.where(chance(b, p, x, g).view(b, 1, 1, 1), yes, no)

    def factor(low, high):
        return uniform(b, math.log(low), math.log(high), x, g).exp().view(b, 1, 1, 1)

    grey = (x * torch.tensor([0.299, 0.587, 0.114], device=x.device).view(1, 3, 1, 1)).sum(1, keepdim=True)
    saturation = uniform(b, 0.3, 1.6, x, g).view(b, 1, 1, 1)
    x = some(0.5, grey + (x - grey) * saturation, x)
    x = some(0.25, grey.expand_as(x), x)
    tint = (uniform(3 * b, -0.25, 0.25, x, g).exp()).view(b, 3, 1, 1)
    x = some(0.3, x * tint, x)
    x = some(0.05, 1 - x, x)
    mean = x.mean((1, 2, 3), keepdim=True)
    x = some(0.6, (x - mean) * factor(0.5, 1.6) + mean * factor(0.6, 1.4), x).clamp(0, 1)
    x = some(0.3, (x + 1e-4) ** factor(0.6, 1.7), x)
    k = torch.tensor([1.0, 4.0, 6.0, 4.0, 1.0], device=x.device, dtype=x.dtype)
    k = (k[:, None] * k[None] / 256).expand(3, 1, 5, 5)
    x = some(0.15, F.conv2d(F.pad(x, (2, 2, 2, 2), mode="reflect"), k, groups=3), x)
    noise = torch.randn(x.shape, device=x.device, generator=g, dtype=x.dtype)
    x = some(0.25, x + noise * uniform(b, 0.0, 0.08, x, g).view(b, 1, 1, 1), x)
    return x.clamp(0, 1)


MEAN = (0.48145466, 0.4578275, 0.40821073)
STD = (0.26862954, 0.26130258, 0.27577711)


def view(photos, index, side, g):
    """A batch in 0..1, [B, 3, side, side]."""
    return light(spoil(crop(photos[index], side, g), g), g)


def normalised(x):
    """As CLIP wants it."""
    mean = torch.tensor(MEAN, device=x.device).view(1, 3, 1, 1)
    std = torch.tensor(STD, device=x.device).view(1, 3, 1, 1)
    return (x - mean) / std
