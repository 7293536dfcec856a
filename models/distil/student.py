"""The image tower of the program, in PyTorch: CLIP's ViT with the V-V stream (docs: src/train/nn/image.rs).

Tensors have OpenAI's names, so a saved tower is half of a CLIP file that `faprompt-train export` reads.
"""

import torch
import torch.nn.functional as F
from torch import nn

HEAD = 64
PATCH = 16
GRID = 14


class Block(nn.Module):
    """Pre-norm attention (heads of 64 channels) and an MLP with QuickGELU."""

    def __init__(self, width, layers):
        super().__init__()
        self.ln_1 = nn.LayerNorm(width)
        self.attn = nn.Module()
        self.attn.in_proj_weight = nn.Parameter(torch.randn(3 * width, width) * width**-0.5)
        self.attn.in_proj_bias = nn.Parameter(torch.zeros(3 * width))
        self.attn.out_proj = nn.Linear(width, width)
        self.ln_2 = nn.LayerNorm(width)
        self.mlp = nn.Module()
        self.mlp.c_fc = nn.Linear(width, 4 * width)
        self.mlp.c_proj = nn.Linear(4 * width, width)
        residual = width**-0.5 * (2 * layers) ** -0.5
        nn.init.normal_(self.attn.out_proj.weight, std=residual)
        nn.init.normal_(self.mlp.c_fc.weight, std=(2 * width) ** -0.5)
        nn.init.normal_(self.mlp.c_proj.weight, std=residual)
        for layer in (self.attn.out_proj, self.mlp.c_fc, self.mlp.c_proj):
            nn.init.zeros_(layer.bias)

    def heads(self, x):
        """Queries, keys and values of ln_1(x), each [B, heads, N, 64]."""
        b, n, w = x.shape
        qkv = F.linear(self.ln_1(x), self.attn.in_proj_weight, self.attn.in_proj_bias)
        return qkv.view(b, n, 3, w // HEAD, HEAD).permute(2, 0, 3, 1, 4)

    def attend(self, q, k, v):
        a = F.scaled_dot_product_attention(q, k, v)
        return self.attn.out_proj(a.transpose(1, 2).flatten(2))

    def think(self, x):
        h = self.mlp.c_fc(self.ln_2(x))
        return x + self.mlp.c_proj(h * torch.sigmoid(1.702 * h))

    def forward(self, x):
        q, k, v = self.heads(x).unbind(0)
        return self.think(x + self.attend(q, k, v))

    def forward_vv(self, x, y):
        """One block of both streams."""
        q, k, v = self.heads(x).unbind(0)
        y = y + self.attend(v, v, v)
        return self.think(x + self.attend(q, k, v)), y


class Tower(nn.Module):
    """`width` channels, `layers` blocks, the V-V stream in the last `vv`, joint space of `joint` dimensions."""

    def __init__(self, width, layers, vv, joint):
        super().__init__()
        self.width, self.layers, self.vv, self.joint = width, layers, vv, joint
        self.conv1 = nn.Conv2d(3, width, PATCH, PATCH, bias=False)
        self.class_embedding = nn.Parameter(torch.randn(width) * width**-0.5)
        self.positional_embedding = nn.Parameter(torch.randn(1 + GRID * GRID, width) * 0.02)
        self.ln_pre = nn.LayerNorm(width)
        self.transformer = nn.Module()
        self.transformer.resblocks = nn.ModuleList([Block(width, layers) for _ in range(layers)])
        self.ln_post = nn.LayerNorm(width)
        self.proj = nn.Parameter(torch.randn(width, joint) * width**-0.5)

    def positions(self, grid):
        """As the program resizes them: bilinear, align_corners = false, no smoothing; class row kept."""
        p = self.positional_embedding
        if grid == GRID:
            return p
        square = p[1:].view(1, GRID, GRID, self.width).permute(0, 3, 1, 2)
        square = F.interpolate(square, size=(grid, grid), mode="bilinear", align_corners=False)
        return torch.cat([p[:1], square.permute(0, 2, 3, 1).reshape(grid * grid, self.width)])

    def embed(self, pictures):
        """Normalised pictures [B, 3, S, S] to the first block's rows [B, 1 + N, width]."""
        x = self.conv1(pictures).flatten(2).transpose(1, 2)
        first = self.class_embedding.to(x.dtype).expand(len(x), 1, self.width)
        x = torch.cat([first, x], 1) + self.positions(pictures.shape[-1] // PATCH).to(x.dtype)
        return self.ln_pre(x)

    def forward(self, pictures, taps=()):
        """Raw patch features [B, N, joint], raw image features [B, joint], the patch rows behind the blocks
        named in `taps` (counted from 1)."""
        x = y = self.embed(pictures)
        kept = {}
        for i, block in enumerate(self.transformer.resblocks):
            if i < self.layers - self.vv:
                x = y = block(x)
            else:
                x, y = block.forward_vv(x, y)
            if i + 1 in taps:
                kept[i + 1] = x[:, 1:]
        patches = self.ln_post(y[:, 1:]) @ self.proj
        return patches, x[:, 0] @ self.proj, kept
