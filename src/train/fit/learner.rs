//! What learns: CAP's tokens, deep prompts and psi; and the way from cached features to scores.
//!
//! CLIP's text tower is frozen. Per step the shared prefix is computed once, the K unadapted prompts
//! once, and the K prompts of every picture as one batch of short suffixes.

use super::variant::{Aggregation, PriorSource, Variant};
use crate::bundle::manifest::{ScoreRule, Selection};
use crate::train::nn::layers::{Dense, Maker, matrix, tensor, unit, values};
use crate::train::nn::text::{Prefix, TextTower};
use crate::train::prompts::Prompts;
use burn::module::{Module, Param};
use burn::tensor::activation::{relu, sigmoid, softmax};
use burn::tensor::{Int, Tensor, TensorData};
use ndarray::{Array1, Array3};

/// The learnable parameters.
#[derive(Module, Debug)]
pub struct Learner {
    /// V, the learned tokens of the normal prompt, [E, C].
    normal: Param<Tensor<2>>,
    /// A, [K, E', C]; with tokens of their own, [K, E + E', C].
    abnormal: Param<Tensor<3>>,
    deep: Vec<Param<Tensor<2>>>,
    fc1: Dense,
    fc2: Dense,
    /// Logits of the aggregation's weights, [K]; learn only with [`Aggregation::Weighted`].
    weights: Param<Tensor<1>>,
}

/// What does not learn: the text tower, the words' embeddings, how scores are made.
pub struct Frozen {
    /// The text tower.
    pub text: TextTower,
    /// Start token's embedding, [1, C].
    pub start: Tensor<2>,
    /// Words behind a normal prompt, [n, C].
    pub normal_words: Tensor<2>,
    /// Words behind an abnormal prompt, [n, C].
    pub abnormal_words: Tensor<2>,
    /// Temperature of the scores.
    pub temperature: f64,
    /// Which patches feed psi.
    pub selection: Selection,
    /// M, the number of patches that feed the prior.
    pub selected: usize,
    /// How the maxima of both maps are combined.
    pub rule: ScoreRule,
    /// What is switched on.
    pub variant: Variant,
}

/// Prompt features that are the same for every picture.
pub struct Base {
    prefix: Prefix,
    /// F_n, unit length, [1, C].
    pub normal: Tensor<2>,
    /// Features of the K abnormal prompts, raw, [K, C].
    pub abnormal: Tensor<2>,
}

/// The scores of a batch of pictures.
pub struct Judgement {
    /// s: abnormal probability of each patch, [B, N].
    pub scores: Tensor<2>,
    /// s' with the adapted prompts, [B, N].
    pub adapted: Tensor<2>,
    /// Normal and abnormal logit of the picture, [B, 2].
    pub logits: Tensor<2>,
    /// The image score, `[B]`.
    pub image: Tensor<1>,
    /// Omega, [B, C]; none without a prior.
    pub prior: Option<Tensor<2>>,
}

impl Learner {
    /// Takes its first numbers from a prompt learner's arrays (their words are not taken; see [`Frozen`]).
    pub fn new(prompts: &Prompts, variant: &Variant, m: &mut Maker) -> Learner {
        let device = m.device;
        let k = prompts.count();
        Learner {
            normal: m.param(tensor(&prompts.normal, device)),
            abnormal: m.param(tensor(&prompts.abnormal, device)),
            deep: prompts
                .deep
                .iter()
                .map(|d| m.param(tensor(d, device)))
                .collect(),
            fc1: Dense::new(&prompts.fc1, m),
            fc2: Dense::new(&prompts.fc2, m),
            weights: {
                let logits = prompts.weights.clone().unwrap_or_else(|| Array1::zeros(k));
                let mut p = m.param(tensor::<1, _>(&logits, device));
                if variant.aggregation != Aggregation::Weighted {
                    p = p.set_require_grad(false);
                }
                p
            },
        }
    }

    /// Writes the numbers back into `prompts`.
    pub fn export(&self, prompts: &mut Prompts) {
        let [k, e, c] = self.abnormal.val().dims();
        prompts.normal = matrix(&self.normal.val());
        prompts.abnormal = Array3::from_shape_vec((k, e, c), values(&self.abnormal.val()))
            .expect("a value per element");
        prompts.deep = self.deep.iter().map(|d| matrix(&d.val())).collect();
        prompts.fc1 = self.fc1.export();
        prompts.fc2 = self.fc2.export();
        prompts.weights = Some(Array1::from(values(&self.weights.val())));
    }

    fn deep(&self) -> Vec<Tensor<2>> {
        self.deep.iter().map(|d| d.val()).collect()
    }

    /// Rows of the abnormal prompts behind the prefix, A plus `shift` and the words: `shift` [P, C]
    /// gives P * K prompts, picture by picture.
    fn abnormal_rows(&self, frozen: &Frozen, shift: Option<Tensor<2>>) -> Tensor<3> {
        let [k, e, c] = self.abnormal.val().dims();
        let words = frozen.abnormal_words.clone();
        let s = words.dims()[0];
        let tokens = match shift {
            None => self.abnormal.val(),
            Some(shift) => {
                let p = shift.dims()[0];
                let tokens = self
                    .abnormal
                    .val()
                    .reshape([1, k, e * c])
                    .expand([p, k, e * c]);
                let shift = shift
                    .reshape([p, 1, 1, c])
                    .expand([p, k, e, c])
                    .reshape([p, k, e * c]);
                (tokens + shift).reshape([p * k, e, c])
            }
        };
        let p = tokens.dims()[0];
        let words = words.unsqueeze_dim::<3>(0).expand([p, s, c]);
        Tensor::cat(vec![tokens, words], 1)
    }

    /// Encodes the unadapted prompts.
    pub fn base(&self, frozen: &Frozen) -> Base {
        let deep = self.deep();
        let rows = Tensor::cat(vec![frozen.start.clone(), self.normal.val()], 0);
        let normal_words = frozen.normal_words.clone().unsqueeze_dim::<3>(0);
        let prefix = frozen.text.prefix(rows, &deep);
        let normal = frozen.text.suffix(&prefix, normal_words);
        let abnormal = self.abnormal_features(frozen, &prefix, None);
        Base {
            prefix,
            normal: unit(normal),
            abnormal,
        }
    }

    /// Features of the K abnormal prompts, raw, [K, C]; with `shift` [P, C], [P * K, C].
    fn abnormal_features(
        &self,
        frozen: &Frozen,
        prefix: &Prefix,
        shift: Option<Tensor<2>>,
    ) -> Tensor<2> {
        let rows = self.abnormal_rows(frozen, shift);
        if !frozen.variant.own_tokens {
            return frozen.text.suffix(prefix, rows);
        }
        // AnomalyCLIP: only the start token and the deep prompts are shared, so nothing can be cached.
        let [p, n, c] = rows.dims();
        let start = frozen.start.clone().reshape([1, 1, c]).expand([p, 1, c]);
        let rows = Tensor::cat(vec![start, rows], 1);
        frozen.text.encode(rows, &vec![n; p], &self.deep())
    }

    /// psi: [B, inputs] to Omega [B, C].
    fn psi(&self, inputs: Tensor<2>) -> Tensor<2> {
        self.fc2.rows(relu(self.fc1.rows(inputs)))
    }

    /// Probability of "abnormal" of features x [B, N, C] against F_n [1, C] and raw abnormal features
    /// [B or 1, K, C], and both logits.
    fn probability(
        &self,
        frozen: &Frozen,
        x: &Tensor<3>,
        normal: &Tensor<2>,
        abnormal: Tensor<3>,
    ) -> (Tensor<2>, Tensor<2>, Tensor<2>) {
        let [b, n, c] = x.dims();
        let [p, k, _] = abnormal.dims();
        let to_normal = x
            .clone()
            .reshape([b * n, c])
            .matmul(normal.clone().transpose())
            .reshape([b, n]);
        let to_abnormal = match frozen.variant.aggregation {
            Aggregation::BestMatch => {
                let each = unit(abnormal).expand([b, k, c]);
                x.clone()
                    .matmul(each.transpose())
                    .max_dim(2)
                    .reshape([b, n])
            }
            Aggregation::Mean | Aggregation::Weighted => {
                let mean = if frozen.variant.aggregation == Aggregation::Weighted {
                    let w = softmax(self.weights.val(), 0).reshape([1, k, 1]);
                    (abnormal * w).sum_dim(1)
                } else {
                    abnormal.mean_dim(1)
                };
                let mean = unit(mean);
                if p == 1 {
                    x.clone()
                        .reshape([b * n, c])
                        .matmul(mean.reshape([1, c]).transpose())
                        .reshape([b, n])
                } else {
                    x.clone().matmul(mean.transpose()).reshape([b, n])
                }
            }
        };
        let scale = 1.0 / frozen.temperature;
        let (l0, l1) = (to_normal.mul_scalar(scale), to_abnormal.mul_scalar(scale));
        // The softmax of two is the sigmoid of their difference.
        (sigmoid(l1.clone() - l0.clone()), l0, l1)
    }

    /// The features that feed psi, [B, M * C] (or [B, C] of the image token).
    fn evidence(
        &self,
        frozen: &Frozen,
        scores: &Tensor<2>,
        patches: &Tensor<3>,
        image: &Tensor<2>,
    ) -> Tensor<2> {
        let [b, n, c] = patches.dims();
        let m = frozen.selected;
        match (frozen.variant.prior, frozen.selection) {
            (PriorSource::ImageToken, _) => image.clone(),
            (_, Selection::Upstream) => patches.clone().narrow(1, 0, m).reshape([b, m * c]),
            (_, Selection::Paper) => {
                // Chosen on the host by the device's own rule, so that ties fall the same way.
                let host = values(scores);
                let rows: Vec<i64> = (0..b)
                    .flat_map(|i| {
                        let mut chosen = vec![];
                        crate::faprompt::score::select(
                            &host[i * n..(i + 1) * n],
                            m,
                            Selection::Paper,
                            &mut chosen,
                        );
                        chosen.into_iter().map(move |j| (i * n + j) as i64)
                    })
                    .collect();
                let rows = Tensor::<1, Int>::from_data(
                    TensorData::new::<i64, _>(rows, [b * m]),
                    &patches.device(),
                );
                patches
                    .clone()
                    .reshape([b * n, c])
                    .select(0, rows)
                    .reshape([b, m * c])
            }
        }
    }

    /// Judges pictures: unit patch features [B, N, C] and unit image features [B, C].
    pub fn judge(
        &self,
        frozen: &Frozen,
        base: &Base,
        patches: &Tensor<3>,
        image: &Tensor<2>,
    ) -> Judgement {
        let [b, _, c] = patches.dims();
        let k = base.abnormal.dims()[0];
        let unadapted = base.abnormal.clone().reshape([1, k, c]);
        let (scores, _, _) = self.probability(frozen, patches, &base.normal, unadapted.clone());
        let (prior, abnormal) = if frozen.variant.prior == PriorSource::Off {
            (None, unadapted)
        } else {
            let omega = self.psi(self.evidence(frozen, &scores, patches, image));
            let features = self.abnormal_features(frozen, &base.prefix, Some(omega.clone()));
            (Some(omega), features.reshape([b, k, c]))
        };
        let adapted = match prior {
            None => scores.clone(),
            Some(_) => {
                self.probability(frozen, patches, &base.normal, abnormal.clone())
                    .0
            }
        };
        let token = image.clone().reshape([b, 1, c]);
        let (q, l0, l1) = self.probability(frozen, &token, &base.normal, abnormal);
        let (max, max_adapted) = (scores.clone().max_dim(1), adapted.clone().max_dim(1));
        let m = match frozen.rule {
            ScoreRule::Code => (max.mul_scalar(2.0) + max_adapted).div_scalar(3.0),
            ScoreRule::Paper => (max + max_adapted).div_scalar(2.0),
        };
        Judgement {
            scores,
            adapted,
            logits: Tensor::cat(vec![l0, l1], 1),
            image: (q + m).mul_scalar(0.5).reshape([b]),
            prior,
        }
    }
}
