//! Our products beside rten-gemm's, same shapes, one thread, taken in turn: `cargo bench --bench gemm`.
//!
//! Weights are packed beforehand on both sides. In f32 both add the bias. In int8 ours begins and ends with f32 (rounds
//! the activations row by row, multiplies, scales, adds the bias), as a layer needs it; rten-gemm's gets bytes
//! and ends with 32-bit sums: the rest would come on top of it.

use faprompt_edge::ops::tract::{Tensor, TractResult};
use faprompt_edge::ops::weights::{Arithmetic, Epilogue, Matrix, Weights};
use rten_gemm::{BiasVector, GemmExecutor, GemmInputA, GemmInputB, GemmOptions};
use rten_tensor::NdTensorView;
use std::hint::black_box;
use std::time::{Duration, Instant};

/// Name, rows, inputs, outputs: the layers of a ViT-B/16 at 224 px and of the default bundle's encoder.
const SHAPES: [(&str, usize, usize, usize); 8] = [
    ("ViT-B/16 qkv", 197, 768, 2304),
    ("ViT-B/16 out", 197, 768, 768),
    ("ViT-B/16 fc", 197, 768, 3072),
    ("ViT-B/16 proj", 197, 3072, 768),
    ("default qkv", 197, 192, 576),
    ("default out", 197, 192, 192),
    ("default fc", 197, 192, 768),
    ("default proj", 197, 768, 192),
];

/// Rounds of each; the quickest counts: whatever else the machine does only slows.
const ROUNDS: usize = 60;

/// The quickest of some rounds of each, taken in turn.
fn race(mut ours: impl FnMut(), mut theirs: impl FnMut()) -> [Duration; 2] {
    let mut best = [Duration::MAX; 2];
    for _ in 0..ROUNDS {
        for (work, best) in [&mut ours as &mut dyn FnMut(), &mut theirs]
            .into_iter()
            .zip(&mut best)
        {
            let start = Instant::now();
            work();
            *best = start.elapsed().min(*best);
        }
    }
    best
}

fn show(name: &str, kind: &str, operations: usize, [ours, theirs]: [Duration; 2]) {
    let giga = |time: Duration| 2.0 * operations as f64 / time.as_secs_f64() / 1e9;
    println!(
        "{name:14} {kind}  ours {:8.1} us ({:6.1} G/s)  rten-gemm {:8.1} us ({:6.1} G/s)  {:.2}",
        1e6 * ours.as_secs_f64(),
        giga(ours),
        1e6 * theirs.as_secs_f64(),
        giga(theirs),
        ours.as_secs_f64() / theirs.as_secs_f64()
    );
}

fn main() -> TractResult<()> {
    let pool = rayon::ThreadPoolBuilder::new().num_threads(1);
    pool.build_global()?;
    let float = GemmExecutor::<f32>::new();
    let bytes = GemmExecutor::<u8, i8, i32>::new();
    println!(
        "rten-gemm: f32 {}, int8 {}",
        float.kernel_name(),
        bytes.kernel_name()
    );
    let mut random = 1u32;
    let mut byte = || {
        random = random.wrapping_mul(1_664_525).wrapping_add(1_013_904_223);
        (random >> 24) as u8
    };
    for (name, rows, inputs, outputs) in SHAPES {
        let values: Vec<i8> = (0..inputs * outputs).map(|_| byte() as i8).collect();
        let activations: Vec<u8> = (0..rows * inputs).map(|_| byte()).collect();
        let x: Vec<f32> = activations
            .iter()
            .map(|v| f32::from(*v) / 128.0 - 1.0)
            .collect();
        let bias = vec![0.5f32; outputs];
        let operations = rows * inputs * outputs;
        // [outputs, inputs] as rten wants it: [inputs, outputs].
        let wide: Vec<f32> = values.iter().map(|v| f32::from(*v) / 127.0).collect();

        let bias_tensor = Tensor::from_shape(&[outputs], &bias)?;
        let epilogue = Epilogue {
            bias: Some(&bias_tensor),
            ..Epilogue::default()
        };
        let mut out = Tensor::zero::<f32>(&[rows, outputs])?;

        let matrix = Matrix::F32(Tensor::from_shape(&[outputs, inputs], &wide)?);
        let ours = Weights::pack(&matrix, Arithmetic::F32)?;
        let b = NdTensorView::from_data([outputs, inputs], wide.as_slice());
        let packed = float.prepack_b(b.transposed());
        let a = NdTensorView::from_data([rows, inputs], x.as_slice());
        let mut sums = vec![0f32; rows * outputs];
        let times = race(
            || {
                ours.product(black_box(&x), None, epilogue, &mut out, 0)
                    .expect("a product");
            },
            || {
                let options = GemmOptions {
                    bias: Some(BiasVector::Row(&bias)),
                    ..GemmOptions::default()
                };
                let (a, b) = (GemmInputA::Unpacked(a), GemmInputB::Packed(&packed));
                float
                    .gemm(black_box(&mut sums), a, b, options)
                    .expect("a product");
            },
        );
        show(name, "f32 ", operations, times);

        let matrix = Matrix::Int8 {
            values: values.clone(),
            columns: inputs,
            scales: vec![1.0 / 127.0; outputs],
        };
        let ours = Weights::pack(&matrix, Arithmetic::Int8)?;
        let b = NdTensorView::from_data([outputs, inputs], values.as_slice());
        let packed = bytes.prepack_b(b.transposed());
        let a = NdTensorView::from_data([rows, inputs], activations.as_slice());
        let mut sums = vec![0i32; rows * outputs];
        let times = race(
            || {
                ours.product(black_box(&x), None, epilogue, &mut out, 0)
                    .expect("a product");
            },
            || {
                let (a, b) = (GemmInputA::Unpacked(a), GemmInputB::Packed(&packed));
                bytes
                    .gemm(black_box(&mut sums), a, b, GemmOptions::default())
                    .expect("a product");
            },
        );
        show(name, "int8", operations, times);
    }
    Ok(())
}
