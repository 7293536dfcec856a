//! Which processor trains, picked at run time.
//!
//! With the feature `cuda` it has one unsafe call: asking whether NVIDIA's driver can be loaded.

use super::Products;
use crate::train::TrainError;
use burn::tensor::Device;
use clap::ValueEnum;

/// A kind of processor.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, ValueEnum)]
pub enum DeviceKind {
    /// All cores of this machine.
    #[default]
    Cpu,
    /// The first NVIDIA GPU; the program must be built with the feature `cuda`.
    Cuda,
    /// The first GPU of any maker, through Vulkan or Metal; needs the feature `wgpu`.
    Wgpu,
}

impl DeviceKind {
    /// The products that suit it.
    pub fn products(self) -> Products {
        match self {
            DeviceKind::Cpu => Products::F32,
            DeviceKind::Cuda | DeviceKind::Wgpu => Products::Bf16,
        }
    }

    /// Opens it, without gradients; `.autodiff()` adds them.
    ///
    /// # Errors
    /// [`TrainError::Options`] if this program was built without it, or the machine has none.
    pub fn open(self) -> Result<Device, TrainError> {
        match self {
            DeviceKind::Cpu => Ok(Device::flex()),
            DeviceKind::Cuda => cuda(),
            DeviceKind::Wgpu => wgpu(),
        }
    }
}

#[cfg(feature = "cuda")]
fn cuda() -> Result<Device, TrainError> {
    // Asking burn for a device without a driver panics deep inside, so the driver is looked for first.
    // SAFETY is cudarc's: the check only tries to open the library.
    #[allow(unsafe_code)]
    let present = unsafe { cudarc::driver::sys::is_culib_present() };
    if !present {
        return Err(TrainError::Options(
            "--device cuda: libcuda.so.1 is missing: no NVIDIA driver on this machine; use --device cpu".into(),
        ));
    }
    Ok(Device::cuda(0))
}

#[cfg(not(feature = "cuda"))]
fn cuda() -> Result<Device, TrainError> {
    Err(TrainError::Options(
        "--device cuda: this program was built without CUDA; build it with `cargo build --release --features train,cuda`, or use --device cpu".into(),
    ))
}

#[cfg(feature = "wgpu")]
fn wgpu() -> Result<Device, TrainError> {
    use burn::tensor::{DeviceKind as Gpu, DeviceType};
    if Device::enumerate(DeviceType::Wgpu).into_vec().is_empty() {
        return Err(TrainError::Options(
            "--device wgpu: no GPU with a Vulkan or Metal driver was found; use --device cpu"
                .into(),
        ));
    }
    Ok(Device::wgpu(Gpu::DefaultDevice))
}

#[cfg(not(feature = "wgpu"))]
fn wgpu() -> Result<Device, TrainError> {
    Err(TrainError::Options(
        "--device wgpu: this program was built without it; build it with `cargo build --release --features train,wgpu`, or use --device cpu".into(),
    ))
}
