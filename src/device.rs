//! Devices by name, for programs that let their users choose.

use burn::tensor::Device;
use deepseek_ocr_core::{Error, Result};

/// Names that [`device`] knows, with the feature that brings each.
pub const DEVICES: [&str; 6] = ["flex", "wgpu", "vulkan", "metal", "cuda", "rocm"];

/// The device of this name: `flex`, `wgpu`, `vulkan`, `metal`, `cuda` or `rocm`; `cuda:1` and `rocm:1` choose among several.
///
/// ```
/// let error = deepseek_ocr::device("abacus").unwrap_err();
/// assert!(error.to_string().starts_with("device abacus is not available"));
/// ```
///
/// # Errors
/// [`Error::DeviceUnavailable`] says which feature to add when the backend is not compiled in.
pub fn device(name: &str) -> Result<Device> {
    let (backend, index) = name.split_once(':').unwrap_or((name, "0"));
    let unavailable = |remedy: String| Error::DeviceUnavailable { device: name.to_owned(), remedy };
    let index: usize = index.parse().map_err(|_| unavailable(format!("{index:?} is not a device number")))?;
    if index > 0 && !matches!(backend, "cuda" | "rocm") {
        return Err(unavailable(format!("devices of {backend} are not numbered")));
    }
    match backend {
        #[cfg(feature = "flex")]
        "flex" => Ok(Device::flex()),
        #[cfg(feature = "wgpu")]
        "wgpu" => Ok(Device::wgpu(burn::tensor::DeviceKind::DefaultDevice)),
        #[cfg(feature = "vulkan")]
        "vulkan" => Ok(Device::vulkan(burn::tensor::DeviceKind::DefaultDevice)),
        #[cfg(feature = "metal")]
        "metal" => Ok(Device::metal(burn::tensor::DeviceKind::DefaultDevice)),
        #[cfg(feature = "cuda")]
        "cuda" => Ok(Device::cuda(index)),
        #[cfg(feature = "rocm")]
        "rocm" => Ok(Device::rocm(index)),
        known if DEVICES.contains(&known) => {
            Err(unavailable(format!("build with the feature `{known}` of `deepseek-ocr`")))
        }
        _ => Err(unavailable(format!("the known devices are {}", DEVICES.join(", ")))),
    }
}
