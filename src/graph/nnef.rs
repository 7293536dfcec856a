//! A network of the user's own, as the bundle keeps it: NNEF, run by the operators that [`rows`](super::rows) brings it
//! to, in int8 where its weights are, and by tract's own in f32.
//!
//! Whatever could only be found out on the host was: sizes are fixed, taps are rows on one grid
//! (`train::network`). Here the text becomes a model again, and is held to what the manifest says of it.

use super::Plan;
use super::rows::on_rows;
use crate::bundle::network::{GRAPH, LONGEST, NetworkSpec, PART};
use crate::bundle::tap::Tap;
use crate::bundle::{Bundle, BundleError};
use crate::ops::weights::Arithmetic;
use std::panic::{AssertUnwindSafe, catch_unwind};
use tract_core::internal::*;
use tract_nnef::ast::parse::parse_document;
use tract_nnef::internal::Identifier;

/// What a bundle's own network is multiplied in on this processor if `asked` is asked for: int8 or f32.
pub(crate) fn arithmetic(bundle: &Bundle, asked: Arithmetic) -> Arithmetic {
    match asked.here(bundle.stored_in(PART)) {
        Arithmetic::Int8 => Arithmetic::Int8,
        // A network without norms between its layers may leave f16's range.
        _ => Arithmetic::F32,
    }
}

/// Brackets in one another that a graph has at most: a network has some three. Its reader calls itself for each, and a stack
/// that overflows ends the program, whatever is caught.
const DEEPEST: usize = 64;

/// How many brackets a text has in one another.
fn depth(text: &str) -> usize {
    let (mut now, mut most) = (0usize, 0);
    for byte in text.bytes() {
        match byte {
            b'(' | b'[' | b'{' => now += 1,
            b')' | b']' | b'}' => now = now.saturating_sub(1),
            _ => (),
        }
        most = most.max(now);
    }
    most
}

/// What a bundle's own network hands out at `taps`: patches after as many blocks, counted from 1. It is multiplied in
/// [`arithmetic`].
pub(crate) fn plan(bundle: &Bundle, taps: &[Tap], asked: Arithmetic) -> Result<Plan, BundleError> {
    let spec = bundle.manifest().network.as_ref();
    let spec = spec.ok_or_else(|| BundleError::architecture(PART, "the manifest names none"))?;
    let text = bundle.text(GRAPH, LONGEST)?;
    let mut tensors = HashMap::new();
    for name in bundle.names(PART) {
        if name != GRAPH {
            let label = Identifier(name[PART.len() + 1..].to_string());
            tensors.insert(label, Arc::new(bundle.array(&name)?));
        }
    }
    if depth(text) > DEEPEST {
        let what = format!("its graph has more than {DEEPEST} brackets in one another");
        return Err(BundleError::architecture(PART, what));
    }
    // A stranger's graph: whatever its reader does not expect costs this bundle, not the station.
    let built = catch_unwind(AssertUnwindSafe(|| {
        build(text, tensors, spec, taps, arithmetic(bundle, asked))
    }));
    built
        .unwrap_or_else(|_| bail!("tract stopped in the middle of the graph"))
        .map_err(|e| BundleError::architecture(PART, format!("{e:#}")))
}

fn build(
    text: &str,
    tensors: HashMap<Identifier, Arc<Tensor>>,
    spec: &NetworkSpec,
    taps: &[Tap],
    arithmetic: Arithmetic,
) -> TractResult<Plan> {
    let proto = tract_nnef::ProtoModel {
        doc: parse_document(text)?,
        tensors,
        quantization: None,
        resources: HashMap::new(),
    };
    proto.validate()?;
    let mut model = tract_nnef::nnef()
        .translate(&proto, TypedModel::default())
        .map_err(|(_, e)| e)?;
    let side = spec.image.size;
    let [input] = *model.input_outlets()? else {
        bail!("{} inputs, not one", model.input_outlets()?.len());
    };
    expect("its input", model.outlet_fact(input)?, &[3, side, side])?;
    let outlets = model.output_outlets()?.to_vec();
    ensure!(
        outlets.len() == spec.taps.len(),
        "{} outputs, the manifest names {}",
        outlets.len(),
        spec.taps.len()
    );
    let places = spec.image.grid() * spec.image.grid();
    for (tap, outlet) in spec.taps.iter().zip(&outlets) {
        let fact = model.outlet_fact(*outlet)?;
        expect(
            &format!("tap `{}`", tap.name),
            fact,
            &[places, tap.channels],
        )?;
    }
    let wanted: TVec<OutletId> = taps
        .iter()
        .map(|tap| match tap.block.checked_sub(1) {
            Some(i) if i < outlets.len() && *tap == Tap::patches(tap.block) => Ok(outlets[i]),
            _ => bail!(
                "tap `{tap}`: a network hands out the patches of its {} taps",
                outlets.len()
            ),
        })
        .collect::<TractResult<_>>()?;
    model.select_output_outlets(&wanted)?;
    Plan::of(on_rows(&model.into_decluttered()?, arithmetic)?)
}

fn expect(what: &str, fact: &TypedFact, shape: &[usize]) -> TractResult<()> {
    ensure!(
        *fact == f32::fact(shape).without_value() || *fact == f32::fact(shape),
        "{what} is {fact:?}, the manifest makes it f32 {shape:?}"
    );
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn brackets_in_one_another_are_counted() {
        assert_eq!(
            depth("graph net(x) -> (y) { y = relu(add(x, [1, 2])); }"),
            4
        );
        assert_eq!(depth(&"([".repeat(1000)), 2000);
        assert_eq!(depth(")))("), 1);
    }
}
