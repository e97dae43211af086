//! Matrices to a device, in a type that it has.
//!
//! On the CPU nothing moves: the device reads where the file is mapped. A GPU gets a copy, and what is on the way to it is bounded: a
//! type that it lacks is converted a part at a time, and from time to time the host waits for the device and lets the file's pages go.

use super::Checkpoint;
use crate::{Error, Result};
use burn::tensor::{DType, Device, Tensor, TensorData};
use half::{bf16, f16, slice::HalfFloatSliceExt};
use std::collections::BTreeMap;

/// Numbers that are converted at once: 64 MiB in single precision.
const PART: usize = 16 << 20;

/// Bytes that may be on the way to a device.
const PENDING: usize = 256 << 20;

/// Below this largest number f16 would lose more of a matrix than bf16's own rounding: f16 rounds small numbers by up to 2^-25, which
/// has to be at most 2^-12 of the largest.
const SMALLEST_RANGE: f32 = 1.0 / 8192.0;

/// What goes to a device while a checkpoint is loaded.
#[derive(Debug)]
pub(super) struct Upload<'a> {
    device: &'a Device,
    /// Names and bytes on the way; nothing for a device that reads where the file is mapped.
    pending: Option<(Vec<String>, usize)>,
    /// How many matrices are kept in another type than stored.
    replaced: BTreeMap<(&'static str, &'static str), usize>,
}

impl<'a> Upload<'a> {
    pub(super) fn new(device: &'a Device) -> Self {
        let pending = copies(device).then(Default::default);
        Self { device, pending, replaced: BTreeMap::new() }
    }

    pub(super) fn device(&self) -> &'a Device {
        self.device
    }

    /// A matrix in its own type where the device has it, else in f16 if that holds its numbers, else in f32.
    pub(super) fn matrix<const D: usize>(&mut self, data: TensorData) -> Tensor<D> {
        let (stored, kept) = (data.dtype(), kept(&data, |dtype| self.device.supports_dtype(dtype)));
        if stored == kept {
            return Tensor::from_data(data, (self.device, kept));
        }
        *self.replaced.entry((stored.name(), kept.name())).or_default() += 1;
        let shape = data.shape();
        let width: usize = shape[1..].iter().product();
        let rows = (PART / width.max(1)).max(1);
        let parts = (0..shape[0]).step_by(rows).map(|first| {
            let count = rows.min(shape[0] - first);
            let mut shape = shape.clone();
            shape[0] = count;
            let values = floats(&data, first * width..(first + count) * width);
            Tensor::from_data(converted(values, shape, kept), (self.device, kept))
        });
        let mut parts: Vec<Tensor<D>> = parts.collect();
        if parts.len() == 1 { parts.remove(0) } else { Tensor::cat(parts, 0) }
    }

    /// Counts a tensor of so many bytes as on its way.
    pub(super) fn sent(&mut self, name: &str, bytes: usize, checkpoint: &Checkpoint) -> Result<()> {
        match &mut self.pending {
            Some((names, pending)) => {
                names.push(name.to_owned());
                *pending += bytes;
                if *pending < PENDING { Ok(()) } else { self.settle(checkpoint) }
            }
            None => Ok(()),
        }
    }

    /// Waits until everything is on the device.
    pub(super) fn settle(&mut self, checkpoint: &Checkpoint) -> Result<()> {
        if let Some((names, pending)) = &mut self.pending {
            self.device.sync().map_err(|error| Error::Execution { source: error.to_string().into() })?;
            names.drain(..).for_each(|name| checkpoint.release(&name));
            *pending = 0;
        }
        Ok(())
    }

    /// Tells which types the device lacked.
    pub(super) fn report(&self) {
        for ((stored, kept), matrices) in &self.replaced {
            tracing::warn!(matrices, device = ?self.device, "the device lacks {stored}: weights are kept in {kept}");
        }
    }
}

/// Whether tensors of this device lie elsewhere than in the host's memory.
fn copies(device: &Device) -> bool {
    #[cfg(feature = "_cube")]
    return crate::ops::cube::is_gpu(device);
    #[cfg(not(feature = "_cube"))]
    {
        let _ = device;
        false
    }
}

/// The type in which a device that has these types keeps a matrix.
fn kept(data: &TensorData, has: impl Fn(DType) -> bool) -> DType {
    let stored = data.dtype();
    if has(stored) {
        return stored;
    }
    let fits = || match data.as_slice::<bf16>() {
        Ok(values) => {
            let largest = values.iter().map(|value| value.to_f32().abs()).filter(|value| value.is_finite());
            let largest = largest.fold(0.0, f32::max);
            largest == 0.0 || (SMALLEST_RANGE..=f16::MAX.to_f32()).contains(&largest)
        }
        Err(_) => false,
    };
    if stored == DType::BF16 && has(DType::F16) && fits() { DType::F16 } else { DType::F32 }
}

/// Some of the numbers in single precision.
fn floats(data: &TensorData, range: std::ops::Range<usize>) -> Vec<f32> {
    let mut values = vec![0.0; range.len()];
    match data.dtype() {
        DType::BF16 => data.as_slice::<bf16>().expect("bf16")[range].convert_to_f32_slice(&mut values),
        DType::F16 => data.as_slice::<f16>().expect("f16")[range].convert_to_f32_slice(&mut values),
        _ => values.copy_from_slice(&data.as_slice::<f32>().expect("checkpoints hold bf16, f16 and f32")[range]),
    }
    values
}

fn converted(values: Vec<f32>, shape: burn::tensor::Shape, dtype: DType) -> TensorData {
    match dtype {
        DType::F16 => {
            let mut halves = vec![f16::ZERO; values.len()];
            halves.convert_from_f32_slice(&values);
            TensorData::new(halves, shape)
        }
        _ => TensorData::new(values, shape),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn matrix(values: [f32; 4]) -> TensorData {
        TensorData::new(values.map(bf16::from_f32).to_vec(), [2, 2])
    }

    #[test]
    fn the_type_is_the_nearest_that_the_device_has_and_that_is_safe() {
        let plain = matrix([0.5, -1.0, 1e-9, f32::INFINITY]);
        assert_eq!(kept(&plain, |_| true), DType::BF16);
        let no_bf16 = |dtype| dtype != DType::BF16;
        assert_eq!(kept(&plain, no_bf16), DType::F16);
        assert_eq!(kept(&matrix([0.0; 4]), no_bf16), DType::F16);
        assert_eq!(kept(&matrix([1.0, -70_000.0, 0.0, 2.0]), no_bf16), DType::F32);
        assert_eq!(kept(&matrix([1e-5, -2e-5, 0.0, 1e-6]), no_bf16), DType::F32);
        assert_eq!(kept(&plain, |dtype| dtype == DType::F32), DType::F32);
        let half = TensorData::new(vec![f16::ONE; 4], [2, 2]);
        assert_eq!(kept(&half, |dtype| dtype == DType::F32), DType::F32);
    }

    #[test]
    fn conversion_keeps_what_both_types_hold() {
        let data = matrix([0.5, -1.25, 3.0, 65_280.0]);
        let halves = converted(floats(&data, 1..4), [3].into(), DType::F16);
        assert_eq!(halves.as_slice::<f16>().expect("f16"), [-1.25, 3.0, 65_280.0].map(f16::from_f32));
        let singles = converted(floats(&data, 0..2), [2].into(), DType::F32);
        assert_eq!(singles.as_slice::<f32>().expect("f32"), [0.5, -1.25]);
    }
}
