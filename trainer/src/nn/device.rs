//! Where a run's tensors live.

use std::fmt;
use std::path::{Path, PathBuf};

use thiserror::Error;

/// The library that registers CUDA with LibTorch, beside the one this program is linked to.
/// The linker drops it, since no symbol of it is named (tch-rs#980): it is preloaded. TF32 products are switched on by the environment
/// (`TORCH_ALLOW_TF32_CUBLAS_OVERRIDE=1`); tch has no call for it.
const CUDA_LIBRARY: &str = "libtorch_cuda.so";
const LINKED_LIBRARY: &str = "libtorch_cpu.so";

/// Where parameters, batches and steps are: `cpu`, `cuda` (the first device) or `cuda:N`.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, serde::Serialize, serde::Deserialize)]
#[serde(try_from = "String", into = "String")]
pub enum Device {
    /// The processor.
    #[default]
    Cpu,
    /// A CUDA device by its number, from 0.
    Cuda(usize),
}

/// A device that cannot be used.
#[derive(Debug, Error, PartialEq, Eq)]
pub enum DeviceError {
    /// The name is none.
    #[error("run.device is {0:?}; it must be \"cpu\", \"cuda\" or \"cuda:N\" with N from 0")]
    Name(String),
    /// LibTorch sees no CUDA device: nothing falls back to the processor in silence.
    #[error(
        "run.device is {asked}, but LibTorch finds no CUDA device; check the driver (nvidia-smi) and that LIBTORCH is a CUDA build, or set run.device = \"cpu\""
    )]
    NoCuda {
        /// As configured.
        asked: String,
    },
    /// Fewer devices than asked for.
    #[error("run.device is cuda:{index}, but there are {count} CUDA devices; the numbers begin at 0")]
    NoSuchDevice {
        /// Asked for.
        index: usize,
        /// There.
        count: i64,
    },
}

impl Device {
    /// The device, checked: CUDA asked for and not there is an error.
    ///
    /// # Errors
    /// LibTorch has no CUDA device, or not that many.
    pub fn open(self) -> Result<tch::Device, DeviceError> {
        let Self::Cuda(index) = self else { return Ok(tch::Device::Cpu) };
        if !tch::Cuda::is_available() {
            return Err(DeviceError::NoCuda { asked: self.to_string() });
        }
        let count = tch::Cuda::device_count();
        if index as i64 >= count {
            return Err(DeviceError::NoSuchDevice { index, count });
        }
        Ok(tch::Device::Cuda(index))
    }

    /// The library to preload before this device can be opened. The linker drops LibTorch's CUDA part, since no symbol of it is named
    /// (tch-rs#980), and LibTorch registers CUDA only when that library is loaded before the first tensor.
    pub fn library_to_preload(self) -> Option<PathBuf> {
        if self == Self::Cpu || tch::Cuda::is_available() {
            return None;
        }
        let maps = std::fs::read_to_string("/proc/self/maps").ok()?;
        let linked =
            maps.lines().find_map(|line| line.split_whitespace().last().filter(|path| path.ends_with(LINKED_LIBRARY)))?;
        let library = Path::new(linked).with_file_name(CUDA_LIBRARY);
        library.exists().then_some(library)
    }
}

impl fmt::Display for Device {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Cpu => f.write_str("cpu"),
            Self::Cuda(index) => write!(f, "cuda:{index}"),
        }
    }
}

impl From<Device> for String {
    fn from(device: Device) -> Self {
        device.to_string()
    }
}

impl TryFrom<String> for Device {
    type Error = DeviceError;

    fn try_from(name: String) -> Result<Self, DeviceError> {
        match name.as_str() {
            "cpu" => Ok(Self::Cpu),
            "cuda" => Ok(Self::Cuda(0)),
            other => match other.strip_prefix("cuda:").map(str::parse) {
                Some(Ok(index)) => Ok(Self::Cuda(index)),
                _ => Err(DeviceError::Name(name)),
            },
        }
    }
}

/// Waits until a device has done all that was asked of it; a clock read before that times the asking.
pub fn synchronise(device: tch::Device) {
    if let tch::Device::Cuda(index) = device {
        tch::Cuda::synchronize(index as i64);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_of_devices_are_read_and_written() {
        for (name, device, written) in
            [("cpu", Device::Cpu, "cpu"), ("cuda", Device::Cuda(0), "cuda:0"), ("cuda:3", Device::Cuda(3), "cuda:3")]
        {
            let read = Device::try_from(name.to_owned()).unwrap();
            assert_eq!((read, read.to_string().as_str()), (device, written));
        }
        let error = Device::try_from("gpu".to_owned()).unwrap_err().to_string();
        assert!(error.contains("run.device is \"gpu\"") && error.contains("cuda:N"), "{error}");
    }

    /// Promise 8: no silent slow path.
    #[test]
    fn cuda_asked_for_and_not_there_is_an_error() {
        if !tch::Cuda::is_available() {
            let error = Device::Cuda(0).open().unwrap_err().to_string();
            assert!(error.contains("run.device is cuda:0") && error.contains("run.device = \"cpu\""), "{error}");
        }
        assert_eq!(Device::Cpu.open(), Ok(tch::Device::Cpu));
    }
}
