"""Writes tests/golden/backbones: tiny image encoders without text, each by the library that defines its layout.

Needs: torch, safetensors, transformers, timm (made with 2.15.0, 0.8.0, 5.24.0 and 1.0.31). Each folder gets the
weights (f16) with their configuration as the library saves them, and `expected.safetensors`, computed by that
library in f32 from the rounded weights: `pixels.S` [3, S, S] (normalised), `last.S` (all rows after the last
normalisation without registers, [1 + N, 32]) and `first.S` (the same after block 1, not normalised), for S = 56, the
weights' own size, and S = 84, for which positions are resized.
"""
import functools, json, os
import torch
from safetensors.torch import save_file

HERE = os.path.dirname(os.path.abspath(__file__))
W, LAYERS, HEADS, PATCH, IMAGE, MORE = 32, 2, 2, 14, 56, 84


def folder(name):
    path = os.path.join(HERE, "backbones", name)
    os.makedirs(path, exist_ok=True)
    return path


def shake(model):
    """Random numbers of a size that matters, as f16 can hold them, in every parameter."""
    g = torch.Generator().manual_seed(7)
    with torch.no_grad():
        for name, p in model.named_parameters():
            scale = 0.6 if "gamma" in name or "lambda" in name else p[0].numel() ** -0.5 if p.dim() > 1 else 0.3
            noise = torch.randn(p.shape, generator=g) * scale
            p.copy_((noise + (1.0 if "norm" in name and "weight" in name else 0.0)).half().float())
    return model.eval()


def pixels(size):
    return torch.randn(1, 3, size, size, generator=torch.Generator().manual_seed(size))


def expected(path, rows):
    out = {}
    for size in (IMAGE, MORE):
        x = pixels(size)
        with torch.no_grad():
            first, last = rows(x)
        out |= {f"pixels.{size}": x[0], f"first.{size}": first[0], f"last.{size}": last[0]}
    save_file({k: v.contiguous().clone() for k, v in out.items()}, os.path.join(path, "expected.safetensors"))


def hugging_face(name, registers):
    import transformers as t

    more = {"num_register_tokens": registers} if registers else {}
    kind = (t.Dinov2WithRegistersConfig, t.Dinov2WithRegistersModel) if registers else (t.Dinov2Config, t.Dinov2Model)
    config = kind[0](hidden_size=W, num_hidden_layers=LAYERS, num_attention_heads=HEADS, patch_size=PATCH,
                     image_size=IMAGE, layerscale_value=1.0, **more)
    model, path = shake(kind[1](config)), folder(name)

    def rows(x):
        out = model(x, output_hidden_states=True)
        keep = lambda r: torch.cat([r[:, :1], r[:, 1 + registers:]], 1)
        return keep(out.hidden_states[1]), keep(out.last_hidden_state)

    expected(path, rows)
    model.half().save_pretrained(path)
    with open(os.path.join(path, "preprocessor_config.json"), "w") as f:
        json.dump({"crop_size": {"height": 224, "width": 224}, "do_rescale": True, "image_mean": [0.485, 0.456, 0.406],
                   "image_std": [0.229, 0.224, 0.225], "resample": 3}, f)


def timm(name, file, **more):
    from timm.models.vision_transformer import VisionTransformer

    norm = functools.partial(torch.nn.LayerNorm, eps=1e-6)
    model = shake(VisionTransformer(img_size=IMAGE, patch_size=PATCH, embed_dim=W, depth=LAYERS, num_heads=HEADS,
                                    dynamic_img_size=True, norm_layer=norm, **more))
    path, skip = folder(name), model.num_prefix_tokens

    def rows(x):
        keep = lambda r: torch.cat([r[:, :1], r[:, skip:]], 1)
        first = model.blocks[0](model.norm_pre(model._pos_embed(model.patch_embed(x))))
        return keep(first), keep(model.forward_features(x))

    expected(path, rows)
    tensors = {k: v.half().contiguous() for k, v in model.state_dict().items()}
    if file.endswith(".pth"):
        # As the authors of DINOv2 publish theirs: no configuration, a mask token.
        torch.save(tensors | {"mask_token": torch.zeros(1, W).half()}, os.path.join(path, file))
        return
    save_file(tensors, os.path.join(path, file))
    with open(os.path.join(path, "config.json"), "w") as f:
        json.dump({"architecture": "vit_tiny_patch14", "num_features": W, "pretrained_cfg": {
            "mean": [0.5, 0.5, 0.5], "std": [0.25, 0.25, 0.25], "interpolation": "bicubic",
            "input_size": [3, IMAGE, IMAGE]}}, f)


hugging_face("hugging_face", 0)
hugging_face("hugging_face_registers", 3)
timm("timm_registers", "model.safetensors", num_classes=0, init_values=1.0, reg_tokens=3, no_embed_class=True)
timm("timm_vit", "model.safetensors", num_classes=5)
timm("authors", "dinov2_tiny14_pretrain.pth", num_classes=0, init_values=1.0)
