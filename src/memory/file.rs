//! A taught memory as a file, version 1.
//!
//! A safetensors file whose `__metadata__` has one key, `faprompt-taught`, with a JSON text of the same form as
//! a bundle's ([`crate::bundle::envelope`]): `{"format_version": 1, "digests": {PART: SHA-256, ...},
//! "manifest": {...}}`; the manifest is [`About`]. Tensors: `parts/bytes` [pictures, places, dim] int8 and
//! `parts/steps` [pictures, places] f32, of each part as it came and then as it was shown beside that;
//! `pieces/bytes` and `pieces/steps`, the same of test pieces, if there are any; `chosen/patches` `[n]` uint32 of an
//! `anywhere` memory; `components/mean` `[dim]` and `components/basis` [n, dim] f32 of a `pca` and of a `combined`
//! memory, and of the latter `usual/nearest` `[1]` and `usual/residual` `[places]` f32. Nothing is used before its digest
//! was compared.

use super::combined::Usuals;
use super::kind::{Kept, Kind};
use super::part::Rows;
use super::subspace::Components;
use super::taught::{About, Taught};
use crate::bundle::BundleError;
use crate::bundle::envelope::{self, Envelope, MANIFEST, VersionOnly};
use crate::durable;
use crate::exit::ExitCode;
use crate::ops::tract::TractError;
use safetensors::Dtype;
use safetensors::tensor::{Metadata, TensorView};
use serde_json::value::RawValue;
use std::collections::HashMap;
use std::path::{Path, PathBuf};

/// The one version that this program reads and writes.
pub const FORMAT_VERSION: u32 = 1;
/// The key in safetensors' metadata.
const METADATA_KEY: &str = "faprompt-taught";

/// Why a taught memory cannot be used.
#[derive(Debug, thiserror::Error)]
pub enum TaughtError {
    /// The file cannot be read or written.
    #[error("{path}: cannot be {done}: {source}", path = path.display())]
    File {
        /// Path of the file.
        path: PathBuf,
        /// What was tried: "read" or "written".
        done: &'static str,
        /// The system's reason.
        source: std::io::Error,
    },
    /// The file has a format version that this program does not know.
    #[error(
        "taught by another version of this program (format {0}, this one has {FORMAT_VERSION}): teach again"
    )]
    Version(u64),
    /// The file was cut or changed, or is of another kind.
    #[error("not a whole memory of good parts: {0}; copy the file again, or teach again")]
    Damaged(String),
    /// It was taught with another encoder, layout or arithmetic.
    #[error("{0}: its good parts look different to this one; teach again")]
    Another(String),
    /// A fault of this program, or a processor that lacks an instruction.
    #[error("the memory of good parts: {0:#}")]
    Failed(TractError),
}

impl TaughtError {
    /// The exit code of a program that stops at this error.
    pub fn exit_code(&self) -> ExitCode {
        match self {
            TaughtError::File {
                done: "written", ..
            } => ExitCode::OutputFailed,
            TaughtError::File { .. } | TaughtError::Version(_) | TaughtError::Damaged(_) => {
                ExitCode::TaughtUnreadable
            }
            TaughtError::Another(_) => ExitCode::TaughtElsewhere,
            TaughtError::Failed(_) => ExitCode::Internal,
        }
    }
}

fn damaged(what: impl std::fmt::Display) -> TaughtError {
    TaughtError::Damaged(what.to_string())
}

/// The fault of the container, without the advice that is about bundles.
fn container(e: BundleError) -> TaughtError {
    match e {
        BundleError::NotABundle(what) => TaughtError::Damaged(what),
        BundleError::Cut { missing, .. } => damaged(format!("it is {missing} bytes too short")),
        BundleError::Damaged { what, .. } => TaughtError::Damaged(what),
        other => damaged(other),
    }
}

fn words<const N: usize, T>(bytes: &[u8], word: impl Fn([u8; N]) -> T) -> Vec<T> {
    bytes.as_chunks::<N>().0.iter().map(|b| word(*b)).collect()
}

fn floats(bytes: &[u8]) -> Vec<f32> {
    words(bytes, f32::from_le_bytes)
}

impl Taught {
    /// The file's bytes.
    ///
    /// # Errors
    /// None in practice.
    pub fn bytes(&self) -> Result<Vec<u8>, TaughtError> {
        let layout = self.layout();
        let (places, dim) = (layout.places(), layout.dim);
        let raw = |v: &[f32]| v.iter().flat_map(|v| v.to_le_bytes()).collect::<Vec<u8>>();
        let parts = self.parts();
        let rows = |names: [&'static str; 2], parts: &[Rows]| {
            let bytes = parts.iter().flat_map(|p| p.bytes.iter().map(|b| *b as u8));
            let steps: Vec<f32> = parts.iter().flat_map(|p| p.steps.iter().copied()).collect();
            let shape = vec![parts.len(), places];
            [
                (
                    names[0],
                    Dtype::I8,
                    vec![parts.len(), places, dim],
                    bytes.collect::<Vec<u8>>(),
                ),
                (names[1], Dtype::F32, shape, raw(&steps)),
            ]
        };
        let mut stored = Vec::from(rows(["parts/bytes", "parts/steps"], parts));
        if !self.piece_rows().is_empty() {
            stored.extend(rows(["pieces/bytes", "pieces/steps"], self.piece_rows()));
        }
        let mut components = |c: Components| {
            stored.push(("components/mean", Dtype::F32, vec![dim], raw(&c.mean)));
            let shape = vec![c.basis.len() / dim, dim];
            stored.push(("components/basis", Dtype::F32, shape, raw(&c.basis)));
        };
        match self.kept() {
            Kept::Nothing => (),
            Kept::Chosen(chosen) => stored.push((
                "chosen/patches",
                Dtype::U32,
                vec![chosen.len()],
                chosen.iter().flat_map(|c| c.to_le_bytes()).collect(),
            )),
            Kept::Components(c) => components(c),
            Kept::Combined(c, usuals) => {
                components(c);
                let nearest = raw(&[usuals.nearest]);
                stored.push(("usual/nearest", Dtype::F32, vec![1], nearest));
                let residual = raw(&usuals.residual);
                stored.push(("usual/residual", Dtype::F32, vec![places], residual));
            }
        }
        let views = || {
            stored.iter().map(|(name, dtype, shape, bytes)| {
                let view = TensorView::new(*dtype, shape.clone(), bytes);
                (name.to_string(), view.expect("bytes fit their shape"))
            })
        };
        // Once without metadata for the digests, once with them; headers do not enter a digest.
        let bare = safetensors::serialize(views(), None).map_err(damaged)?;
        let (header, data) = envelope::split(&bare).map_err(container)?;
        let text = serde_json::to_string(self.about()).map_err(damaged)?;
        let mut digests = envelope::part_digests(&header, data);
        digests.insert(MANIFEST.into(), envelope::manifest_digest(&text));
        let raw = RawValue::from_string(text).map_err(damaged)?;
        let envelope = serde_json::to_string(&Envelope {
            format_version: FORMAT_VERSION,
            digests,
            manifest: &raw,
        });
        let metadata = HashMap::from([(METADATA_KEY.to_string(), envelope.map_err(damaged)?)]);
        safetensors::serialize(views(), Some(metadata)).map_err(damaged)
    }

    /// Reads the bytes of a file; all of them are checked.
    ///
    /// # Errors
    /// [`TaughtError`]: whatever is not a whole memory of this version.
    pub fn from_bytes(bytes: &[u8]) -> Result<Taught, TaughtError> {
        let (header, data) = envelope::split(bytes).map_err(container)?;
        let text = header
            .metadata()
            .as_ref()
            .and_then(|m| m.get(METADATA_KEY))
            .ok_or_else(|| damaged("something else than what teaching wrote"))?;
        let version = serde_json::from_str::<VersionOnly>(text).map_err(damaged)?;
        if version.format_version != FORMAT_VERSION {
            return Err(TaughtError::Version(version.format_version.into()));
        }
        let envelope: Envelope = serde_json::from_str(text).map_err(damaged)?;
        let mut digests = envelope::part_digests(&header, data);
        let manifest = envelope.manifest.get();
        digests.insert(MANIFEST.into(), envelope::manifest_digest(manifest));
        if digests != envelope.digests {
            return Err(damaged("its contents are not what was written"));
        }
        let about: About = serde_json::from_str(manifest).map_err(damaged)?;
        about.check().map_err(TaughtError::Damaged)?;
        let (places, dim) = (about.layout.places(), about.layout.dim);
        let stored = Stored { header, data };
        let parts = stored.rows(["parts/bytes", "parts/steps"], (places, dim))?;
        let fits = match &about.views[..] {
            [] => parts.len() <= about.told.len(),
            views => {
                views.iter().try_fold(0usize, |sum, n| sum.checked_add(*n)) == Some(parts.len())
            }
        };
        if parts.is_empty() || !fits {
            return Err(damaged("it has another number of parts than it says"));
        }
        let pieces = match about.pieces.is_empty() {
            true => vec![],
            false => stored.rows(["pieces/bytes", "pieces/steps"], (places, dim))?,
        };
        if pieces.len() != about.pieces.len() {
            return Err(damaged("it has another number of test pieces than it says"));
        }
        let kept = match about.kind {
            Kind::Position | Kind::Gaussian => Kept::Nothing,
            Kind::Anywhere => {
                let (_, bytes) = stored.tensor("chosen/patches", Dtype::U32)?;
                Kept::Chosen(words(bytes, u32::from_le_bytes))
            }
            Kind::Pca => Kept::Components(stored.components()?),
            Kind::Combined => {
                let nearest = stored.finite("usual/nearest")?;
                let nearest = nearest.first().copied().unwrap_or_default();
                let residual = stored.finite("usual/residual")?;
                Kept::Combined(stored.components()?, Usuals { nearest, residual })
            }
        };
        let named = about.pieces.clone();
        let mut taught =
            Taught::restore(about, parts, kept).map_err(|e| damaged(format!("{e:#}")))?;
        taught.set_pieces(named.into_iter().zip(pieces).collect());
        Ok(taught)
    }

    /// Reads a file.
    ///
    /// # Errors
    /// As [`Taught::from_bytes`], and the file system's.
    pub fn open(path: &Path) -> Result<Taught, TaughtError> {
        let failed = |source| TaughtError::File {
            path: path.to_path_buf(),
            done: "read",
            source,
        };
        Taught::from_bytes(&durable::read(path).map_err(failed)?)
    }

    /// Replaces the file at `path`: after a power cut it is the old or the new one, whole.
    ///
    /// # Errors
    /// The file cannot be written.
    pub fn save(&self, path: &Path) -> Result<(), TaughtError> {
        durable::save(&self.bytes()?, path).map_err(|source| TaughtError::File {
            path: path.to_path_buf(),
            done: "written",
            source,
        })
    }
}

struct Stored<'a> {
    header: Metadata,
    data: &'a [u8],
}

impl Stored<'_> {
    /// Stores parts [places, dim] under the names of their bytes and of their steps.
    fn rows(
        &self,
        [bytes, steps]: [&str; 2],
        (places, dim): (usize, usize),
    ) -> Result<Vec<Rows>, TaughtError> {
        let (shape, values) = self.tensor(bytes, Dtype::I8)?;
        let (steps_shape, steps) = self.tensor(steps, Dtype::F32)?;
        let [n, p, d] = shape[..] else {
            return Err(damaged(format!("`{bytes}` has another shape")));
        };
        if (p, d) != (places, dim) || steps_shape != [n, places] {
            return Err(damaged("its parts are of another size than it says"));
        }
        let steps = floats(steps);
        if !steps.iter().all(|s| s.is_finite() && *s > 0.0) {
            return Err(damaged(
                "a step of its parts is not a finite number above 0",
            ));
        }
        let parts = values
            .chunks_exact(places * dim)
            .zip(steps.chunks_exact(places));
        let rows = |(values, steps): (&[u8], &[f32])| {
            let values = values.iter().map(|b| *b as i8).collect();
            Rows::stored(values, steps.to_vec(), dim)
        };
        Ok(parts.map(rows).collect())
    }

    fn components(&self) -> Result<Components, TaughtError> {
        Ok(Components {
            mean: self.finite("components/mean")?,
            basis: self.finite("components/basis")?,
        })
    }

    /// Numbers, none of which is NaN or infinite.
    fn finite(&self, name: &str) -> Result<Vec<f32>, TaughtError> {
        let values = floats(self.tensor(name, Dtype::F32)?.1);
        match values.iter().all(|v| v.is_finite()) {
            true => Ok(values),
            false => Err(damaged(format!("`{name}` holds NaN or infinity"))),
        }
    }

    fn tensor(&self, name: &str, dtype: Dtype) -> Result<(&[usize], &[u8]), TaughtError> {
        let info = self
            .header
            .info(name)
            .filter(|info| info.dtype == dtype)
            .ok_or_else(|| damaged(format!("`{name}` is missing, or of another type")))?;
        // The offsets were checked against the file when it was split.
        let (from, to) = info.data_offsets;
        Ok((&info.shape, &self.data[from..to]))
    }
}
