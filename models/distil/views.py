"""Pictures in another light, and as CLIP wants them: [B, 3, side, side]."""

import math

import torch
import torch.nn.functional as F


def uniform(b, low, high, like, g):
    return torch.rand(b, device=like.device, generator=g) * (high - low) + low


def chance(b, p, like, g):
    return torch.rand(b, device=like.device, generator=g) < p


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


def normalised(x):
    """As CLIP wants it."""
    mean = torch.tensor(MEAN, device=x.device).view(1, 3, 1, 1)
    std = torch.tensor(STD, device=x.device).view(1, 3, 1, 1)
    return (x - mean) / std
