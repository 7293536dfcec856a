"""Writes tests/golden/onnx: tiny CLIPs as ONNX files, each by the library and the exporter that people use.

Needs: torch, safetensors, onnx, onnxscript, onnxruntime, transformers, open_clip_torch (made with 2.15.0, 0.8.0,
1.23.2, 0.7.2, 1.32.0, 5.24.0 and 3.3.0).
`towers`: Hugging Face's towers with their projections, `onnx/vision_model.onnx` and `onnx/text_model.onnx` by the older
exporter with open axes, as optimum calls it. `whole`: Hugging Face's `CLIPModel`, `model.onnx` by the newer exporter.
`open_clip`: the whole model by the older exporter, as in most descriptions of it. `open_clip_towers`: `visual.onnx` and
`textual.onnx` by the newer one, in f16. Each has its configuration and `expected.safetensors`, by the library's own
modules: `pixels` [3, 32, 32] (normalised), `image_raw` [16] = x[class] @ proj without ln_post (as FAPrompt reads it),
`tokens` [8] (ids, the last is EOS) and `text` [16], f32.
`quantised.onnx`: a matrix product in int8; `optimised.onnx`: an operator of ONNX Runtime's own.
"""
import json
import os
import warnings

import onnx
import open_clip.model
import torch
from onnx import TensorProto, helper, numpy_helper
from safetensors.torch import save_file
from transformers import CLIPConfig, CLIPModel

warnings.filterwarnings("ignore")
HERE = os.path.join(os.path.dirname(os.path.abspath(__file__)), "onnx")
W, LAYERS, HEADS, PATCH, IMAGE, VOCAB, CONTEXT = 16, 2, 2, 8, 32, 96, 77
TOKENS = torch.tensor([VOCAB - 2, 5, 17, 33, 64, 2, 9, VOCAB - 1])
MEAN, STD = [0.5, 0.4, 0.3], [0.25, 0.5, 0.125]
torch.manual_seed(11)
PIXELS = torch.randn(1, 3, IMAGE, IMAGE)
PADDED = torch.zeros(1, CONTEXT, dtype=torch.long)
PADDED[0, : len(TOKENS)] = TOKENS


def place(*names):
    path = os.path.join(HERE, *names)
    os.makedirs(os.path.dirname(path), exist_ok=True)
    return path


def scramble(model):
    """LayerNorms and biases start at one and zero: alike, which would hide a mix-up, and stored once."""
    with torch.no_grad():
        for name, p in model.named_parameters():
            if p.dim() == 1 and "class" not in name:
                p.add_(torch.randn_like(p) * 0.1)
    return model.eval()


def plain(path):
    """Without what the exporter notes of this machine's files: half of the size, and nothing that is computed."""
    model = onnx.load(path)
    graph = model.graph
    for part in [model, graph, *graph.node, *graph.initializer, *graph.value_info, *graph.input, *graph.output]:
        part.doc_string = ""
        del part.metadata_props[:]
    del graph.value_info[:]
    onnx.save(model, path)


def older(model, inputs, path, names, opset, axes=None):
    torch.onnx.export(model, inputs, path, input_names=names, dynamo=False, opset_version=opset, dynamic_axes=axes)
    plain(path)


def newer(model, inputs, path, names):
    torch.onnx.export(model, inputs, path, input_names=names, dynamo=True, external_data=False)
    plain(path)


def expected(folder, image_raw, text):
    save_file({"pixels": PIXELS[0], "image_raw": image_raw[0].float().contiguous(), "tokens": TOKENS.to(torch.int32),
               "text": text[0].float().contiguous()}, place(folder, "expected.safetensors"))


class Vision(torch.nn.Module):
    def __init__(self, clip):
        super().__init__()
        self.vision_model, self.visual_projection = clip.vision_model, clip.visual_projection

    def forward(self, pixel_values):
        return self.visual_projection(self.vision_model(pixel_values=pixel_values).pooler_output)


class Text(torch.nn.Module):
    def __init__(self, clip):
        super().__init__()
        self.text_model, self.text_projection = clip.text_model, clip.text_projection

    def forward(self, input_ids):
        return self.text_projection(self.text_model(input_ids=input_ids).pooler_output)


def hugging_face(activation, epsilons):
    tower = dict(hidden_size=W, intermediate_size=4 * W, num_hidden_layers=LAYERS, num_attention_heads=HEADS,
                 hidden_act=activation, projection_dim=W)
    text = dict(tower, vocab_size=VOCAB, max_position_embeddings=CONTEXT, bos_token_id=VOCAB - 2,
                eos_token_id=VOCAB - 1, layer_norm_eps=epsilons[1])
    vision = dict(tower, image_size=IMAGE, patch_size=PATCH, layer_norm_eps=epsilons[0])
    model = scramble(CLIPModel(CLIPConfig(text_config=text, vision_config=vision, projection_dim=W)))
    with torch.no_grad():
        hidden = model.vision_model(pixel_values=PIXELS).last_hidden_state
        image = model.visual_projection(hidden[:, 0])
        said = model.text_projection(model.text_model(input_ids=TOKENS[None]).pooler_output)
    return model, image, said


def configuration(model, folder):
    model.config.save_pretrained(os.path.dirname(place(folder, "config.json")))
    json.dump({"image_mean": MEAN, "image_std": STD, "resample": 3}, open(place(folder, "preprocessor_config.json"), "w"))


model, image, said = hugging_face("quick_gelu", (1e-5, 1e-5))
older(Vision(model), (PIXELS,), place("towers", "onnx", "vision_model.onnx"), ["pixel_values"], 17,
      {"pixel_values": {0: "batch"}})
older(Text(model), (TOKENS[None],), place("towers", "onnx", "text_model.onnx"), ["input_ids"], 17,
      {"input_ids": {0: "batch", 1: "length"}})
configuration(model, "towers")
expected("towers", image, said)

model, image, said = hugging_face("gelu", (1e-3, 1e-2))
newer(model, (PADDED, PIXELS), place("whole", "model.onnx"), ["input_ids", "pixel_values"])
configuration(model, "whole")
expected("whole", image, said)


def of_open_clip(quick, folder):
    cfg = dict(embed_dim=W, quick_gelu=quick,
               vision_cfg=dict(image_size=IMAGE, layers=LAYERS, width=W, head_width=W // HEADS, patch_size=PATCH),
               text_cfg=dict(context_length=CONTEXT, vocab_size=VOCAB, width=W, heads=HEADS, layers=LAYERS))
    model = scramble(open_clip.model.CLIP(**cfg))
    json.dump({"model_cfg": cfg, "preprocess_cfg": {"mean": MEAN, "std": STD}},
              open(place(folder, "open_clip_config.json"), "w"), indent=1)
    return model


def of_tower(model):
    with torch.no_grad():
        v = model.visual
        x = v.conv1(PIXELS).flatten(2).permute(0, 2, 1)
        x = torch.cat([v.class_embedding.expand(1, 1, W), x], 1) + v.positional_embedding
        return v.transformer(v.ln_pre(x))[:, 0] @ v.proj, model.encode_text(PADDED)


model = of_open_clip(True, "open_clip")
older(model, (PIXELS, PADDED), place("open_clip", "model.onnx"), ["image", "text"], 14)
expected("open_clip", *of_tower(model))


class Textual(torch.nn.Module):
    """A text tower as people cut it out: its parts below their own names."""

    def __init__(self, clip):
        super().__init__()
        self.clip = clip
        self.token_embedding, self.transformer, self.ln_final = clip.token_embedding, clip.transformer, clip.ln_final
        self.positional_embedding, self.text_projection = clip.positional_embedding, clip.text_projection
        self.register_buffer("mask", clip.attn_mask, persistent=False)
        del self.clip

    def forward(self, text):
        x = self.token_embedding(text) + self.positional_embedding
        x = self.ln_final(self.transformer(x, attn_mask=self.mask))
        return x[torch.arange(x.shape[0]), text.argmax(-1)] @ self.text_projection


model = of_open_clip(False, "open_clip_towers")
model = model.half().float()
answers = of_tower(model)
half = model.half()
newer(half.visual, (PIXELS.half(),), place("open_clip_towers", "visual.onnx"), ["image"])
newer(Textual(half), (PADDED,), place("open_clip_towers", "textual.onnx"), ["text"])
expected("open_clip_towers", *answers)

matrix = numpy_helper.from_array(torch.ones(4, 4, dtype=torch.int8).numpy(), "visual.proj_quantized")
nodes = [helper.make_node("MatMulInteger", ["x", "visual.proj_quantized"], ["y"])]
graph = helper.make_graph(nodes, "quantised", [helper.make_tensor_value_info("x", TensorProto.INT8, [1, 4])],
                          [helper.make_tensor_value_info("y", TensorProto.INT32, [1, 4])], [matrix])
onnx.save(helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)]), place("quantised.onnx"))
sides = [helper.make_tensor_value_info(n, TensorProto.FLOAT, [1, 4]) for n in ("x", "y")]
graph = helper.make_graph([helper.make_node("QuickGelu", ["x"], ["y"], domain="com.microsoft")], "optimised", sides[:1], sides[1:])
opsets = [helper.make_opsetid("", 17), helper.make_opsetid("com.microsoft", 1)]
onnx.save(helper.make_model(graph, opset_imports=opsets), place("optimised.onnx"))
