"""Writes tests/golden/methods/blip: a tiny BLIP for image-text contrast, by the library that defines its layout.

Needs: torch, safetensors, transformers (made with 2.15.0, 0.8.0 and 5.24.0). The folder gets the weights (f16) with
configuration and vocabulary as the library reads them, and `expected.safetensors`, computed by the library's own
modules in f32 from the rounded weights: `text` [2, 24], the unit features of NORMAL and ABNORMAL; `ids.N`, the tokens of
TEXTS[N]; for S = 48, the weights' own size, and S = 64, for which positions are resized: `pixels.S` [3, S, S]
(normalised), `image.S` [24] and `patches.S` [N, 24] (unit features), `cosines.S` [2] (the library's `itm_score`), and
`photo` [40, 56, 3] (uint8), which the library's own processor makes `pixels.48` of.
"""
import os
import numpy as np
import torch
from PIL import Image
from safetensors.torch import save_file
from transformers import BertTokenizer, BlipConfig, BlipForImageTextRetrieval
from transformers.models.blip.image_processing_pil_blip import BlipImageProcessorPil

PATH = os.path.join(os.path.dirname(os.path.abspath(__file__)), "methods", "blip")
NORMAL, ABNORMAL = "A photo of a normal metal nut", "A photo of an anomalous metal nut"
TEXTS = [NORMAL, ABNORMAL, "  Déjà-vu,  NUTS!\tmetal…(x) ", "金属 nut 50 % unknownword", "a\u00a0photo\u200b of ‘nuts’", "o'nut ﬁ"]
WORDS = """[PAD] [UNK] [CLS] [SEP] [MASK] a photo of an normal anomal ##ous metal nut ##s deja vu - , ! … ( ) x ##x 金 属
50 % ' ‘ ’ o ##nut fi ﬁ s deja-vu é [DEC] [ENC]""".split()
SIZES = (48, 64)

os.makedirs(PATH, exist_ok=True)
with open(os.path.join(PATH, "vocab.txt"), "w") as f:
    f.write("\n".join(WORDS) + "\n")
tokenizer = BertTokenizer(os.path.join(PATH, "vocab.txt"))

torch.manual_seed(9)
config = BlipConfig(
    text_config=dict(hidden_size=32, intermediate_size=96, num_hidden_layers=2, num_attention_heads=4, vocab_size=len(WORDS),
                     encoder_hidden_size=32, max_position_embeddings=40, layer_norm_eps=1e-3),
    vision_config=dict(hidden_size=32, intermediate_size=128, num_hidden_layers=3, num_attention_heads=2, image_size=SIZES[0],
                       patch_size=8, layer_norm_eps=1e-2),
    image_text_hidden_size=24)
model = BlipForImageTextRetrieval(config)
with torch.no_grad():
    for name, p in model.named_parameters():
        scale = 0.3 if p.dim() == 1 or "embedding" in name else p[0].numel() ** -0.5
        one = 1.0 if "norm" in name.lower() and "weight" in name else 0.0
        p.copy_((torch.randn(p.shape) * scale + one).half().float())
model.eval()

y, x = np.mgrid[:40, :56]
photo = np.stack([127 + 90 * np.sin(x / 5.3 + i) + 30 * np.cos(y * x / 17.7 - i) for i in range(3)], 2).astype(np.uint8)
processor = BlipImageProcessorPil(size={"height": SIZES[0], "width": SIZES[0]}, image_mean=[0.5, 0.4, 0.3],
                                  image_std=[0.25, 0.5, 0.125])
out = {"photo": torch.tensor(photo)}
for i, text in enumerate(TEXTS):
    out[f"ids.{i}"] = torch.tensor(tokenizer(text)["input_ids"], dtype=torch.int32)
unit = lambda v: torch.nn.functional.normalize(v, dim=-1)
with torch.no_grad():
    ids = [torch.tensor([tokenizer(text)["input_ids"]]) for text in (NORMAL, ABNORMAL)]
    text = [unit(model.text_proj(model.text_encoder(input_ids=i).last_hidden_state[:, 0])) for i in ids]
    out["text"] = torch.cat(text)
    for size in SIZES:
        pixels = torch.randn(1, 3, size, size, generator=torch.Generator().manual_seed(size))
        if size == SIZES[0]:
            pixels = processor(Image.fromarray(photo), return_tensors="pt")["pixel_values"].float()
        ask = lambda i: model(input_ids=i, pixel_values=pixels, use_itm_head=False, interpolate_pos_encoding=size != SIZES[0])
        rows = ask(ids[0]).last_hidden_state
        out[f"pixels.{size}"] = pixels[0]
        out[f"image.{size}"] = unit(model.vision_proj(rows[:, 0]))[0]
        out[f"patches.{size}"] = unit(model.vision_proj(rows[:, 1:]))[0]
        out[f"cosines.{size}"] = torch.cat([ask(i).itm_score[0] for i in ids])
save_file({k: v.contiguous().clone() for k, v in out.items()}, os.path.join(PATH, "expected.safetensors"))
model.half().save_pretrained(PATH)
processor.save_pretrained(PATH)
