use super::on_rows;
use crate::ops::slice;
use crate::ops::testing::tensor;
use crate::ops::weights::Arithmetic;
use tract_core::internal::*;
use tract_core::ops::change_axes::AxisOp;
use tract_core::ops::cnn::{Conv, KernelFormat, MaxPool, PaddingSpec, PoolSpec};
use tract_core::ops::einsum::EinSum;
use tract_core::ops::nn::{DataFormat, Reduce};
use tract_core::ops::{math, nn};

/// A model under construction.
struct Net(TypedModel, u64);

impl Net {
    fn new(shape: &[usize]) -> (Net, OutletId) {
        let mut model = TypedModel::default();
        let x = model.add_source("x", f32::fact(shape)).unwrap();
        (Net(model, 0), x)
    }

    fn constant(&mut self, shape: &[usize]) -> OutletId {
        self.1 += 1;
        let name = format!("c{}", self.1);
        self.0.add_const(name, tensor(shape, self.1)).unwrap()
    }

    fn number(&mut self, shape: &[usize], value: f32) -> OutletId {
        self.1 += 1;
        let value = Tensor::from_shape(shape, &[value]).unwrap();
        self.0.add_const(format!("c{}", self.1), value).unwrap()
    }

    fn wire(&mut self, op: impl Into<Box<dyn TypedOp>>, inputs: &[OutletId]) -> OutletId {
        self.1 += 1;
        let name = format!("n{}", self.1);
        self.0.wire_node(name, op, inputs).unwrap()[0]
    }

    /// A convolution of [1, channels, h, w].
    fn conv(
        &mut self,
        x: OutletId,
        [inputs, outputs, group]: [usize; 3],
        side: usize,
        stride: usize,
    ) -> OutletId {
        let conv = Conv {
            pool_spec: PoolSpec {
                data_format: DataFormat::NCHW,
                kernel_shape: tvec!(side, side),
                padding: PaddingSpec::SameUpper,
                dilations: None,
                strides: Some(tvec!(stride, stride)),
                input_channels: inputs,
                output_channels: outputs,
            },
            kernel_fmt: KernelFormat::OIHW,
            group,
            q_params: None,
        };
        let kernel = self.constant(&[outputs, inputs / group, side, side]);
        let bias = self.constant(&[outputs]);
        self.wire(conv, &[x, kernel, bias])
    }

    fn relu6(&mut self, x: OutletId) -> OutletId {
        let (low, high) = (self.number(&[1; 4], 0.0), self.number(&[1; 4], 6.0));
        let x = self.wire(math::max(), &[x, low]);
        self.wire(math::min(), &[x, high])
    }

    /// Rewritten, what it computes is the same; gives the operators' names.
    fn rewritten(self, outputs: &[OutletId]) -> Vec<String> {
        let (names, apart) = self.rewritten_in(Arithmetic::F32, outputs);
        assert!(apart < 1e-6, "apart by {apart}");
        names
    }

    /// Rewritten: the operators' names, and by how much of an output's largest number its numbers are apart at most.
    fn rewritten_in(mut self, arithmetic: Arithmetic, outputs: &[OutletId]) -> (Vec<String>, f32) {
        self.0.select_output_outlets(outputs).unwrap();
        let ours = on_rows(&self.0, arithmetic).unwrap();
        let shape = self.0.input_fact(0).unwrap().shape.clone();
        let x = tensor(shape.as_concrete().unwrap(), 99);
        let run = |model: &TypedModel| {
            let plan = model
                .clone()
                .into_optimized()
                .unwrap()
                .into_runnable()
                .unwrap();
            plan.run(tvec!(x.clone().into_tvalue())).unwrap()
        };
        let mut apart = 0f32;
        for (a, b) in run(&self.0).iter().zip(run(&ours)) {
            assert_eq!(a.shape(), b.shape());
            let (a, b) = (slice(a).unwrap(), slice(&b).unwrap());
            let largest = a.iter().fold(1f32, |m, v| m.max(v.abs()));
            for (a, b) in a.iter().zip(b) {
                assert!(b.is_finite());
                apart = apart.max((a - b).abs() / largest);
            }
        }
        let mut used = ours;
        used.compact().unwrap();
        let names = used.nodes().iter().map(|n| n.op.name().to_string());
        (names.collect(), apart)
    }
}

fn count(names: &[String], name: &str) -> usize {
    names.iter().filter(|n| *n == name).count()
}

#[test]
fn a_mobile_block_is_three_layers() {
    let (mut net, x) = Net::new(&[3, 18, 15]);
    let x = net.wire(AxisOp::Add(0), &[x]);
    let stem = net.conv(x, [3, 8, 1], 3, 2);
    let stem = net.relu6(stem);
    // 1 x 1 as a product of a matrix with merged places, as tract writes it; the bias as an addition.
    let flat = net.wire(AxisOp::Rm(0), &[stem]);
    let merge = AxisOp::Reshape(1, tvec!(9.to_dim(), 8.to_dim()), tvec!(72.to_dim()));
    let flat = net.wire(merge, &[flat]);
    let expand = net.constant(&[20, 8]);
    let axes = "mk,kn->mn".parse().unwrap();
    let wide = net.wire(EinSum::new(axes, f32::datum_type()), &[expand, flat]);
    let bias = net.constant(&[20, 1]);
    let wide = net.wire(math::add(), &[wide, bias]);
    let split = AxisOp::Reshape(1, tvec!(72.to_dim()), tvec!(9.to_dim(), 8.to_dim()));
    let wide = net.wire(split, &[wide]);
    let wide = net.wire(AxisOp::Add(0), &[wide]);
    let wide = net.relu6(wide);
    let deep = net.conv(wide, [20, 20, 20], 5, 1);
    let deep = net.relu6(deep);
    let narrow = net.conv(deep, [20, 8, 1], 1, 1);
    let sum = net.wire(math::add(), &[stem, narrow]);
    let names = net.rewritten(&[sum]);
    assert_eq!(count(&names, "FusedConvolution"), 4, "{names:?}");
    for other in ["Conv", "EinSum", "Add", "Max", "Min"] {
        assert_eq!(count(&names, other), 0, "{other}: {names:?}");
    }
}

/// Squeeze and excitation, hard swish: as MobileNetV3 has them.
#[test]
fn a_row_for_all_places_stays_in_rows() {
    let (mut net, x) = Net::new(&[1, 4, 7, 6]);
    let own = net.conv(x, [4, 12, 1], 1, 1);
    let mean = net.wire(Reduce::new(tvec!(2, 3), nn::Reducer::Sum), &[own]);
    let part = net.number(&[1; 4], 1.0 / 42.0);
    let mean = net.wire(math::mul(), &[mean, part]);
    let gate = net.conv(mean, [12, 3, 1], 1, 1);
    let gate = net.relu6(gate);
    let gate = net.conv(gate, [3, 12, 1], 1, 1);
    let three = net.number(&[1; 4], 3.0);
    let gate = net.wire(math::add(), &[gate, three]);
    let gate = net.relu6(gate);
    let gated = net.wire(math::mul(), &[own, gate]);
    let last = net.conv(gated, [12, 4, 1], 3, 2);
    let names = net.rewritten(&[last]);
    assert_eq!(count(&names, "FusedConvolution"), 4, "{names:?}");
    // The picture's order is changed on the way in and on the way out.
    assert_eq!(count(&names, "MoveAxis"), 2, "{names:?}");
}

#[test]
fn what_others_see_too_is_not_changed() {
    let (mut net, x) = Net::new(&[1, 4, 6, 6]);
    let first = net.conv(x, [4, 4, 1], 3, 1);
    let active = net.relu6(first);
    // Its sum before the activation is an output, and the activation is added to what comes of it.
    let second = net.conv(active, [4, 4, 1], 1, 1);
    let sum = net.wire(math::add(), &[second, active]);
    let doubled = net.wire(math::add(), &[second, second]);
    let names = net.rewritten(&[first, sum, doubled]);
    assert_eq!(count(&names, "FusedConvolution"), 2, "{names:?}");
    assert_eq!(
        (count(&names, "Max"), count(&names, "Add")),
        (1, 2),
        "{names:?}"
    );
}

#[test]
fn what_these_kernels_cannot_do_stays() {
    let (mut net, x) = Net::new(&[1, 4, 9, 9]);
    let grouped = net.conv(x, [4, 8, 2], 3, 1);
    let own = net.conv(grouped, [8, 8, 1], 3, 1);
    let pool = MaxPool::new(
        PoolSpec {
            data_format: DataFormat::NCHW,
            kernel_shape: tvec!(2, 2),
            padding: PaddingSpec::Valid,
            dilations: None,
            strides: Some(tvec!(2, 2)),
            input_channels: 8,
            output_channels: 8,
        },
        None,
    );
    let pooled = net.wire(pool, &[own]);
    let own = net.conv(pooled, [8, 6, 1], 1, 1);
    let bent = net.wire(nn::sigmoid(), &[own]);
    let scaled = net.constant(&[1, 6, 1, 1]);
    let scaled = net.wire(math::mul(), &[scaled, bent]);
    // Transposed places are not rows in their order.
    let turned = net.wire(AxisOp::Move(2, 3), &[scaled]);
    let last = net.conv(turned, [6, 5, 1], 3, 2);
    // Of another shape than its partner: a column for all.
    let column = net.constant(&[1, 1, 2, 1]);
    let last = net.wire(math::sub(), &[last, column]);
    let gate = net.wire(Reduce::new(tvec!(2, 3), nn::Reducer::Sum), &[last]);
    let gated = net.wire(math::mul(), &[last, gate]);
    let names = net.rewritten(&[gated, scaled]);
    assert_eq!(count(&names, "FusedConvolution"), 3, "{names:?}");
    assert_eq!(count(&names, "Conv"), 1, "{names:?}");
}

/// As MobileNets have it: a wide pointwise layer is rounded, the narrow one and the depthwise kernel before it are not.
#[test]
fn in_int8_long_products_are_rounded_and_short_ones_are_not() {
    for (inputs, rounds) in [(64, true), (16, false)] {
        let (mut net, x) = Net::new(&[1, inputs, 9, 7]);
        let deep = net.conv(x, [inputs, inputs, inputs], 3, 1);
        let deep = net.relu6(deep);
        let narrow = net.conv(deep, [inputs, 24, 1], 1, 1);
        let sum = net.conv(narrow, [24, inputs, 1], 1, 1);
        let sum = net.wire(math::add(), &[x, sum]);
        let (names, apart) = net.rewritten_in(Arithmetic::Int8, &[sum]);
        assert_eq!(count(&names, "FusedConvolution"), 3, "{names:?}");
        // Half a step of 255 for activations and of 127 for weights, over a sum of numbers of either sign.
        assert!(apart < 0.02, "{inputs}: apart by {apart}");
        assert_eq!(apart > 1e-5, rounds, "{inputs}: apart by {apart}");
    }
}

/// Maps of half a megabyte: a block is one operator, unless somebody else sees what lies within it.
#[test]
fn layers_with_large_maps_between_them_are_a_chain() {
    for seen in [false, true] {
        let (mut net, x) = Net::new(&[1, 4, 64, 64]);
        let wide = net.conv(x, [4, 32, 1], 1, 1);
        let wide = net.relu6(wide);
        let deep = net.conv(wide, [32, 32, 32], 3, 1);
        let deep = net.relu6(deep);
        let narrow = net.conv(deep, [32, 4, 1], 1, 1);
        let sum = net.wire(math::add(), &[x, narrow]);
        let outputs = [sum, deep];
        let names = net.rewritten(&outputs[..1 + seen as usize]);
        let found = ["FusedChain", "FusedConvolution"].map(|name| count(&names, name));
        // With the depthwise layer's map wanted, the last layer stands alone.
        assert_eq!(found, [1, seen as usize], "{names:?}");
    }
}
