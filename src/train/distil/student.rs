//! The student: CLIP's image tower with the V-V stream, the heads that are thrown away, its losses and its steps.

use super::Sizes;
use super::targets::Target;
use crate::bundle::manifest::ActivationKind;
use crate::bundle::tap::Tap;
use crate::faprompt::map::enlarge;
use crate::train::clip::{self, Visual};
use crate::train::nn::Maker;
use crate::train::nn::image::{ImageTower, cut};
use crate::train::nn::layers::{Dense, Norm, put, tensor, values};
use crate::train::random::normal;
use burn::module::{Module, ModuleVisitor, Param, ParamGroup, ParamId};
use burn::optim::{AdamWConfig, GradientsParams, ModuleOptimizer};
use burn::tensor::{Device, Tensor};
use ndarray::{Array1, Array2};
use rand_chacha::ChaCha8Rng;
use rand_chacha::rand_core::{Rng, SeedableRng};

/// Channels of an attention head.
pub const HEAD: usize = 64;
/// What its normalisations add to the variance: CLIP's.
pub const EPSILON: f32 = 1e-5;
/// Weight of the image feature's loss beside the patches'.
const IMAGE: f64 = 0.3;
/// Weight of 1 - cosine beside the smooth L1.
const APART: f64 = 0.5;
/// Gradients together are at most this long.
const LONGEST: f64 = 1.0;
/// By how much matrices shrink in a step, times the learning rate.
const DECAY: f32 = 0.05;

/// Normally distributed numbers of deviation `std`.
pub(super) fn random(rng: &mut ChaCha8Rng, rows: usize, columns: usize, std: f32) -> Array2<f32> {
    Array2::from_shape_fn((rows, columns), |_| std * normal(rng))
}

/// A normalisation that has learned nothing.
pub(super) fn identity(width: usize) -> clip::Norm {
    clip::Norm {
        weight: Array1::ones(width),
        bias: Array1::zeros(width),
    }
}

/// Blocks with random numbers.
pub(super) fn fresh_blocks(rng: &mut ChaCha8Rng, width: usize, layers: usize) -> Vec<clip::Block> {
    let scale = (width as f32).powf(-0.5);
    let residual = scale * (2.0 * layers as f32).powf(-0.5);
    let mut dense = |rows: usize, columns: usize, std: f32| clip::Dense {
        bias: Array1::zeros(rows),
        weight: random(rng, rows, columns, std),
    };
    let block = |_| clip::Block {
        ln_1: identity(width),
        qkv: dense(3 * width, width, scale),
        out: dense(width, width, residual),
        ln_2: identity(width),
        fc: dense(4 * width, width, (2.0 * width as f32).powf(-0.5)),
        proj: dense(width, 4 * width, residual),
    };
    (0..layers).map(block).collect()
}

/// A tower with random numbers, as CLIP's and PyTorch's initialisations have them.
pub fn fresh(sizes: &Sizes, seed: u64) -> Visual {
    let (width, layers, patch, grid) = (sizes.width, sizes.layers, sizes.patch, sizes.grid());
    let mut rng = ChaCha8Rng::seed_from_u64(seed);
    let mut matrix = |rows: usize, columns: usize, std: f32| random(&mut rng, rows, columns, std);
    let scale = (width as f32).powf(-0.5);
    let pixels = 3 * patch * patch;
    let conv1 = matrix(width, pixels, (3.0 * pixels as f32).powf(-0.5));
    let class = matrix(1, width, scale).row(0).to_owned();
    let positions = matrix(1 + grid * grid, width, 0.02);
    let blocks = fresh_blocks(&mut rng, width, layers);
    Visual {
        width,
        heads: width / HEAD,
        epsilon: EPSILON,
        patch,
        grid,
        conv1,
        class,
        positions,
        ln_pre: identity(width),
        blocks,
        ln_post: identity(width),
        proj: random(&mut rng, sizes.joint, width, scale),
    }
}

/// A head as arrays: normalisation, dense layer.
#[derive(Clone)]
pub struct HeadNumbers {
    /// Before the layer.
    pub norm: clip::Norm,
    /// [D, width].
    pub layer: clip::Dense,
}

/// Heads with random numbers, as PyTorch begins dense layers.
pub fn fresh_heads(width: usize, outputs: usize, count: usize, seed: u64) -> Vec<HeadNumbers> {
    let mut rng = ChaCha8Rng::seed_from_u64(seed);
    rng.set_stream(1);
    let bound = (width as f32).powf(-0.5);
    let mut next = || bound * (2.0 * (rng.next_u32() as f32 / u32::MAX as f32) - 1.0);
    (0..count)
        .map(|_| HeadNumbers {
            norm: identity(width),
            layer: clip::Dense {
                weight: Array2::from_shape_fn((outputs, width), |_| next()),
                bias: Array1::from_shape_fn(outputs, |_| next()),
            },
        })
        .collect()
}

#[derive(Module, Debug)]
struct Head {
    norm: Norm,
    layer: Dense,
}

/// What learns.
#[derive(Module, Debug)]
pub struct Student {
    tower: ImageTower,
    heads: Vec<Head>,
    #[module(skip)]
    taps: Vec<Tap>,
}

/// Blocks behind which heads stand: the middle one, and the one from whose rows the V-V stream starts.
pub fn taps_of(layers: usize, vv_layers: usize) -> Vec<usize> {
    let mut taps = vec![layers.div_ceil(2), layers - vv_layers];
    taps.retain(|t| *t > 0);
    taps.dedup();
    taps
}

/// A batch on the device.
pub struct Batch {
    /// Pictures cut into patches, normalised as CLIP's, [B, N, 3 * patch * patch].
    pub patches: Tensor<3>,
    /// Their positions of the tower's, if they have another number of patches, [1 + N, 1 + n].
    pub resize: Option<Tensor<2>>,
    /// What the heads shall say, [B * N, D].
    pub joined: Tensor<2>,
    /// The patch features' targets, [B * N, C].
    pub patch: Tensor<2>,
    /// The image features', [B, C].
    pub image: Tensor<2>,
    /// The weight of each of D numbers in the mean over groups, [1, D].
    pub weights: Tensor<2>,
}

impl Batch {
    /// Of views [3, side, side] in 0..=1 and their targets; `basis` [D, C] makes patch targets of the joined ones,
    /// `widths` are the groups'.
    pub fn new(
        views: &[(Vec<f32>, Target)],
        sizes: &Sizes,
        side: usize,
        (basis, widths): (&Array2<f32>, &[usize]),
        device: &Device,
    ) -> Batch {
        let (b, grid) = (views.len(), side / sizes.patch);
        let n = grid * grid;
        let plane = side * side;
        let mut patches = vec![];
        let (mut joined, mut image) = (vec![], vec![]);
        for (view, target) in views {
            let pixels = view.iter().enumerate();
            let normal = |(i, v): (usize, &f32)| (v - clip::MEAN[i / plane]) / clip::STD[i / plane];
            let normalised: Vec<f32> = pixels.map(normal).collect();
            cut(&normalised, side, sizes.patch, &mut patches);
            joined.extend(target.joined.iter());
            image.extend(target.image.iter());
        }
        let (d, c) = (basis.nrows(), basis.ncols());
        let joined: Tensor<2> = put(joined, [b * n, d], device);
        let even = |w: &usize| vec![1.0 / (widths.len() * w) as f32; *w];
        Batch {
            patches: put(patches, [b, n, 3 * sizes.patch * sizes.patch], device),
            resize: (grid != sizes.grid()).then(|| resize(sizes.grid(), grid, device)),
            patch: joined.clone().matmul(tensor(basis, device)),
            image: put(image, [b, c], device),
            weights: put(widths.iter().flat_map(even).collect(), [1, d], device),
            joined,
        }
    }
}

/// Positions of another grid as a product with the tower's own, [1 + to * to, 1 + from * from]: the same bilinear
/// interpolation as when a bundle is made.
fn resize(from: usize, to: usize, device: &Device) -> Tensor<2> {
    let (own, wanted) = (1 + from * from, 1 + to * to);
    let mut matrix = Array2::zeros((wanted, own));
    matrix[[0, 0]] = 1.0;
    for i in 1..own {
        let mut one = vec![0.0; from * from];
        one[i - 1] = 1.0;
        for (place, v) in enlarge(&one, from, to).values.into_iter().enumerate() {
            matrix[[1 + place, i]] = v;
        }
    }
    tensor(&matrix, device)
}

/// |a - b| above 1, half its square below, each number apart.
pub(super) fn smooth_l1(a: Tensor<2>, b: Tensor<2>) -> Tensor<2> {
    let far = (a - b).abs();
    let near = far.clone().clamp_max(1.0);
    near.clone().square().mul_scalar(0.5) + far - near
}

/// The mean of 1 - cosine of rows.
pub(super) fn apart(a: Tensor<2>, b: Tensor<2>) -> Tensor<1> {
    let length = |x: &Tensor<2>| x.clone().square().sum_dim(1).sqrt().clamp_min(1e-8);
    let cosine = (a.clone() * b.clone()).sum_dim(1) / (length(&a) * length(&b));
    cosine.neg().add_scalar(1.0).mean()
}

/// A loss and its terms by name, the total first.
pub type Terms = Vec<(String, f64)>;

impl Student {
    /// Of arrays; `vv_layers` blocks have the V-V stream.
    pub fn new(from: &Visual, heads: &[HeadNumbers], vv_layers: usize, m: &mut Maker) -> Student {
        let layers = from.blocks.len();
        let tower = ImageTower::new(from, ActivationKind::QuickGelu, from.grid, vv_layers, m);
        let heads = heads.iter().map(|h| Head {
            norm: Norm::new(&h.norm, EPSILON, m),
            layer: Dense::new(&h.layer, m),
        });
        let mut taps: Vec<Tap> = taps_of(layers, vv_layers)
            .into_iter()
            .map(Tap::patches)
            .collect();
        taps.extend([Tap::faprompt_patches(layers), Tap::faprompt_image(layers)]);
        Student {
            tower,
            heads: heads.collect(),
            taps,
        }
    }

    /// The numbers as arrays, for a tower of `from`'s sizes.
    pub fn export(&self, from: &Visual) -> (Visual, Vec<HeadNumbers>) {
        let heads = self.heads.iter().map(|h| HeadNumbers {
            norm: h.norm.export(),
            layer: h.layer.export(),
        });
        (self.tower.export(from), heads.collect())
    }

    /// The loss of a batch and its terms.
    pub fn loss(&self, batch: &Batch) -> (Tensor<1>, Terms) {
        let patches = batch.patches.clone();
        let mut found = self
            .tower
            .taps_at(patches, &self.taps, &[], batch.resize.as_ref());
        let flat = |x: Tensor<3>| {
            let [b, n, c] = x.dims();
            x.reshape([b * n, c])
        };
        let image = flat(found.pop().expect("four taps"));
        let patch = flat(found.pop().expect("four taps"));
        let mut named = vec![];
        for ((head, rows), tap) in self.heads.iter().zip(found).zip(&self.taps) {
            let said = head.layer.rows(head.norm.forward(flat(rows)));
            let each = smooth_l1(said, batch.joined.clone()).mean_dim(0);
            let term = (each * batch.weights.clone()).sum();
            named.push((format!("block {}", tap.block), term));
        }
        let both = |a: Tensor<2>, b: &Tensor<2>| {
            smooth_l1(a.clone(), b.clone()).mean() + apart(a, b.clone()).mul_scalar(APART)
        };
        named.push(("patch".into(), both(patch, &batch.patch)));
        let mut total = named[0].1.clone();
        for (_, term) in &named[1..] {
            total = total + term.clone();
        }
        let image = both(image, &batch.image);
        total = total + image.clone().mul_scalar(IMAGE);
        named.push(("image".into(), image));
        named.insert(0, ("loss".into(), total.clone()));
        let number = |t: Tensor<1>| f64::from(t.into_scalar::<f32>());
        let terms = named.into_iter().map(|(n, t)| (n, number(t)));
        (total, terms.collect())
    }

    /// AdamW, whose decay spares vectors and embeddings.
    pub fn optimizer(&self) -> ModuleOptimizer {
        let adam = |decay: f32| {
            AdamWConfig::new()
                .with_beta_1(0.9)
                .with_beta_2(0.98)
                .with_epsilon(1e-8)
                .with_weight_decay(decay)
        };
        let mut matrices = Matrices {
            without: self.tower.embeddings().to_vec(),
            found: vec![],
        };
        self.visit(&mut matrices);
        let group = ParamGroup::from_ids(matrices.found);
        (adam(0.0).init()).with_group(group, adam(DECAY).build(), None)
    }

    /// One step of learning; a loss that is no finite number changes nothing.
    pub fn step(self, optimizer: &mut ModuleOptimizer, lr: f64, batch: &Batch) -> (Student, Terms) {
        let (total, terms) = self.loss(batch);
        if terms.iter().any(|(_, v)| !v.is_finite()) {
            return (self, terms);
        }
        let gradients = GradientsParams::from_grads(total.backward(), &self);
        let gradients = shortened(&self, gradients);
        (optimizer.step(lr, self, gradients), terms)
    }
}

/// Finds the matrices of a module.
struct Matrices {
    without: Vec<ParamId>,
    found: Vec<ParamId>,
}

impl ModuleVisitor for Matrices {
    fn visit_float<const D: usize>(&mut self, param: &Param<Tensor<D>>) {
        if D > 1 && !self.without.contains(&param.id) {
            self.found.push(param.id);
        }
    }
}

/// Sums the squares of all gradients.
struct Squares<'a> {
    gradients: &'a GradientsParams,
    sum: Option<Tensor<1>>,
}

impl ModuleVisitor for Squares<'_> {
    fn visit_float<const D: usize>(&mut self, param: &Param<Tensor<D>>) {
        if let Some(gradient) = self.gradients.get::<D>(param.id) {
            let own = gradient.square().sum();
            self.sum = Some(match self.sum.take() {
                Some(sum) => sum + own,
                None => own,
            });
        }
    }
}

/// Multiplies all gradients.
struct Scale {
    gradients: GradientsParams,
    by: f64,
}

impl ModuleVisitor for Scale {
    fn visit_float<const D: usize>(&mut self, param: &Param<Tensor<D>>) {
        if let Some(gradient) = self.gradients.remove::<D>(param.id) {
            let shorter = gradient.mul_scalar(self.by);
            self.gradients.register(param.id, shorter);
        }
    }
}

/// Gradients that are together at most [`LONGEST`] long, as PyTorch's `clip_grad_norm_` leaves them.
pub(super) fn shortened(student: &impl Module, gradients: GradientsParams) -> GradientsParams {
    let mut squares = Squares {
        gradients: &gradients,
        sum: None,
    };
    student.visit(&mut squares);
    let sum = squares.sum.map_or(0.0, |s| f64::from(values(&s)[0]));
    let by = LONGEST / (sum.sqrt() + 1e-6);
    if by >= 1.0 {
        return gradients;
    }
    let mut scale = Scale { gradients, by };
    student.visit(&mut scale);
    scale.gradients
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn heads_stand_behind_the_middle_and_before_the_v_v_stream() {
        assert_eq!(taps_of(9, 1), [5, 8]);
        assert_eq!(taps_of(2, 1), [1]);
        assert_eq!(taps_of(3, 3), [2]);
    }

    #[test]
    fn smooth_l1_and_cosines() {
        let device = Device::flex();
        let of = |v: [f32; 4]| put(v.to_vec(), [2, 2], &device);
        let each = smooth_l1(of([0.5, -2.0, 1.0, 0.0]), of([0.0; 4]));
        assert_eq!(values(&each), [0.125, 1.5, 0.5, 0.0]);
        // One row the same way, one across it.
        let mean = apart(of([1.0, 0.0, 0.0, 3.0]), of([2.0, 0.0, 5.0, 0.0]));
        assert!((values(&mean)[0] - 0.5).abs() < 1e-6);
    }

    #[test]
    fn positions_of_another_grid_are_means_of_neighbours() {
        let device = Device::flex();
        let matrix = values(&resize(2, 3, &device));
        for row in matrix.chunks_exact(5) {
            assert!((row.iter().sum::<f32>() - 1.0).abs() < 1e-6, "{row:?}");
        }
        // The class row is kept, the middle is the mean of all.
        assert_eq!(matrix[..5], [1.0, 0.0, 0.0, 0.0, 0.0]);
        assert_eq!(matrix[5 * 5..6 * 5], [0.0, 0.25, 0.25, 0.25, 0.25]);
    }

    #[test]
    fn long_gradients_are_shortened_together_and_embeddings_do_not_decay() {
        let sizes = Sizes {
            width: 64,
            layers: 1,
            vv_layers: 1,
            patch: 8,
            side: 16,
            joint: 4,
        };
        let device = Device::flex().autodiff();
        let heads = fresh_heads(64, 3, 1, 1);
        let mut maker = Maker::new(&device, true);
        let student = Student::new(&fresh(&sizes, 1), &heads, 1, &mut maker);
        let target = Target {
            joined: Array2::from_elem((4, 3), 8.0),
            image: Array2::from_elem((1, 4), 9.0),
        };
        let views = [(vec![0.5; 3 * 16 * 16], target)];
        let basis = Array2::from_elem((3, 4), 1.0);
        let batch = Batch::new(&views, &sizes, 16, (&basis, &[1, 2]), &device);
        // Each group counts the same: the first number as much as both others.
        assert_eq!(values(&batch.weights), [0.5, 0.25, 0.25]);
        let (total, terms) = student.loss(&batch);
        assert_eq!(terms[0].0, "loss");
        let parts: f64 = terms[1..terms.len() - 1].iter().map(|t| t.1).sum();
        let image = terms[terms.len() - 1].1;
        assert!(
            (terms[0].1 - parts - IMAGE * image).abs() < 1e-4,
            "{terms:?}"
        );
        let gradients = GradientsParams::from_grads(total.backward(), &student);
        let length = |gradients: &GradientsParams| {
            let mut squares = Squares {
                gradients,
                sum: None,
            };
            student.visit(&mut squares);
            values(&squares.sum.unwrap())[0].sqrt()
        };
        assert!(length(&gradients) > 2.0);
        let shorter = shortened(&student, gradients);
        assert!((length(&shorter) - 1.0).abs() < 1e-4);
        let mut matrices = Matrices {
            without: student.tower.embeddings().to_vec(),
            found: vec![],
        };
        student.visit(&mut matrices);
        // conv1, proj, four layers of the block, the head.
        assert_eq!(matrices.found.len(), 7);
    }
}
