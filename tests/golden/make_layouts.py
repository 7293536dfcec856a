"""Writes tests/golden/layouts: one tiny CLIP in each layout that people have, by the libraries that define it.

Needs: torch, safetensors, transformers, open_clip_torch (made with 2.15.0, 0.8.0, 5.23.0 and 3.3.0).
Each folder gets `expected.safetensors`: `pixels` [3, 32, 32] (normalised), `image_raw` [64] = x[class] @ proj
without ln_post (as FAPrompt reads it), `tokens` [8] (ids, the last is EOS), `text` [64], all float32, computed
by that library's own modules. The folders `*_other` hold networks whose configurations say what most leave at its
default: other heads, epsilons, activation and normalisation; their `expected.safetensors` has `photo` [24, 40, 3]
(uint8) too, which the library's own transform made `pixels` of.
"""
import json, os
import numpy as np
import torch, torch.nn as nn
from PIL import Image
from collections import OrderedDict
from safetensors.torch import save_file

HERE = os.path.dirname(os.path.abspath(__file__))
W, LAYERS, HEADS, PATCH, IMAGE, VOCAB, CONTEXT = 64, 2, 1, 8, 32, 96, 77
TOKENS = torch.tensor([VOCAB - 2, 5, 17, 33, 64, 2, 9, VOCAB - 1])


def folder(name):
    path = os.path.join(HERE, "layouts", name)
    os.makedirs(path, exist_ok=True)
    return path


def expected(path, pixels, image_raw, text, **more):
    save_file({"pixels": pixels[0].contiguous(), "image_raw": image_raw[0].contiguous(),
               "tokens": TOKENS.to(torch.int32), "text": text[0].contiguous(), **more},
              os.path.join(path, "expected.safetensors"))


# --- OpenAI: the module tree of openai/CLIP (MIT), written down with its names ---
class QuickGELU(nn.Module):
    def forward(self, x: torch.Tensor):
        return x * torch.sigmoid(1.702 * x)


class Block(nn.Module):
    def __init__(self, width: int, heads: int, mask: bool):
        super().__init__()
        self.attn = nn.MultiheadAttention(width, heads)
        self.ln_1 = nn.LayerNorm(width)
        self.mlp = nn.Sequential(OrderedDict([
            ("c_fc", nn.Linear(width, width * 4)), ("gelu", QuickGELU()), ("c_proj", nn.Linear(width * 4, width))]))
        self.ln_2 = nn.LayerNorm(width)
        self.mask = mask

    def forward(self, x: torch.Tensor):
        y = self.ln_1(x)
        m = None
        if self.mask:
            n = x.shape[0]
            m = torch.full((n, n), float("-inf"), dtype=x.dtype).triu(1)
        x = x + self.attn(y, y, y, need_weights=False, attn_mask=m)[0]
        return x + self.mlp(self.ln_2(x))


class Transformer(nn.Module):
    def __init__(self, mask: bool):
        super().__init__()
        self.width, self.layers = W, LAYERS
        self.resblocks = nn.Sequential(*[Block(W, HEADS, mask) for _ in range(LAYERS)])

    def forward(self, x: torch.Tensor):
        return self.resblocks(x)


class Visual(nn.Module):
    def __init__(self):
        super().__init__()
        self.input_resolution, self.output_dim = IMAGE, W
        self.conv1 = nn.Conv2d(3, W, PATCH, PATCH, bias=False)
        self.class_embedding = nn.Parameter(torch.randn(W) * W ** -0.5)
        self.positional_embedding = nn.Parameter(torch.randn((IMAGE // PATCH) ** 2 + 1, W) * W ** -0.5)
        self.ln_pre = nn.LayerNorm(W)
        self.transformer = Transformer(False)
        self.ln_post = nn.LayerNorm(W)
        self.proj = nn.Parameter(torch.randn(W, W) * W ** -0.5)

    def forward(self, x: torch.Tensor):
        x = self.conv1(x).flatten(2).permute(0, 2, 1)
        c = self.class_embedding.expand(x.shape[0], 1, W)
        x = self.ln_pre(torch.cat([c, x], 1) + self.positional_embedding)
        x = self.transformer(x.permute(1, 0, 2)).permute(1, 0, 2)
        return x[:, 0] @ self.proj


class OpenAi(nn.Module):
    def __init__(self):
        super().__init__()
        self.context_length, self.vocab_size = CONTEXT, VOCAB
        self.visual = Visual()
        self.transformer = Transformer(True)
        self.token_embedding = nn.Embedding(VOCAB, W)
        self.positional_embedding = nn.Parameter(torch.randn(CONTEXT, W) * 0.1)
        self.ln_final = nn.LayerNorm(W)
        self.text_projection = nn.Parameter(torch.randn(W, W) * W ** -0.5)
        self.logit_scale = nn.Parameter(torch.tensor(2.6593))

    def forward(self, image: torch.Tensor, text: torch.Tensor):
        x = self.token_embedding(text) + self.positional_embedding[: text.shape[1]]
        x = self.ln_final(self.transformer(x.permute(1, 0, 2)).permute(1, 0, 2))
        return self.visual(image), x[:, -1] @ self.text_projection


def scramble(model):
    """LayerNorms and biases start at one and zero, which would hide a mix-up."""
    with torch.no_grad():
        for name, p in model.named_parameters():
            if p.dim() == 1 and "class" not in name:
                p.add_(torch.randn_like(p) * 0.1)
    return model.half().float().eval()


torch.manual_seed(5)
pixels = torch.randn(1, 3, IMAGE, IMAGE)

model = scramble(OpenAi())
with torch.no_grad():
    image, text = model(pixels, TOKENS[None])
half = OpenAi()
half.load_state_dict(model.state_dict())
half = half.half().eval()
path = folder("openai")
torch.save(half.state_dict(), os.path.join(path, "state_dict.pt"))
torch.jit.trace(half, (pixels.half(), TOKENS[None])).save(os.path.join(path, "torchscript.pt"))
expected(path, pixels, image, text)

# --- Hugging Face ---
from transformers import CLIPConfig, CLIPModel
config = CLIPConfig(
    text_config=dict(hidden_size=W, intermediate_size=4 * W, num_hidden_layers=LAYERS, num_attention_heads=HEADS,
                     vocab_size=VOCAB, max_position_embeddings=CONTEXT, projection_dim=W, hidden_act="quick_gelu",
                     bos_token_id=VOCAB - 2, eos_token_id=VOCAB - 1),
    vision_config=dict(hidden_size=W, intermediate_size=4 * W, num_hidden_layers=LAYERS, num_attention_heads=HEADS,
                       image_size=IMAGE, patch_size=PATCH, projection_dim=W, hidden_act="quick_gelu"),
    projection_dim=W)
model = scramble(CLIPModel(config))
with torch.no_grad():
    hidden = model.vision_model(pixel_values=pixels).last_hidden_state
    image = model.visual_projection(hidden[:, 0])
    pooled = model.text_model(input_ids=TOKENS[None]).pooler_output
    text = model.text_projection(pooled)
path = folder("hugging_face")
model.half().save_pretrained(path)
expected(path, pixels, image, text)

# --- open_clip ---
import open_clip
from open_clip.model import CLIP
model_cfg = dict(embed_dim=W, quick_gelu=True,
                 vision_cfg=dict(image_size=IMAGE, layers=LAYERS, width=W, head_width=64, patch_size=PATCH),
                 text_cfg=dict(context_length=CONTEXT, vocab_size=VOCAB, width=W, heads=HEADS, layers=LAYERS))
model = scramble(CLIP(**model_cfg))
with torch.no_grad():
    v = model.visual
    x = v.conv1(pixels).flatten(2).permute(0, 2, 1)
    x = torch.cat([v.class_embedding.expand(1, 1, W), x], 1) + v.positional_embedding
    x = v.transformer(v.ln_pre(x))
    image = x[:, 0] @ v.proj
    padded = torch.zeros(1, CONTEXT, dtype=torch.long)
    padded[0, : len(TOKENS)] = TOKENS
    text = model.encode_text(padded)
path = folder("open_clip")
save_file({k: v.half().contiguous() for k, v in model.state_dict().items()},
          os.path.join(path, "open_clip_model.safetensors"))
json.dump({"model_cfg": model_cfg, "preprocess_cfg": {
    "mean": [0.48145466, 0.4578275, 0.40821073], "std": [0.26862954, 0.26130258, 0.27577711]}},
    open(os.path.join(path, "open_clip_config.json"), "w"), indent=1)
expected(path, pixels, image, text)

# --- what most configurations leave at its default ---
torch.manual_seed(6)
y, x = np.mgrid[:24, :40]
photo = np.stack([127 + 90 * np.sin(x / 5.3 + i) + 30 * np.cos(y * x / 17.7 - i) for i in range(3)], 2).astype(np.uint8)
shown = Image.fromarray(photo)
MEAN, STD = [0.5, 0.4, 0.3], [0.25, 0.5, 0.125]
more = {"photo": torch.tensor(photo)}

# Hugging Face: an older file's `…_config_dict` counts before `…_config`, with its own defaults.
from transformers import CLIPImageProcessorPil  # resizes as Pillow does, which is what CLIPs were trained with
towers = dict(hidden_size=W, intermediate_size=4 * W, num_hidden_layers=LAYERS, hidden_act="gelu", projection_dim=W)
text_config = dict(towers, num_attention_heads=2, layer_norm_eps=1e-2, vocab_size=VOCAB,
                   max_position_embeddings=CONTEXT, bos_token_id=VOCAB - 2, eos_token_id=VOCAB - 1)
vision_config = dict(towers, num_attention_heads=4, layer_norm_eps=1e-3, image_size=IMAGE, patch_size=PATCH)
config = CLIPConfig(text_config=text_config, vision_config=vision_config, projection_dim=W)
model = scramble(CLIPModel(config))
processor = CLIPImageProcessorPil(size={"height": IMAGE, "width": IMAGE}, do_center_crop=False, resample=3,
                                  image_mean=MEAN, image_std=STD)
pixels = processor(shown, return_tensors="pt")["pixel_values"].float()
with torch.no_grad():
    hidden = model.vision_model(pixel_values=pixels).last_hidden_state
    image = model.visual_projection(hidden[:, 0])
    text = model.text_projection(model.text_model(input_ids=TOKENS[None]).pooler_output)
path = folder("hugging_face_other")
model.half().save_pretrained(path)
older = json.load(open(os.path.join(path, "config.json")))
older["text_config_dict"], older["vision_config_dict"] = text_config, vision_config
older["text_config"].update(hidden_act="quick_gelu", num_attention_heads=8, layer_norm_eps=1e-5)
older["vision_config"].update(hidden_act="quick_gelu", num_attention_heads=1)
json.dump(older, open(os.path.join(path, "config.json"), "w"), indent=1)
assert CLIPConfig.from_pretrained(path).vision_config.num_attention_heads == 4
processor.save_pretrained(path)
expected(path, pixels, image, text, **more)

# open_clip: without `quick_gelu` the GELU is exact, heads are counted by their width.
from open_clip.transform import image_transform
model_cfg = dict(embed_dim=W,
                 vision_cfg=dict(image_size=IMAGE, layers=LAYERS, width=W, head_width=16, patch_size=PATCH,
                                 norm_kwargs=dict(eps=1e-3)),
                 text_cfg=dict(context_length=CONTEXT, vocab_size=VOCAB, width=W, heads=2, layers=LAYERS,
                               norm_kwargs=dict(eps=1e-2)))
model = scramble(CLIP(**model_cfg))
preprocess_cfg = dict(mean=MEAN, std=STD, interpolation="bilinear", resize_mode="squash")
pixels = image_transform(IMAGE, is_train=False, **preprocess_cfg)(shown)[None]
with torch.no_grad():
    v = model.visual
    x = v.conv1(pixels).flatten(2).permute(0, 2, 1)
    x = torch.cat([v.class_embedding.expand(1, 1, W), x], 1) + v.positional_embedding
    image = v.transformer(v.ln_pre(x))[:, 0] @ v.proj
    padded = torch.zeros(1, CONTEXT, dtype=torch.long)
    padded[0, : len(TOKENS)] = TOKENS
    text = model.encode_text(padded)
path = folder("open_clip_other")
save_file({k: v.half().contiguous() for k, v in model.state_dict().items()},
          os.path.join(path, "open_clip_model.safetensors"))
json.dump({"model_cfg": model_cfg, "preprocess_cfg": preprocess_cfg},
          open(os.path.join(path, "open_clip_config.json"), "w"), indent=1)
expected(path, pixels, image, text, **more)

# --- a training checkpoint as open_clip writes it: below `state_dict.module.`, the optimizer beside it ---
path = folder("openai")
state = torch.load(os.path.join(path, "state_dict.pt"))
slot = {"exp_avg": torch.zeros(4), "step": torch.tensor(3.0)}
torch.save({"epoch": 32, "name": "tiny", "state_dict": {"module." + k: v for k, v in state.items()},
            "optimizer": {"state": {0: slot}, "param_groups": [{"lr": 1e-3, "betas": (0.9, 0.98), "params": [0]}]},
            "scaler": {"scale": 65536.0, "_growth_tracker": 0}}, os.path.join(path, "training.pt"))
