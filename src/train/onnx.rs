//! The whole frame as one ONNX graph of standard operators (opset 17), for TensorRT and ONNX Runtime.
//!
//! The graph is the one that GPUs run ([`crate::gpu::graph`]), operator by operator; image score and anomaly map
//! are added to it. The model's metadata say how a frame is resized and normalised before it.

mod emit;
mod proto;

use super::TrainError;
use crate::bundle::Bundle;
use crate::bundle::manifest::{Interpolation, Manifest, Precision, ScoreRule};
use crate::bundle::method::Method;
use crate::faprompt::AdaptationMode;
use crate::gpu::graph;
use emit::Emitter;
use half::f16;
use prost::Message;
use proto::{ModelProto, OperatorSetIdProto, StringStringEntryProto};
use std::path::Path;
use tract_core::internal::*;

/// IR version of ONNX 1.14.
const IR_VERSION: i64 = 8;
/// Its operators; TensorRT 8.6 and ONNX Runtime 1.14 have them.
const OPSET: i64 = 17;
/// What a protobuf message may hold.
const LARGEST: usize = (2 << 30) - 1;

/// Writes the frame of a bundle to `out`. Input `image` [1, 3, S, S]; outputs of a FAPrompt bundle: `score` [1, 1],
/// `map` [1, 1, S, S], `patch_scores` and `patch_scores_adapted` [N, 1], `image_probability` [1, 1], `abnormal`
/// and `prior` [1, C]; of every bundle what the memory of good parts compares, a tensor [rows, width] each. A bundle
/// in f16 becomes a graph whose matrix products are f16, any other one in f32; all outputs are f32.
///
/// # Errors
/// [`TrainError::Options`] for a bundle of a method that this graph does not have, and for one beyond 2 GiB;
/// [`TrainError::Output`].
pub fn write(bundle: &Bundle, adaptation: AdaptationMode, out: &Path) -> Result<(), TrainError> {
    let failed = |e: TractError| TrainError::Options(format!("no ONNX graph of it: {e:#}"));
    let bytes = model(bundle, adaptation).map_err(failed)?.encode_to_vec();
    if bytes.len() > LARGEST {
        let what = "more than 2 GiB, which an ONNX file cannot hold: use --precision f16";
        return Err(TrainError::Options(what.into()));
    }
    crate::bundle::save(&bytes, out).map_err(|source| TrainError::Output {
        path: out.to_path_buf(),
        source,
    })
}

fn model(bundle: &Bundle, adaptation: AdaptationMode) -> TractResult<ModelProto> {
    let manifest = bundle.manifest();
    let numbers = match manifest.precision {
        Precision::F16 => f16::datum_type(),
        _ => f32::datum_type(),
    };
    if manifest.is_network() {
        bail!("its encoder came as an ONNX file: take that");
    }
    let taps = match manifest.memory_network() {
        // The memory's own encoder came as an ONNX file.
        Some(_) => vec![],
        None => manifest.memory_taps(),
    };
    let (model, mut names) = match &manifest.method {
        None => (
            graph::frame(bundle, adaptation, &taps, numbers)?,
            vec![
                "patch_scores",
                "patch_scores_adapted",
                "image_probability",
                "abnormal",
            ],
        ),
        Some(method) if method.name == Method::Memory => {
            (graph::encoder(bundle, &taps, numbers)?, vec![])
        }
        Some(method) => bail!(
            "only FAPrompt's frame and encoders that judge by good parts are written, no {}",
            method.name
        ),
    };
    if manifest.method.is_none() && adaptation != AdaptationMode::Off {
        names.push("prior");
    }
    let mut names: Vec<String> = names.into_iter().map(String::from).collect();
    names.extend(taps.iter().map(|tap| tap.to_string().replace(' ', ".")));
    let mut emitter = Emitter::new(&model, manifest.image.size)?;
    emitter.nodes()?;
    let found: Vec<String> = names
        .iter()
        .zip(&model.outputs)
        .map(|(name, outlet)| emitter.output(name, *outlet))
        .collect::<TractResult<_>>()?;
    if manifest.method.is_none() {
        conclude(&mut emitter, manifest, &found)?;
    }
    Ok(ModelProto {
        ir_version: IR_VERSION,
        producer_name: "faprompt-train".into(),
        producer_version: env!("CARGO_PKG_VERSION").into(),
        graph: Some(emitter.finish(&manifest.name)),
        opset_import: vec![OperatorSetIdProto {
            domain: String::new(),
            version: OPSET,
        }],
        metadata_props: about(manifest),
    })
}

/// Image score and anomaly map of both patch score maps.
fn conclude(e: &mut Emitter, manifest: &Manifest, found: &[String]) -> TractResult<()> {
    let (grid, size) = (manifest.image.grid(), manifest.image.size);
    // 0.5 q + 0.5 m, m of both maxima.
    let [first, second] = match manifest.scores.rule {
        ScoreRule::Code => [2.0 / 6.0, 1.0 / 6.0],
        ScoreRule::Paper => [0.25, 0.25],
    };
    let mut terms = vec![];
    for (i, factor) in [(0, first), (1, second)] {
        let largest = e.node(
            "ReduceMax",
            &format!("largest.{i}"),
            &[&found[i]],
            &[("axes", vec![0]), ("keepdims", vec![1])],
        );
        let factor = e.number(&format!("largest.{i}.factor"), factor)?;
        terms.push(e.node(
            "Mul",
            &format!("largest.{i}.share"),
            &[&largest, &factor],
            &[],
        ));
    }
    let half = e.number("half", 0.5)?;
    let q = e.node("Mul", "image_probability.share", &[&found[2], &half], &[]);
    let m = e.node("Add", "largest.sum", &[&terms[0], &terms[1]], &[]);
    e.node("Add", "score", &[&q, &m], &[]);
    e.declare("score", &[1, 1]);
    let both = e.node("Add", "both_maps", &[&found[0], &found[1]], &[]);
    let mean = e.node("Mul", "mean_map", &[&both, &half], &[]);
    let square = e.reshape("grid", &mean, &[1, 1, grid, grid])?;
    e.resize("map", &square, &[1, 1, size, size])?;
    e.declare("map", &[1, 1, size, size]);
    Ok(())
}

/// What a program needs to know that feeds the graph.
fn about(manifest: &Manifest) -> Vec<StringStringEntryProto> {
    let three = |v: [f32; 3]| format!("{},{},{}", v[0], v[1], v[2]);
    let image = &manifest.image;
    let rows = [
        ("name", manifest.name.clone()),
        ("description", manifest.description.clone()),
        ("method", manifest.method_name().to_string()),
        ("trained", manifest.trained.to_string()),
        ("size", image.size.to_string()),
        ("mean", three(image.mean)),
        ("std", three(image.std)),
        (
            "interpolation",
            match image.interpolation {
                Interpolation::Bicubic => "bicubic, antialiased (Pillow's)".into(),
                Interpolation::Bilinear => "bilinear, antialiased (Pillow's)".into(),
            },
        ),
        ("threshold", manifest.scores.threshold.to_string()),
    ];
    let row = |(key, value): (&str, String)| StringStringEntryProto {
        key: format!("faprompt.{key}"),
        value,
    };
    rows.into_iter().map(row).collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::bundle::Keys;
    use std::collections::HashSet;

    /// What ONNX Runtime makes of it is another test's (`make onnx-check`); here that it is a graph at all.
    #[test]
    fn every_node_is_standard_and_has_its_inputs() {
        let bundle = Bundle::open(Path::new(env!("DEFAULT_BUNDLE")), &Keys::default()).unwrap();
        let model = model(&bundle, AdaptationMode::Exact).unwrap();
        let graph = ModelProto::decode(&*model.encode_to_vec())
            .unwrap()
            .graph
            .unwrap();
        let mut known: HashSet<&str> = graph.input.iter().map(|i| &*i.name).collect();
        for tensor in &graph.initializer {
            let numbers: i64 = tensor.dims.iter().product();
            let width = if tensor.data_type == proto::INT64 {
                8
            } else {
                4
            };
            assert_eq!(
                tensor.raw_data.len() as i64,
                numbers * width,
                "{}",
                tensor.name
            );
            assert!(known.insert(&tensor.name), "{} twice", tensor.name);
        }
        const STANDARD: [&str; 21] = [
            "Add",
            "Cast",
            "Concat",
            "Div",
            "Erf",
            "Gather",
            "Identity",
            "MatMul",
            "Max",
            "Mul",
            "ReduceMax",
            "ReduceMean",
            "ReduceSum",
            "Reshape",
            "Resize",
            "Sigmoid",
            "Slice",
            "Softmax",
            "Sqrt",
            "Sub",
            "TopK",
        ];
        for node in &graph.node {
            let standard = STANDARD.contains(&&*node.op_type) || node.op_type == "Transpose";
            assert!(standard, "{}", node.op_type);
            for input in node.input.iter().filter(|i| !i.is_empty()) {
                assert!(known.contains(&**input), "{} before {}", node.name, input);
            }
            for output in &node.output {
                assert!(known.insert(output), "{output} twice");
            }
        }
        let outputs: Vec<&str> = graph.output.iter().map(|o| &*o.name).collect();
        assert!(
            outputs.contains(&"score") && outputs.contains(&"map") && outputs.contains(&"prior")
        );
        assert!(outputs.iter().all(|o| known.contains(o)));
        let about = |key: &str| {
            model
                .metadata_props
                .iter()
                .find(|p| p.key == key)
                .map(|p| &*p.value)
        };
        assert_eq!(about("faprompt.size"), Some("224"));
    }
}
