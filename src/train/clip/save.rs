//! A CLIP as a file with OpenAI's names, which every reader of CLIP knows.

use super::{Block, Clip, Norm, Text, Visual};
use crate::train::TrainError;
use crate::train::tensors::store::Store;
use crate::train::tensors::{UNTRAINED, VV_LAYERS};
use std::path::Path;

impl Clip {
    /// Writes the weights with OpenAI's names, which every reader of CLIP knows.
    ///
    /// # Errors
    /// [`TrainError::Output`]: the file cannot be written.
    pub fn save(&self, path: &Path) -> Result<(), TrainError> {
        self.save_with(path, Store::default())
    }

    /// The same beside what `store` already holds.
    ///
    /// # Errors
    /// [`TrainError::Output`]: the file cannot be written.
    pub fn save_with(&self, path: &Path, mut store: Store) -> Result<(), TrainError> {
        store_visual(&mut store, &self.visual);
        if let Some(embedding) = &self.text.embedding {
            store.array("token_embedding.weight", embedding);
        }
        store_text(&mut store, &self.text);
        if let Some(scale) = self.logit_scale {
            store.array("logit_scale", &ndarray::arr1(&[scale]));
        }
        super::config::note(&self.network(), &mut store);
        if self.untrained {
            store.note(UNTRAINED, "true");
        }
        if let Some(layers) = self.vv_layers {
            store.note(VV_LAYERS, layers.to_string());
        }
        store.sources(&self.sources);
        store.save(path)
    }
}

/// The image encoder, under OpenAI's names.
pub fn store_visual(store: &mut Store, v: &Visual) {
    let kernel = v
        .conv1
        .clone()
        .into_shape_with_order((v.width, 3, v.patch, v.patch))
        .expect("the same number of elements");
    store.array("visual.conv1.weight", &kernel);
    store.array("visual.class_embedding", &v.class);
    store.array("visual.positional_embedding", &v.positions);
    store_norm(store, "visual.ln_pre", &v.ln_pre);
    store_blocks(store, "visual.", &v.blocks);
    store_norm(store, "visual.ln_post", &v.ln_post);
    store.array("visual.proj", &v.proj.t().to_owned());
}

/// The text encoder without its token table, under OpenAI's names.
pub fn store_text(store: &mut Store, t: &Text) {
    store.array("positional_embedding", &t.positions);
    store_blocks(store, "", &t.blocks);
    store_norm(store, "ln_final", &t.ln_final);
    store.array("text_projection", &t.projection.t().to_owned());
}

/// A normalisation, under OpenAI's names.
pub fn store_norm(store: &mut Store, name: &str, norm: &Norm) {
    store.array(format!("{name}.weight"), &norm.weight);
    store.array(format!("{name}.bias"), &norm.bias);
}

fn store_blocks(store: &mut Store, prefix: &str, blocks: &[Block]) {
    for (i, b) in blocks.iter().enumerate() {
        let at = |n: &str| format!("{prefix}transformer.resblocks.{i}.{n}");
        store_norm(store, &at("ln_1"), &b.ln_1);
        store.array(at("attn.in_proj_weight"), &b.qkv.weight);
        store.array(at("attn.in_proj_bias"), &b.qkv.bias);
        store_norm(store, &at("ln_2"), &b.ln_2);
        for (name, dense) in [
            ("attn.out_proj", &b.out),
            ("mlp.c_fc", &b.fc),
            ("mlp.c_proj", &b.proj),
        ] {
            store.array(at(&format!("{name}.weight")), &dense.weight);
            store.array(at(&format!("{name}.bias")), &dense.bias);
        }
    }
}
