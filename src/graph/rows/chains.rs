//! Layers behind each other whose values in between are too large for the nearest caches become one operator.

use crate::ops::chain::{Chain, KEPT};
use crate::ops::conv::Convolution;
use tract_core::internal::*;
use tract_core::ops::source::TypedSource;

/// Layers that end at a node, and what the first one sees.
struct Run {
    chain: Chain,
    from: OutletId,
}

/// The same model with chains in it.
pub(super) fn chained(model: &TypedModel) -> TractResult<TypedModel> {
    let order = model.eval_order()?;
    let mut runs: HashMap<usize, Run> = HashMap::new();
    let mut within = vec![];
    for id in &order {
        let node = model.node(*id);
        let Some(layer) = node.op_as::<Convolution>() else {
            continue;
        };
        let x = node.inputs[0];
        let alone = model.outlet_successors(x).len() == 1 && !model.outputs.contains(&x);
        let before = runs.get(&x.node).filter(|_| alone).and_then(|run| {
            let bytes = model.outlet_fact(x).ok()?.mem_size().as_i64()?;
            let layers = [run.chain.layers(), std::slice::from_ref(layer)].concat();
            let chain = Chain::new(layers).filter(|_| bytes > KEPT as i64)?;
            Some((chain, run.from))
        });
        if before.is_some() {
            runs.remove(&x.node);
            within.push(x.node);
        }
        let alone = || Some((Chain::new(vec![layer.clone()])?, x));
        if let Some((chain, from)) = before.or_else(alone) {
            runs.insert(*id, Run { chain, from });
        }
    }
    let mut new = TypedModel::default();
    let mut outlets: HashMap<OutletId, OutletId> = HashMap::new();
    for id in order.into_iter().filter(|id| !within.contains(id)) {
        let node = model.node(id);
        let from = |o: &OutletId| outlets.get(o).copied().context("a value out of order");
        let made = match runs.get(&id).filter(|run| run.chain.layers().len() > 1) {
            _ if node.op_is::<TypedSource>() => {
                tvec!(new.add_source(&node.name, node.outputs[0].fact.clone())?)
            }
            None => {
                let inputs = node
                    .inputs
                    .iter()
                    .map(from)
                    .collect::<TractResult<TVec<_>>>()?;
                new.wire_node(&node.name, node.op.clone(), &inputs)?
            }
            Some(run) => {
                let inputs = std::iter::once(&run.from).chain(&node.inputs[1..]);
                let inputs = inputs.map(from).collect::<TractResult<TVec<_>>>()?;
                new.wire_node(&node.name, run.chain.clone(), &inputs)?
            }
        };
        for (slot, outlet) in made.into_iter().enumerate() {
            outlets.insert(OutletId::new(id, slot), outlet);
        }
    }
    let outputs = model.output_outlets()?.iter().map(|o| {
        let made = outlets.get(o).copied();
        made.context("an output that is not computed")
    });
    new.select_output_outlets(&outputs.collect::<TractResult<TVec<_>>>()?)?;
    Ok(new)
}
