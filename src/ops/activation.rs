//! Activation functions of layers, in the form in which tract-linalg has kernels for them.

use super::simd::vectorised;
use std::sync::LazyLock;
use tract_core::internal::*;
use tract_linalg::element_wise::ElementWise;
use tract_linalg::routines::Func;

/// QuickGELU's slope: x * sigmoid(1.702 x), from OpenAI's CLIP.
pub const QUICK_GELU: f32 = 1.702;

/// The function that a layer applies to each of its sums.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Activation {
    /// The identity.
    #[default]
    None,
    /// `1.702 * QuickGELU(x) = silu(1.702 x)`: the factor is left in, and the layer that follows
    /// divides it out (`Linear::after_quick_gelu`), so that the activation is one kernel call.
    ScaledQuickGelu,
    /// x * Phi(x) = x * (1 + erf(x / sqrt 2)) / 2.
    Gelu,
    /// max(x, 0).
    Relu,
    /// min(max(x, 0), 6).
    Relu6,
}

/// A kernel of this processor, looked up once; `None` if tract-linalg has none.
struct Routine(LazyLock<Option<Box<dyn ElementWise<f32>>>>);

impl Routine {
    /// The kernel.
    ///
    /// # Errors
    /// tract-linalg has no kernel for it on this processor.
    fn get(&self) -> TractResult<&dyn ElementWise<f32>> {
        self.0.as_deref().context("no kernel for a function")
    }
}

static SILU: Routine = Routine(LazyLock::new(|| Func::Silu.ew_f32().ok()));
static ERF: Routine = Routine(LazyLock::new(|| Func::Erf.ew_f32().ok()));

/// An activation with the kernel that this processor runs for it.
pub struct ActivationKernel {
    activation: Activation,
    kernel: Option<&'static dyn ElementWise<f32>>,
}

impl Activation {
    /// The factor that sums must be multiplied by before [`ActivationKernel::run`].
    pub fn factor(self) -> f32 {
        match self {
            Activation::ScaledQuickGelu => QUICK_GELU,
            _ => 1.0,
        }
    }

    /// Looks up the kernel that this processor runs for it.
    ///
    /// # Errors
    /// tract-linalg has no kernel for it on this processor.
    pub fn kernel(self) -> TractResult<ActivationKernel> {
        let kernel = match self {
            Activation::None | Activation::Relu | Activation::Relu6 => None,
            Activation::ScaledQuickGelu => Some(SILU.get()?),
            Activation::Gelu => Some(ERF.get()?),
        };
        Ok(ActivationKernel {
            activation: self,
            kernel,
        })
    }
}

/// min(max(x, 0), high); NaN stays NaN, which `f32::max` makes 0: a picture of which nothing is known must not look good.
#[inline(always)]
pub(crate) fn cut(x: f32, high: f32) -> f32 {
    match x {
        x if x < 0.0 => 0.0,
        x if x > high => high,
        x => x,
    }
}

vectorised! {
    fn clamp(values: &mut [f32], high: f32) {
        values.iter_mut().for_each(|v| *v = cut(*v, high));
    }
}

impl ActivationKernel {
    /// Whether it is the identity.
    pub fn is_none(&self) -> bool {
        self.activation == Activation::None
    }

    /// The highest number that is left, of those activations that only cut off what is below zero and above it.
    pub fn clamp(&self) -> Option<f32> {
        match self.activation {
            Activation::Relu => Some(f32::INFINITY),
            Activation::Relu6 => Some(6.0),
            _ => None,
        }
    }

    /// Applies it in place to sums that were multiplied by [`Activation::factor`].
    ///
    /// # Errors
    /// The kernel's own.
    pub fn run(&self, values: &mut [f32]) -> TractResult<()> {
        if let Some(high) = self.clamp() {
            clamp(values, high);
            return Ok(());
        }
        match (self.activation, self.kernel) {
            (Activation::Gelu, Some(erf)) => {
                let mut buffer = [0f32; 256];
                for values in values.chunks_mut(buffer.len()) {
                    let phi = &mut buffer[..values.len()];
                    phi.iter_mut()
                        .zip(&*values)
                        .for_each(|(p, x)| *p = x * std::f32::consts::FRAC_1_SQRT_2);
                    erf.run(phi)?;
                    values
                        .iter_mut()
                        .zip(phi)
                        .for_each(|(x, e)| *x *= 0.5 + 0.5 * *e);
                }
            }
            (_, Some(kernel)) => kernel.run(values)?,
            (_, None) => (),
        }
        Ok(())
    }
}
