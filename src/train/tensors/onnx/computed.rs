//! What a graph computes beside its parameters: activation, epsilons, and what this program does not run.

use super::graph::{Constant, Reading};
use crate::bundle::manifest::ActivationKind;
use crate::train::tensors::TensorError;

/// What a graph says of its network beside the parameters.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub struct Computed {
    /// The MLPs' activation.
    pub activation: Option<ActivationKind>,
    /// What normalisations of the image and of the text encoder add to the variance.
    pub epsilon: [Option<f32>; 2],
    /// What of a CLIP's graph this program does not run.
    pub refused: Option<&'static str>,
}

impl Computed {
    /// Adds what the other tower's graph says.
    pub(in crate::train::tensors) fn join(&mut self, other: Computed) {
        self.refused = self.refused.or(other.refused);
        if self.activation != other.activation && other.activation.is_some() {
            // Two towers with two activations: it has to be said by the configuration or the user.
            self.activation = self.activation.xor(other.activation);
        }
        for (own, other) in self.epsilon.iter_mut().zip(other.epsilon) {
            *own = own.or(other);
        }
    }
}

/// QuickGELU is x * sigmoid(1.702 x).
const QUICK: f32 = 1.702;

impl Reading<'_> {
    /// Activation and epsilons, as far as the graph's operators show them.
    pub fn computed(&self) -> Result<Computed, TensorError> {
        let any = |kinds: &[&str]| self.graph.node.iter().any(|n| kinds.contains(&&*n.op_type));
        let (sigmoid, erf, tanh) = (any(&["Sigmoid"]), any(&["Erf", "Gelu"]), any(&["Tanh"]));
        if any(&[
            "MatMulInteger",
            "QLinearMatMul",
            "DynamicQuantizeLinear",
            "DequantizeLinear",
            "MatMulNBits",
        ]) {
            return Err(TensorError::File(
                "a quantised ONNX file: take the one in f32 or f16, `--precision int8` makes int8 of it".into(),
            ));
        }
        let mut nodes = self.graph.node.iter();
        if let Some(node) = nodes.find(|n| n.domain.starts_with("com.microsoft")) {
            return Err(TensorError::File(format!(
                "ONNX Runtime has optimised this file ({} of {}), and its parameters are no longer the network's: take the file from before",
                node.op_type, node.domain
            )));
        }
        let by_tanh = self.graph.node.iter().any(|n| {
            let how = n.attribute.iter().find(|a| a.name == "approximate");
            n.op_type == "Gelu" && how.is_some_and(|a| a.s == b"tanh")
        });
        let quick = |c: &Constant| matches!(*c.values, [v] if (v - QUICK).abs() < 1e-3);
        let quick = self.constants.values().any(quick);
        let refused = match (tanh || by_tanh, sigmoid && !quick) {
            (true, _) => Some("its activation is GELU by tanh"),
            (_, true) => {
                Some("its activation has a sigmoid without QuickGELU's factor 1.702 (SiLU?)")
            }
            _ => None,
        };
        let mut epsilon = [None; 2];
        for node in self
            .graph
            .node
            .iter()
            .filter(|n| n.op_type == "LayerNormalization")
        {
            let said = node.attribute.iter().find(|a| a.name == "epsilon");
            let tower = node
                .input
                .first()
                .is_some_and(|i| self.of_picture.contains(i.as_str()));
            epsilon[usize::from(!tower)] = Some(said.map_or(1e-5, |a| a.f));
        }
        Ok(Computed {
            activation: match (sigmoid, erf) {
                (true, false) => Some(ActivationKind::QuickGelu),
                (false, true) => Some(ActivationKind::Gelu),
                _ => None,
            },
            epsilon,
            refused,
        })
    }
}
