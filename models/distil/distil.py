"""Teaches image towers of the program what networks trained on ImageNet see.

    python distil.py --photos DIR --teachers teachers.safetensors --out OUT --student 192x9v1 --seconds 540

Each student's rows learn to predict the teachers' maps: strides 8 and 16, standardised, at its own grid
(stride 8 folded two by two). Linear heads behind a middle block and behind the block where the V-V stream
begins are thrown away. The tower's own patch features are the first principal components of all maps, and
its image feature those of EfficientNet's pooled map, without a head. Several students learn at once, for the
teachers cost most. The learning rate follows the clock (`--seconds`) or the number of steps (`--steps`).

Writes OUT/WIDTHxLAYERS.safetensors (f16, OpenAI's names), OUT/log.jsonl and OUT/state.pt, from which
`--resume` goes on.
"""

import argparse
import json
import math
import os
import sys
import time

import torch
import torch.nn.functional as F
from safetensors.torch import save_file
from torch import nn

import teachers
import views
from student import Block, Tower, parse, taps_of


def arguments():
    p = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    p.add_argument("--photos", nargs="+", required=True, help="folders of pictures, any depth")
    p.add_argument("--teachers", required=True, help="what teachers.py packed")
    p.add_argument("--no-resnet", action="store_true", help="EfficientNet-Lite2 alone")
    p.add_argument("--student", action="append", required=True, help="WIDTHxLAYERSvVV; may be repeated")
    p.add_argument("--joint", type=int, default=192, help="dimensions of patch and image features")
    p.add_argument("--out", required=True)
    p.add_argument("--batch", type=int, default=256)
    p.add_argument("--lr", type=float, default=1.0e-3, help="for 192 channels; falls as the root of the width")
    p.add_argument("--weight-decay", type=float, default=0.05)
    p.add_argument("--steps", type=int, help="a number of steps instead of --seconds")
    p.add_argument("--seconds", type=float, default=540.0, help="of all pieces together, loading included")
    p.add_argument("--side", type=int, default=224)
    p.add_argument("--large", type=int, default=336, help="side of some batches of the last part")
    p.add_argument("--large-from", type=float, default=0.6, help="part of the run before the last part")
    p.add_argument("--large-every", type=int, default=6)
    p.add_argument("--photo-side", type=int, default=256)
    p.add_argument("--seed", type=int, default=20)
    p.add_argument("--save-every", type=float, default=60.0, help="seconds")
    p.add_argument("--resume", action="store_true", help="go on from OUT/state.pt, if it is there")
    p.add_argument("--stop-after", type=int, help="stop after this many steps of this run")
    p.add_argument("--compile", action="store_true", help="compile the blocks (a GPU)")
    p.add_argument("--device", default="cuda" if torch.cuda.is_available() else "cpu")
    return p.parse_args()


class Targets:
    """The teachers' maps at the student's grid, standardised; fitted on the first pictures."""

    def __init__(self, args, device, dtype):
        w = teachers.load(args.teachers)
        self.dtype = dtype
        self.nets = [teachers.EfficientNetLite(w, device, dtype)]
        if not args.no_resnet:
            self.nets.append(teachers.ResNet(w, device, dtype))
        self.state = {}

    def raw(self, x):
        """Groups of maps [B, N, D] and the pooled map [B, D]."""
        x = x.to(self.dtype).contiguous(memory_format=torch.channels_last)
        maps = {}
        for net in self.nets:
            maps.update(net(x))
        pooled = maps.pop("pooled").float()
        rows = {}
        for name, m in maps.items():
            m = m.float()
            if name == "r8" and "r8.basis" in self.state:
                centred = m - self.state["r8.mean"].view(1, -1, 1, 1)
                m = torch.einsum("bchw,ck->bkhw", centred, self.state["r8.basis"])
            if name in ("e8", "r8"):
                m = F.pixel_unshuffle(m, 2)
            rows[name] = m.flatten(2).transpose(1, 2)
        return rows, pooled

    @torch.no_grad()
    def fit(self, batches, joint):
        """Means, spreads and principal components from views."""
        if len(self.nets) > 1:
            sample = [self.nets[-1](x.to(self.dtype))["r8"].float() for x in batches]
            flat = torch.cat([m.permute(0, 2, 3, 1).flatten(0, 2) for m in sample])
            mean, basis, values = components(flat, 64)
            # Half way to equal spreads: few strong directions would drown the rest.
            self.state.update({"r8.mean": mean, "r8.basis": basis * values.clamp_min(1e-6) ** -0.25})
        seen = [self.raw(x) for x in batches]
        groups = {k: torch.cat([r[k].flatten(0, 1) for r, _ in seen]) for k in seen[0][0]}
        if "r16" in groups:
            mean, basis, values = components(groups["r16"], 256)
            self.state.update({"r16.mean": mean, "r16.basis": basis * values.clamp_min(1e-6) ** -0.25})
            groups["r16"] = (groups["r16"] - mean) @ self.state["r16.basis"]
        for k, v in groups.items():
            std = v.std(0).clamp_min(1e-4)
            # The components of one map keep their spreads' proportions.
            std = std.square().mean().sqrt().expand_as(std) if k[0] == "r" else std
            self.state[k + ".shift"], self.state[k + ".scale"] = v.mean(0), 1 / std
        all_rows = torch.cat([self.scaled(k, v) for k, v in groups.items()], 1)
        _, basis, values = components(all_rows, joint)
        self.state["patch.basis"] = basis / values.mean().sqrt()
        self.state["patch.kept"] = values.sum() / all_rows.var(0).sum()
        pooled = torch.cat([p for _, p in seen])
        mean, basis, values = components(pooled, joint)
        self.state.update({"image.mean": mean, "image.basis": basis / values.mean().sqrt()})

    def scaled(self, name, rows):
        return ((rows - self.state[name + ".shift"]) * self.state[name + ".scale"]).clamp(-8, 8)

    @torch.no_grad()
    def __call__(self, x):
        """Head targets [B, N, D], patch targets [B, N, joint], image targets [B, joint]."""
        rows, pooled = self.raw(x)
        if "r16" in rows:
            rows["r16"] = (rows["r16"] - self.state["r16.mean"]) @ self.state["r16.basis"]
        rows = {k: self.scaled(k, v) for k, v in rows.items()}
        self.widths = {k: v.shape[-1] for k, v in rows.items()}
        joined = torch.cat(list(rows.values()), 2)
        image = (pooled - self.state["image.mean"]) @ self.state["image.basis"]
        return joined, joined @ self.state["patch.basis"], image


def components(rows, count):
    """Mean [D], the first principal components [D, count], their variances [count]."""
    mean = rows.mean(0)
    centred = (rows - mean).double()
    values, vectors = torch.linalg.eigh(centred.T @ centred / len(rows))
    keep = min(count, len(values))
    basis = vectors.flip(1)[:, :keep].float()
    values = values.flip(0)[:keep].float().clamp_min(0)
    if keep < count:
        basis, values = F.pad(basis, (0, count - keep)), F.pad(values, (0, count - keep))
    return mean, basis, values


class Student(nn.Module):
    """A tower and the heads that are thrown away."""

    def __init__(self, name, joint, outputs):
        super().__init__()
        width, layers, vv = parse(name)
        self.name = f"{width}x{layers}"
        self.tower = Tower(width, layers, vv, joint)
        self.taps = taps_of(layers, vv)
        heads = {str(t): nn.Sequential(nn.LayerNorm(width), nn.Linear(width, outputs)) for t in self.taps}
        self.heads = nn.ModuleDict(heads)

    def losses(self, pictures, targets, widths):
        joined, patch, image = targets
        patches, images, kept = self.tower(pictures, self.taps)
        parts = {}
        sizes = list(widths.values())
        for t in self.taps:
            out = self.heads[str(t)](kept[t]).float()
            per = F.smooth_l1_loss(out, joined, reduction="none").mean((0, 1)).split(sizes)
            parts[f"tap{t}"] = torch.stack([p.mean() for p in per]).mean()
        patches, images = patches.float(), images.float()
        parts["patch"] = F.smooth_l1_loss(patches, patch) + 0.5 * apart(patches, patch)
        parts["image"] = F.smooth_l1_loss(images, image) + 0.5 * apart(images, image)
        total = sum(v for k, v in parts.items() if k != "image") + 0.3 * parts["image"]
        return total, parts

    def save(self, path, state):
        tensors = {"visual." + k: v.half().contiguous() for k, v in self.tower.state_dict().items()}
        for k, v in self.heads.state_dict().items():
            tensors["heads." + k] = v.half().contiguous()
        save_file(tensors, path + ".new", {"faprompt.vv_layers": str(self.tower.vv)})
        os.replace(path + ".new", path)


def apart(a, b):
    return (1 - F.cosine_similarity(a, b, dim=-1)).mean()


def groups(student, decay):
    matrices, others = [], []
    for n, p in student.named_parameters():
        (matrices if p.dim() > 1 and "embedding" not in n else others).append(p)
    return [{"params": matrices, "weight_decay": decay}, {"params": others, "weight_decay": 0.0}]


def rate(part):
    """Warm-up, then half a cosine down to nothing."""
    warm = 0.03
    if part < warm:
        return max(part, 1e-3) / warm
    return 0.5 * (1 + math.cos(math.pi * min(1.0, (part - warm) / (1 - warm))))


class Run:
    def __init__(self, args):
        self.begun, self.args = time.time(), args
        self.device = torch.device(args.device)
        self.gpu = self.device.type == "cuda"
        os.makedirs(args.out, exist_ok=True)
        torch.manual_seed(args.seed)
        if self.gpu:
            torch.backends.cudnn.benchmark = True
            torch.set_float32_matmul_precision("high")
        dtype = torch.bfloat16 if self.gpu else torch.float32
        self.photos = views.load(args.photos, args.photo_side).to(self.device)
        self.say(event="photos", count=len(self.photos))
        self.targets = Targets(args, self.device, dtype)
        self.g = torch.Generator(self.device).manual_seed(args.seed)
        self.step, self.seen, self.spent = 0, 0, 0.0
        path = os.path.join(args.out, "state.pt")
        resume = args.resume and os.path.exists(path)
        saved = torch.load(path, map_location=self.device, weights_only=True) if resume else None
        if saved:
            self.targets.state = saved["targets"]
        else:
            small = args.batch // 4 if self.gpu else min(args.batch, 32)
            self.targets.fit([self.view(args.side, small) for _ in range(16)], args.joint)
            self.say(event="fitted", kept=float(self.targets.state["patch.kept"]))
        outputs = self.targets(self.view(args.side, 2))[0].shape[-1]
        self.students = [Student(n, args.joint, outputs).to(self.device) for n in args.student]
        self.adams = [
            torch.optim.AdamW(
                groups(s, args.weight_decay),
                lr=args.lr * (192 / s.tower.width) ** 0.5,
                betas=(0.9, 0.98),
                fused=self.gpu,
            )
            for s in self.students
        ]
        self.peak = [a.param_groups[0]["lr"] for a in self.adams]
        if saved:
            for s, a, w, m in zip(self.students, self.adams, saved["students"], saved["adams"]):
                s.load_state_dict(w)
                a.load_state_dict(m)
            self.step, self.seen, self.spent = saved["step"], saved["seen"], saved["spent"]
            self.g.manual_seed(args.seed + 7919 * self.step)
        if args.compile:
            torch._dynamo.config.recompile_limit = 64
            Block.forward = torch.compile(Block.forward, dynamic=False)
            Block.forward_vv = torch.compile(Block.forward_vv, dynamic=False)

    def view(self, side, count):
        index = torch.randint(0, len(self.photos), (count,), device=self.device, generator=self.g)
        return views.view(self.photos, index, side, self.g)

    def say(self, **what):
        what["s"] = round(time.time() - self.begun, 1)
        line = json.dumps({k: round(v, 4) if isinstance(v, float) else v for k, v in what.items()})
        print(line, flush=True)
        with open(os.path.join(self.args.out, "log.jsonl"), "a") as f:
            f.write(line + "\n")

    def part(self):
        if self.args.steps:
            return self.step / self.args.steps
        return (self.spent + time.time() - self.begun) / self.args.seconds

    def save(self, whole):
        for s in self.students:
            s.save(os.path.join(self.args.out, s.name + ".safetensors"), self.targets.state)
        basis = {k: v.contiguous() for k, v in self.targets.state.items()}
        save_file(basis, os.path.join(self.args.out, "targets.safetensors"))
        if whole:
            path = os.path.join(self.args.out, "state.pt")
            state = {
                "targets": self.targets.state,
                "students": [s.state_dict() for s in self.students],
                "adams": [a.state_dict() for a in self.adams],
                "step": self.step,
                "seen": self.seen,
                "spent": self.spent + time.time() - self.begun,
            }
            torch.save(state, path + ".new")
            os.replace(path + ".new", path)

    def train(self):
        args, first = self.args, self.step
        saved = told = time.time()
        told_at = self.seen
        while self.part() < 1 and not (args.stop_after and self.step - first >= args.stop_after):
            part = self.part()
            large = args.large and part > args.large_from and self.step % args.large_every == 0
            side, count = (args.large, args.batch * 2 // 5) if large else (args.side, args.batch)
            x = self.view(side, count)
            with torch.autocast(self.device.type, torch.bfloat16, enabled=self.gpu):
                pictures = views.normalised(x)
            targets = self.targets(x)
            parts = []
            for s, a, peak in zip(self.students, self.adams, self.peak):
                for group in a.param_groups:
                    group["lr"] = peak * rate(part)
                with torch.autocast(self.device.type, torch.bfloat16, enabled=self.gpu):
                    loss, terms = s.losses(pictures, targets, self.targets.widths)
                a.zero_grad(set_to_none=True)
                loss.backward()
                nn.utils.clip_grad_norm_(s.parameters(), 1.0)
                a.step()
                parts.append((s.name, terms))
            self.step, self.seen = self.step + 1, self.seen + count
            now = time.time()
            if now - told > 10 or self.step - first in (1, 5, 20):
                terms = {n: {k: round(float(v.detach()), 4) for k, v in t.items()} for n, t in parts}
                if any(not math.isfinite(v) for t in terms.values() for v in t.values()):
                    sys.exit(f"step {self.step}: a loss is no number; --resume {args.out} with a smaller --lr")
                now = time.time()
                speed = (self.seen - told_at) / (now - told)
                line = {"step": self.step, "seen": self.seen, "side": side, "part": part, "per_s": speed}
                self.say(event="step", **line, loss=terms)
                told, told_at = now, self.seen
            if now - saved > args.save_every:
                self.save(whole=True)
                saved = time.time()
        self.save(whole=True)
        speed = (self.seen - told_at) / (time.time() - told)
        self.say(event="done", step=self.step, seen=self.seen, per_s=speed)


if __name__ == "__main__":
    Run(arguments()).train()
