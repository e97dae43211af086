//! A matrix in blocks as a module.

use super::{BlockFormat, pack};
use burn::{
    module::{Module, Param, ParamId},
    tensor::{DType, Device, FloatDType, Int, Shape, Tensor, TensorData},
};
use std::sync::{Arc, OnceLock};

/// A matrix `[outputs, inputs]` in blocks of 8 or 4 bits.
#[derive(Module, Debug)]
pub struct BlockWeight {
    /// `[outputs / 16, inputs / 32, 8 or 4, 16]`: four levels of an output in a word.
    pub levels: Param<Tensor<4, Int>>,
    /// `[outputs / 16, inputs / 32, 16]`; f16, or f32 on a device that lacks it.
    pub scales: Param<Tensor<3>>,
}

impl BlockWeight {
    /// A matrix of levels and scales in the shapes of the fields.
    ///
    /// # Panics
    /// If the levels have the shape of no format.
    pub fn new(levels: Tensor<4, Int>, scales: Tensor<3>) -> Self {
        let parts = (Param::initialized(ParamId::new(), levels), Param::initialized(ParamId::new(), scales));
        let weight = Self { levels: parts.0, scales: parts.1 };
        weight.parts();
        weight
    }

    /// Packs a matrix; one that is not drawn yet is drawn and packed when it is first used.
    ///
    /// # Panics
    /// If its size does not [fit](BlockFormat::fits), or it holds numbers that are not finite.
    pub fn pack(weight: &Param<Tensor<2>>, format: BlockFormat) -> Self {
        let (size, device) = (weight.lazy_shape().dims(), weight.lazy_device());
        let (levels_shape, scales_shape) = (format.levels_shape(size), BlockFormat::scales_shape(size));
        let packed = Arc::new(Lazy { weight: weight.clone(), format, packed: OnceLock::new() });
        let other = Arc::clone(&packed);
        let levels = move |_: &Device, _: bool| packed.get().0.clone();
        let scales = move |_: &Device, _: bool| other.get().1.clone();
        let (levels_shape, scales_shape) = (Shape::from(levels_shape), Shape::from(scales_shape));
        Self {
            levels: Param::uninitialized(ParamId::new(), levels, device.clone(), false, levels_shape),
            scales: Param::uninitialized(ParamId::new(), scales, device, false, scales_shape),
        }
    }

    /// The format.
    pub fn format(&self) -> BlockFormat {
        self.parts().0
    }

    /// Outputs and inputs.
    pub fn dims(&self) -> [usize; 2] {
        self.parts().1
    }

    fn parts(&self) -> (BlockFormat, [usize; 2]) {
        let shape = self.levels.lazy_shape();
        BlockFormat::of_levels(&shape).expect("levels have the shape of a format")
    }
}

/// A matrix that is packed when it is first used.
struct Lazy {
    weight: Param<Tensor<2>>,
    format: BlockFormat,
    packed: OnceLock<(Tensor<4, Int>, Tensor<3>)>,
}

impl Lazy {
    fn get(&self) -> &(Tensor<4, Int>, Tensor<3>) {
        self.packed.get_or_init(|| {
            let (weight, device) = (self.weight.val(), self.weight.lazy_device());
            let packed = pack(&weight.into_data(), self.format).expect("weights are finite");
            (levels_on(packed.levels, &device), scales_on(packed.scales, &device))
        })
    }
}

/// Uploads levels.
pub(crate) fn levels_on<const D: usize>(levels: TensorData, device: &Device) -> Tensor<D, Int> {
    Tensor::from_data(levels, (device, DType::I32))
}

/// Uploads scales in the type that the device has.
pub(crate) fn scales_on<const D: usize>(scales: TensorData, device: &Device) -> Tensor<D> {
    let dtype = if device.supports_dtype(DType::F16) { FloatDType::F16 } else { FloatDType::F32 };
    Tensor::from_data(scales.convert_dtype(dtype.into()), (device, DType::from(dtype)))
}
