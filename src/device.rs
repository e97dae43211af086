//! Devices by name, for programs that let their users choose.

use burn::tensor::Device;
#[cfg(feature = "wgpu")]
use burn::tensor::DeviceKind;
#[cfg(any(feature = "wgpu", feature = "cuda", feature = "rocm"))]
use burn::tensor::DeviceType;
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
/// To share the wgpu device of a program that has one, register it with `Device::wgpu_options().setup(..)` (its types are in the module `wgpu`) and
/// give the result to the loader.
///
/// # Errors
/// [`Error::DeviceUnavailable`] says which feature to add when the backend is not compiled in, and which driver when it finds no
/// device.
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
        "wgpu" => present(DeviceType::Wgpu, 0, "a driver for Vulkan, Metal or DirectX 12")
            .map(|()| Device::wgpu(DeviceKind::DefaultDevice))
            .map_err(unavailable),
        #[cfg(feature = "vulkan")]
        "vulkan" => present(DeviceType::Vulkan, 0, "a driver for Vulkan")
            .map(|()| Device::vulkan(DeviceKind::DefaultDevice))
            .map_err(unavailable),
        #[cfg(feature = "metal")]
        "metal" => present(DeviceType::Metal, 0, "a driver for Metal")
            .map(|()| Device::metal(DeviceKind::DefaultDevice))
            .map_err(unavailable),
        #[cfg(feature = "cuda")]
        "cuda" => {
            present(DeviceType::Cuda, index, "the NVIDIA driver").map(|()| Device::cuda(index)).map_err(unavailable)
        }
        #[cfg(feature = "rocm")]
        "rocm" => {
            present(DeviceType::Rocm, index, "the ROCm runtime").map(|()| Device::rocm(index)).map_err(unavailable)
        }
        known if DEVICES.contains(&known) => {
            Err(unavailable(format!("build with the feature `{known}` of `deepseek-ocr`")))
        }
        _ => Err(unavailable(format!("the known devices are {}", DEVICES.join(", ")))),
    }
}

/// Whether there is a device of this number: backends find out only when they first compute, and panic.
#[cfg(any(feature = "wgpu", feature = "cuda", feature = "rocm"))]
fn present(kind: DeviceType, index: usize, driver: &str) -> Result<(), String> {
    match Device::enumerate(kind).len() {
        0 => Err(format!("no device was found, install {driver}")),
        count if index < count => Ok(()),
        count => Err(format!("the last device found has number {}", count - 1)),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_not_there_says_what_to_add() {
        for name in DEVICES {
            match device(name) {
                Ok(found) => assert_eq!(found, device(name).expect("it was there a moment ago")),
                Err(error) => {
                    let text = error.to_string();
                    assert!(text.contains(&format!("the feature `{name}`")) || text.contains("install"), "{text}");
                }
            }
        }
    }

    #[test]
    fn numbers_are_checked() {
        for name in ["flex:1", "cuda:first", "cuda:60000"] {
            assert!(matches!(device(name), Err(Error::DeviceUnavailable { .. })), "{name}");
        }
    }
}
