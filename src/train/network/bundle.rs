//! A network into a bundle: as its image encoder, or beside a CLIP as the memory's.

use super::Network;
use super::refuse::advice;
use crate::bundle::manifest::{
    ActivationKind, Manifest, Precision, PriorSpec, PromptSpec, ScoreRule, ScoreSpec, Selection,
    TowerSpec,
};
use crate::bundle::method::{Method, MethodSpec};
use crate::bundle::network::{GRAPH, NetworkSpec, PART};
use crate::bundle::{Bundle, BundleWriter};
use crate::capture::known_frame;
use crate::ops::slice;
use crate::ops::weights::Arithmetic;
use crate::train::TrainError;
use crate::train::export::{ExportOptions, Exported, SIGMA_PER_PIXEL, Writer};
use crate::vision::{NetworkEncoder, Preprocessor};
use std::collections::BTreeMap;
use std::path::Path;
use tract_nnef::ast::dump::Dumper;
use tract_onnx::prelude::*;

/// By how much what the bundle computes may differ from what the file does, of the largest number of a tap, in f32.
const TOLERANCE: f32 = 1e-3;

impl Network {
    /// Its architecture in words.
    pub fn name(&self) -> String {
        let file = self.path.file_stem().unwrap_or_default().to_string_lossy();
        format!("{file}, {} px", self.image.size)
    }

    fn spec(&self) -> NetworkSpec {
        NetworkSpec {
            image: self.image.clone(),
            taps: self.taps.clone(),
            products: self.products,
        }
    }

    /// Makes a bundle that judges by good parts alone at `out`; how far int8 or f16 are from the file's own numbers
    /// is the second value: the largest difference on the known frame, of the largest number of a tap.
    ///
    /// # Errors
    /// [`TrainError::Options`] for what a bundle cannot hold, [`TrainError::Output`].
    pub fn export(
        &self,
        options: &ExportOptions,
        out: &Path,
    ) -> Result<(Exported, f32), TrainError> {
        let manifest = Manifest {
            name: options.name.clone().unwrap_or(self.name()),
            created_by: concat!("faprompt-train ", env!("CARGO_PKG_VERSION")).into(),
            trained: options.trained,
            description: options.description.clone(),
            image: self.image.clone(),
            activation: ActivationKind::Gelu,
            vision: TowerSpec {
                width: self.taps.last().map_or(0, |t| t.channels),
                layers: self.taps.len(),
                heads: 1,
                ..TowerSpec::none()
            },
            vv_layers: 0,
            memory: vec![],
            text: TowerSpec::none(),
            registers: 0,
            network: Some(self.spec()),
            prompts: PromptSpec::none(),
            prior: PriorSpec {
                selected_patches: 0,
                hidden: 0,
                selection: Selection::Paper,
            },
            scores: ScoreSpec {
                temperature: 0.07,
                rule: ScoreRule::Code,
                smoothing_sigma: SIGMA_PER_PIXEL * self.image.size as f32,
                threshold: options.threshold,
            },
            precision: options.precision,
            linear_error: vec![],
            known_score: None,
            method: Some(MethodSpec::of(Method::Memory, self.taps.len())),
            assumed: self.assumed.clone(),
            sources: BTreeMap::from([("encoder".into(), self.digest.clone())]),
        };
        check(&manifest)?;
        let mut writer = BundleWriter::new(options.precision);
        self.write(&mut writer)?;
        let (manifest, bytes) = Writer::new(writer).checked(manifest)?;
        self.finish(manifest, bytes, options.precision, out)
    }

    /// Adds it to a bundle with text, as the encoder of its memory of good parts, in place of one that is there.
    ///
    /// # Errors
    /// As [`Network::export`], and a bundle without text.
    pub fn export_beside(
        &self,
        bundle: &Bundle,
        options: &ExportOptions,
        out: &Path,
    ) -> Result<(Exported, f32), TrainError> {
        let mut manifest = bundle.manifest().clone();
        if manifest.text.is_none() {
            let what =
                "--beside: a bundle without text judges by its own encoder; leave --beside out";
            return Err(TrainError::Options(what.into()));
        }
        manifest.network = Some(self.spec());
        manifest.memory.clear();
        manifest.assumed.extend(self.assumed.iter().cloned());
        manifest
            .sources
            .insert("memory encoder".into(), self.digest.clone());
        if let Some(name) = &options.name {
            manifest.name.clone_from(name);
        }
        check(&manifest)?;
        let mut writer = BundleWriter::new(options.precision);
        writer.copy(bundle, PART);
        self.write(&mut writer)?;
        let bytes = Writer::new(writer).bytes(&manifest)?;
        self.finish(manifest, bytes, options.precision, out)
    }

    /// Writes part `network`.
    fn write(&self, writer: &mut BundleWriter) -> Result<(), TrainError> {
        let failed = |e: TractError| TrainError::Options(format!("a bundle cannot hold it: {e:#}"));
        let nnef = tract_nnef::nnef();
        let proto = tract_nnef::ser::to_proto_model(&nnef, &self.model);
        let proto = proto.map_err(|e| self.not_held(&e))?;
        if proto.quantization.is_some() || !proto.resources.is_empty() {
            let what =
                "its tensors are quantised: give the f32 file, --precision int8 rounds its weights";
            return Err(TrainError::Options(what.into()));
        }
        let mut text = vec![];
        Dumper::new(&nnef, &mut text)
            .document(&proto.doc)
            .map_err(failed)?;
        let text = String::from_utf8(text).map_err(|e| failed(TractError::msg(e)))?;
        writer.text(GRAPH, &text);
        for (label, tensor) in &proto.tensors {
            let name = format!("{PART}/{}", label.0);
            let values = tensor.try_as_plain_ram().map_err(failed)?;
            if tensor.datum_type() == i64::datum_type() {
                let values = values.as_slice::<i64>().map_err(failed)?;
                writer.integers(&name, tensor.shape(), values);
                continue;
            }
            if tensor.datum_type() != f32::datum_type() {
                let what = format!(
                    "a bundle cannot hold it: constant {} is {:?}; export it in f32",
                    label.0,
                    tensor.datum_type()
                );
                return Err(TrainError::Options(what));
            }
            writer.array(&name, tensor.shape(), values.as_slice().map_err(failed)?);
        }
        Ok(())
    }

    /// Why a bundle cannot hold the graph: the operator, by the name that its node has in the file.
    fn not_held(&self, e: &TractError) -> TrainError {
        let said = format!("{e:#}");
        // The message has names as they are here, but numbers of its own.
        let named = |n: &&TypedNode| said.contains(&format!("\"{}\" {}", n.name, n.op.name()));
        let node = self.model.nodes().iter().find(named);
        let what = match node {
            None => format!("a bundle cannot hold it: {said}"),
            Some(node) => {
                let number = node.name.strip_prefix('n').and_then(|n| n.parse().ok());
                let name = number.and_then(|n: usize| self.nodes.get(n));
                let advice = match advice(&self.path).as_str() {
                    "" => "; export it with others in its place".into(),
                    advice => advice.to_string(),
                };
                format!(
                    "a bundle cannot hold its operator {} ({}){advice}",
                    node.op.name(),
                    name.unwrap_or(&node.name)
                )
            }
        };
        TrainError::Weights {
            path: self.path.clone(),
            what,
        }
    }

    /// Compares what the device's own code makes of the known frame with what the file does; writes the bundle.
    fn finish(
        &self,
        manifest: Manifest,
        bytes: Vec<u8>,
        precision: Precision,
        out: &Path,
    ) -> Result<(Exported, f32), TrainError> {
        let bundle = Bundle::from_bytes(bytes).map_err(TrainError::SelfCheck)?;
        // As a camera node multiplies int8 weights, whatever this machine has instructions for.
        let encoder = NetworkEncoder::load(&bundle, Arithmetic::Int8);
        let mut encoder = encoder.map_err(TrainError::SelfCheck)?;
        let failed =
            |e: TractError| TrainError::Options(format!("it fails on the known frame: {e:#}"));
        let frame = Preprocessor::new(&self.image).run(&known_frame());
        let frame = frame.map_err(|e| failed(TractError::msg(e)))?;
        let own = || {
            self.model
                .clone()
                .into_optimized()?
                .into_runnable()?
                .run(tvec!(frame.clone()))
        };
        let want = own().map_err(failed)?;
        let got = encoder.taps(frame.clone()).map_err(failed)?;
        let mut off = 0f32;
        for (got, want) in got.iter().zip(&want) {
            let (got, want) = (slice(got).map_err(failed)?, slice(want).map_err(failed)?);
            let largest = want.iter().fold(f32::MIN_POSITIVE, |m, v| m.max(v.abs()));
            let apart = got.iter().zip(want).map(|(a, b)| (a - b).abs());
            // `max` would lose a NaN.
            let apart = apart.fold(0f32, |m, d| if d.is_nan() { d } else { m.max(d) });
            off = if apart.is_nan() {
                apart
            } else {
                off.max(apart / largest)
            };
        }
        if off.is_nan() || precision == Precision::F32 && off > TOLERANCE {
            let what = format!("the bundle computes something else than the file: off by {off}");
            return Err(TrainError::Options(what));
        }
        crate::bundle::save(bundle.bytes(), out).map_err(|source| TrainError::Output {
            path: out.to_path_buf(),
            source,
        })?;
        let bytes = bundle.len();
        Ok((Exported { manifest, bytes }, off))
    }
}

fn check(manifest: &Manifest) -> Result<(), TrainError> {
    manifest
        .check()
        .map_err(|e| TrainError::Options(e.to_string()))
}
