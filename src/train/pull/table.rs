//! The table of published models: names as their publishers have them, origin, licence, size.

use super::PullError;
use std::path::{Path, PathBuf};

/// What a model is for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum What {
    /// CLIP weights: `--clip`.
    Clip,
    /// A vision transformer without text.
    Encoder,
    /// A prompt learner: `--prompts`.
    Prompts,
}

impl What {
    /// For people.
    pub fn name(self) -> &'static str {
        match self {
            What::Clip => "CLIP",
            What::Encoder => "image encoder",
            What::Prompts => "prompts",
        }
    }
}

/// Where a model is published.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Origin {
    /// A repository of the Hugging Face hub, at its main branch.
    Hub(&'static str),
    /// Files below an address.
    At(&'static str),
    /// Nowhere that a program can fetch it from, and why.
    Nowhere(&'static str),
}

/// A published model.
#[derive(Clone, Copy, Debug)]
pub struct Model {
    /// Name of the model, as `pull` takes it.
    pub name: &'static str,
    /// What it is for.
    pub what: What,
    /// Where it is.
    pub origin: Origin,
    /// Its files; of each list the first that is there.
    pub files: &'static [&'static [&'static str]],
    /// SHA-256 of its one file, where the publisher states it once and for all.
    pub sha256: Option<&'static str>,
    /// Its licence, by SPDX's names where it has one.
    pub licence: &'static str,
    /// About how many megabytes (10^6 bytes) come.
    pub megabytes: u32,
}

impl Model {
    /// The address of a file of it.
    pub fn url(&self, file: &str, hub: &str) -> String {
        match self.origin {
            Origin::Hub(repository) => {
                format!(
                    "{}/{repository}/resolve/main/{file}",
                    hub.trim_end_matches('/')
                )
            }
            Origin::At(address) => format!("{address}/{file}"),
            Origin::Nowhere(_) => String::new(),
        }
    }

    /// Whether a program can fetch it.
    ///
    /// # Errors
    /// [`PullError::NoAddress`]: it is published, but not at an address.
    pub fn can_be_fetched(&self) -> Result<(), PullError> {
        match self.origin {
            Origin::Nowhere(why) => Err(PullError::NoAddress {
                name: self.name.into(),
                why,
            }),
            Origin::Hub(_) | Origin::At(_) => Ok(()),
        }
    }

    /// Where it lies in the folder of models: its one file, or the folder of several.
    pub fn place(&self, folder: &Path) -> PathBuf {
        let own = folder.join(self.name);
        match self.files {
            [[file]] => own.join(file),
            _ => own,
        }
    }

    /// Its origin, for people.
    pub fn from(&self) -> &'static str {
        match self.origin {
            Origin::Hub(repository) => repository,
            Origin::At(address) => {
                let host = address.split("//").nth(1).unwrap_or(address);
                host.split('/').next().unwrap_or(host)
            }
            Origin::Nowhere(_) => "-",
        }
    }
}

/// Hugging Face's files of a `CLIPModel` or a DINOv2.
const HUGGING_FACE: &[&[&str]] = &[
    &["config.json"],
    &["preprocessor_config.json"],
    &["model.safetensors", "pytorch_model.bin"],
];
/// Names of the files of open_clip's weights.
const OPEN_CLIP: &[&[&str]] = &[
    &["open_clip_config.json"],
    &["open_clip_model.safetensors", "open_clip_pytorch_model.bin"],
];

const fn clip(
    name: &'static str,
    repository: &'static str,
    licence: &'static str,
    megabytes: u32,
) -> Model {
    Model {
        name,
        what: What::Clip,
        origin: Origin::Hub(repository),
        files: OPEN_CLIP,
        sha256: None,
        licence,
        megabytes,
    }
}

const fn openai(
    name: &'static str,
    address: &'static str,
    file: &'static [&'static [&'static str]],
    sha256: &'static str,
    megabytes: u32,
) -> Model {
    Model {
        name,
        what: What::Clip,
        origin: Origin::At(address),
        files: file,
        sha256: Some(sha256),
        licence: "MIT",
        megabytes,
    }
}

const fn dino(name: &'static str, repository: &'static str, megabytes: u32) -> Model {
    Model {
        name,
        what: What::Encoder,
        origin: Origin::Hub(repository),
        files: HUGGING_FACE,
        sha256: None,
        licence: "Apache-2.0",
        megabytes,
    }
}

const fn anomalyclip(name: &'static str, address: &'static str) -> Model {
    Model {
        name,
        what: What::Prompts,
        origin: Origin::At(address),
        files: &[&["epoch_15.pth"]],
        sha256: None,
        licence: "MIT",
        megabytes: 22,
    }
}

const TABLE: &[Model] = &[
    openai(
        "ViT-B-32",
        "https://openaipublic.azureedge.net/clip/models/40d365715913c9da98579312b702a82c18be219cc2a73407c4526f58eba950af",
        &[&["ViT-B-32.pt"]],
        "40d365715913c9da98579312b702a82c18be219cc2a73407c4526f58eba950af",
        354,
    ),
    openai(
        "ViT-B-16",
        "https://openaipublic.azureedge.net/clip/models/5806e77cd80f8b59890b7e101eabd078d9fb84e6937f9e85e4ecb61988df416f",
        &[&["ViT-B-16.pt"]],
        "5806e77cd80f8b59890b7e101eabd078d9fb84e6937f9e85e4ecb61988df416f",
        351,
    ),
    openai(
        "ViT-L-14",
        "https://openaipublic.azureedge.net/clip/models/b8cca3fd41ae0c99ba7e8951adf17d267cdb84cd88be6f7c2e0eca1737a03836",
        &[&["ViT-L-14.pt"]],
        "b8cca3fd41ae0c99ba7e8951adf17d267cdb84cd88be6f7c2e0eca1737a03836",
        933,
    ),
    openai(
        "ViT-L-14-336",
        "https://openaipublic.azureedge.net/clip/models/3035c92b350959924f9f00213499208652fc7ea050643e8b385c2dac08641f02",
        &[&["ViT-L-14-336px.pt"]],
        "3035c92b350959924f9f00213499208652fc7ea050643e8b385c2dac08641f02",
        934,
    ),
    clip(
        "ViT-B-32-laion2B",
        "laion/CLIP-ViT-B-32-laion2B-s34B-b79K",
        "MIT",
        605,
    ),
    clip(
        "ViT-B-16-laion2B",
        "laion/CLIP-ViT-B-16-laion2B-s34B-b88K",
        "MIT",
        599,
    ),
    clip(
        "ViT-L-14-laion2B",
        "laion/CLIP-ViT-L-14-laion2B-s32B-b82K",
        "MIT",
        1711,
    ),
    clip(
        "ViT-H-14-laion2B",
        "laion/CLIP-ViT-H-14-laion2B-s32B-b79K",
        "MIT",
        3944,
    ),
    clip(
        "ViT-B-32-DataComp",
        "laion/CLIP-ViT-B-32-DataComp.XL-s13B-b90K",
        "MIT",
        605,
    ),
    clip(
        "ViT-B-16-DataComp",
        "laion/CLIP-ViT-B-16-DataComp.XL-s13B-b90K",
        "MIT",
        599,
    ),
    clip(
        "ViT-L-14-DataComp",
        "laion/CLIP-ViT-L-14-DataComp.XL-s13B-b90K",
        "MIT",
        1711,
    ),
    clip(
        "ViT-B-32-metaclip",
        "timm/vit_base_patch32_clip_224.metaclip_2pt5b",
        "CC-BY-NC-4.0",
        605,
    ),
    clip(
        "ViT-B-16-metaclip",
        "timm/vit_base_patch16_clip_224.metaclip_2pt5b",
        "CC-BY-NC-4.0",
        599,
    ),
    clip(
        "ViT-L-14-metaclip",
        "timm/vit_large_patch14_clip_224.metaclip_2pt5b",
        "CC-BY-NC-4.0",
        1711,
    ),
    clip(
        "ViT-H-14-metaclip",
        "timm/vit_huge_patch14_clip_224.metaclip_2pt5b",
        "CC-BY-NC-4.0",
        3944,
    ),
    dino("dinov2-small", "facebook/dinov2-small", 88),
    dino("dinov2-base", "facebook/dinov2-base", 346),
    dino("dinov2-large", "facebook/dinov2-large", 1217),
    dino(
        "dinov2-small-registers",
        "facebook/dinov2-with-registers-small",
        88,
    ),
    dino(
        "dinov2-base-registers",
        "facebook/dinov2-with-registers-base",
        346,
    ),
    dino(
        "dinov2-large-registers",
        "facebook/dinov2-with-registers-large",
        1217,
    ),
    // Pinned to a commit, so that the files behind the names cannot change.
    anomalyclip(
        "anomalyclip-mvtec",
        "https://raw.githubusercontent.com/zqhang/AnomalyCLIP/45ed4dd35c05797d854294b5e8d585c545920089/checkpoints/9_12_4_multiscale",
    ),
    anomalyclip(
        "anomalyclip-visa",
        "https://raw.githubusercontent.com/zqhang/AnomalyCLIP/45ed4dd35c05797d854294b5e8d585c545920089/checkpoints/9_12_4_multiscale_visa",
    ),
    Model {
        name: "faprompt",
        what: What::Prompts,
        origin: Origin::Nowhere(
            "its authors' README has a link without an address for the checkpoints; learn prompts with `fit`, or name a checkpoint that you have with --prompts",
        ),
        files: &[],
        sha256: None,
        licence: "MIT",
        megabytes: 0,
    },
];

/// All of them.
pub fn table() -> &'static [Model] {
    TABLE
}

/// The model of this name, in any case.
///
/// # Errors
/// [`PullError::Unknown`]: nothing has this name; the error lists all names.
pub fn find(name: &str) -> Result<&'static Model, PullError> {
    let found = TABLE.iter().find(|m| m.name.eq_ignore_ascii_case(name));
    found.ok_or_else(|| PullError::Unknown {
        name: name.into(),
        known: TABLE.iter().map(|m| m.name).collect::<Vec<_>>().join(", "),
    })
}
