//! Which processor trains, picked at run time.
//!
//! With the feature `cuda` it has one unsafe call: asking whether NVIDIA's driver can be loaded.

use super::Products;
use crate::train::TrainError;
use burn::tensor::Device;
use std::str::FromStr;

/// A kind of processor.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum DeviceKind {
    /// All cores of this machine.
    #[default]
    Cpu,
    /// The NVIDIA GPU of this number, from 0; the program must be built with the feature `cuda`.
    Cuda(usize),
    /// The first GPU of any maker, through Vulkan or Metal; needs the feature `wgpu`.
    Wgpu,
}

/// `cpu`, `cuda`, `cuda:1`, `wgpu`. Several GPUs are refused with what does it: one process has one device.
impl FromStr for DeviceKind {
    type Err = String;

    fn from_str(text: &str) -> Result<DeviceKind, String> {
        match text {
            "cpu" => return Ok(DeviceKind::Cpu),
            "cuda" => return Ok(DeviceKind::Cuda(0)),
            "wgpu" => return Ok(DeviceKind::Wgpu),
            _ => (),
        }
        let numbers = text.strip_prefix("cuda:").map(|n| {
            let all = n.split(',').map(str::parse);
            all.collect::<Result<Vec<usize>, _>>()
        });
        match numbers {
            Some(Ok(one)) if one.len() == 1 => Ok(DeviceKind::Cuda(one[0])),
            Some(Ok(several)) => Err(format!(
                "a process computes on one GPU: start {} of them, each with its own --device cuda:N and --shard I/{}",
                several.len(),
                several.len()
            )),
            _ => Err("cpu, cuda, cuda:N (the GPU of this number, from 0) or wgpu".into()),
        }
    }
}

impl DeviceKind {
    /// The products that suit it.
    pub fn products(self) -> Products {
        match self {
            DeviceKind::Cpu => Products::F32,
            DeviceKind::Cuda(_) | DeviceKind::Wgpu => Products::Bf16,
        }
    }

    /// Opens it, without gradients; `.autodiff()` adds them.
    ///
    /// # Errors
    /// [`TrainError::Options`] if this program was built without it, or the machine has none.
    pub fn open(self) -> Result<Device, TrainError> {
        match self {
            DeviceKind::Cpu => Ok(Device::flex()),
            DeviceKind::Cuda(number) => cuda(number),
            DeviceKind::Wgpu => wgpu(),
        }
    }
}

#[cfg(feature = "cuda")]
fn cuda(number: usize) -> Result<Device, TrainError> {
    use burn::tensor::DeviceType;
    // Asking burn for a device without a driver panics deep inside, so the driver is looked for first.
    // SAFETY is cudarc's: the check only tries to open the library.
    #[allow(unsafe_code)]
    let present = unsafe { cudarc::driver::sys::is_culib_present() };
    if !present {
        return Err(TrainError::Options(
            "--device cuda: libcuda.so.1 is missing: no NVIDIA driver on this machine; use --device cpu".into(),
        ));
    }
    let count = Device::enumerate(DeviceType::Cuda).into_vec().len();
    if number >= count {
        let names: Vec<String> = (0..count).map(cuda_name).collect();
        return Err(TrainError::Options(not_there(number, &names)));
    }
    Ok(Device::cuda(number))
}

/// What NVIDIA's driver calls a GPU; nothing if it does not say.
#[cfg(feature = "cuda")]
fn cuda_name(number: usize) -> String {
    use cudarc::driver::result::{device, init};
    let name = init()
        .and_then(|()| device::get(number as i32))
        .and_then(device::get_name);
    name.unwrap_or_default()
}

/// Which GPUs there are, where one is asked for that is not.
#[cfg(any(feature = "cuda", test))]
fn not_there(number: usize, names: &[String]) -> String {
    let all = names
        .iter()
        .enumerate()
        .map(|(i, name)| match name.as_str() {
            "" => format!("cuda:{i}"),
            name => format!("cuda:{i} ({name})"),
        });
    match names.is_empty() {
        true => {
            format!("--device cuda:{number}: NVIDIA's driver is here, but no GPU; use --device cpu")
        }
        false => format!(
            "--device cuda:{number}: this machine has no GPU of that number, but {}",
            all.collect::<Vec<_>>().join(", ")
        ),
    }
}

#[cfg(not(feature = "cuda"))]
fn cuda(_: usize) -> Result<Device, TrainError> {
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

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_gpu_has_a_number_and_several_are_several_processes() {
        let of = |text: &str| DeviceKind::from_str(text);
        assert_eq!(of("cuda"), Ok(DeviceKind::Cuda(0)));
        assert_eq!(of("cuda:3"), Ok(DeviceKind::Cuda(3)));
        let several = of("cuda:0,1").unwrap_err();
        assert!(
            several.contains("start 2 of them") && several.contains("--shard I/2"),
            "{several}"
        );
        for odd in ["cuda:", "cuda:x", "gpu", "cuda:1,"] {
            assert!(of(odd).unwrap_err().contains("cuda:N"), "{odd}");
        }
    }

    #[test]
    fn the_gpus_that_are_there_are_named() {
        let two = ["NVIDIA H200".to_string(), String::new()];
        assert_eq!(
            not_there(2, &two),
            "--device cuda:2: this machine has no GPU of that number, but cuda:0 (NVIDIA H200), cuda:1"
        );
        assert!(not_there(0, &[]).contains("no GPU; use --device cpu"));
    }
}
