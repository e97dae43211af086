//! Random weights in their storage type, a few gigabytes a second: what a loaded checkpoint would hold.

use burn::{
    module::{Module, ModuleMapper, Param},
    tensor::{DType, Device, Int, Tensor, TensorData},
};
use deepseek_ocr_core::quant::BlockFormat;
use half::{bf16, f16};
use std::thread;

/// The type of the large matrices; everything else is f32, as after loading.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Storage {
    /// As released.
    Bf16,
    /// Widened.
    F32,
}

/// Modules whose matrices stay in the checkpoint's type, as `deepseek_ocr_core::Loading` has it.
const STORED: [&str; 2] = ["Enum:LinearWeight", TABLE];

/// The module of matrices in blocks of 8 or 4 bits.
const BLOCKS: &str = "Struct:BlockWeight";

/// Scales of blocks as bits of f16, with a random mantissa: 2^-12 to 2^-11, which gives weights as large as the others.
const SCALE: u16 = 0x0c00;
const SCALE_RANDOM: u16 = 0x03ff;

/// Bits that are set in four levels of 8 bits and in eight indices of 4: a level is never -128, and levels are zero in the mean.
/// With another mean all positions would share a part in their activations that outweighs the rest, and their experts.
const LEVELS_Q8: u32 = 0x0101_0101;
const LEVELS_Q4: u32 = 0x1111_1111;

/// Numbers with a random sign and a magnitude of 2^-7 to 2^-5, 0.018 in the mean square, as bits of bf16: the sign, the
/// exponent's last bit and the mantissa are random. So activations neither grow nor vanish over the layers.
const FIXED: u16 = 0x3c00;
const RANDOM: u16 = 0x80ff;

/// Embeddings are 64 times as large, near one: beside smaller ones the part that attention gives to all positions alike
/// would weigh most, and they would share their experts.
const TABLE: &str = "Struct:TokenEmbedding";
const FIXED_TABLE: u16 = FIXED + (6 << 7);

/// The same numbers with f32's longer mantissa.
const FIXED_F32: u32 = (FIXED as u32) << 16;
const RANDOM_F32: u32 = (RANDOM as u32) << 16 | 0xffff;

/// Gives random weights to every parameter of `module`.
pub fn fill<M: Module>(module: M, storage: Storage, device: &Device) -> M {
    module.map(&mut Filler { storage, device, containers: Vec::new(), seed: 1 })
}

struct Filler<'a> {
    storage: Storage,
    device: &'a Device,
    containers: Vec<String>,
    seed: u64,
}

impl ModuleMapper for Filler<'_> {
    fn enter_module(&mut self, _name: &str, container_type: &str) {
        self.containers.push(container_type.to_owned());
    }

    fn exit_module(&mut self, _name: &str, _container_type: &str) {
        self.containers.pop();
    }

    fn map_float<const D: usize>(&mut self, param: Param<Tensor<D>>) -> Param<Tensor<D>> {
        let shape = param.lazy_shape();
        let container = self.containers.last().map_or("", String::as_str);
        let stored = D == 2 && STORED.contains(&container) && self.storage == Storage::Bf16;
        self.seed += 1;
        let (data, dtype) = if container == BLOCKS {
            let mut scales = vec![f16::ZERO; shape.num_elements()];
            parallel(&mut scales, self.seed, |bits| f16::from_bits(SCALE | bits as u16 & SCALE_RANDOM));
            (TensorData::new(scales, shape), DType::F16)
        } else if stored {
            let mut numbers = vec![bf16::ZERO; shape.num_elements()];
            let fixed = if container == TABLE { FIXED_TABLE } else { FIXED };
            parallel(&mut numbers, self.seed, |bits| bf16::from_bits(fixed | bits as u16 & RANDOM));
            (TensorData::new(numbers, shape), DType::BF16)
        } else {
            // A norm's scale, the only vector beside biases and embeddings, is near one.
            let offset = if container.ends_with("Norm") { 1.0 } else { 0.0 };
            let mut numbers = vec![0.0f32; shape.num_elements()];
            let number = |bits: u64| offset + f32::from_bits(FIXED_F32 | bits as u32 & RANDOM_F32);
            parallel(&mut numbers, self.seed, number);
            (TensorData::new(numbers, shape), DType::F32)
        };
        Param::initialized(param.id, Tensor::from_data(data, (self.device, dtype)))
    }

    fn map_int<const D: usize>(&mut self, param: Param<Tensor<D, Int>>) -> Param<Tensor<D, Int>> {
        if self.containers.last().is_none_or(|container| container != BLOCKS) {
            return param;
        }
        let shape = param.lazy_shape();
        self.seed += 1;
        let set = if shape[2] == BlockFormat::Q8.vectors() { LEVELS_Q8 } else { LEVELS_Q4 };
        let mut levels = vec![0i32; shape.num_elements()];
        parallel(&mut levels, self.seed, |bits| (bits as u32 | set) as i32);
        let levels = Tensor::from_data(TensorData::new(levels, shape), (self.device, DType::I32));
        Param::initialized(param.id, levels)
    }
}

/// Fills `numbers` from random bits over all threads; small ones on this one.
fn parallel<T: Send>(numbers: &mut [T], seed: u64, number: impl Fn(u64) -> T + Sync) {
    const ALONE: usize = 1 << 18;
    let threads = thread::available_parallelism().map_or(1, usize::from);
    if numbers.len() < ALONE {
        return stream(numbers, seed << 8, &number);
    }
    let part = numbers.len().div_ceil(threads);
    thread::scope(|scope| {
        for (index, part) in numbers.chunks_mut(part).enumerate() {
            let number = &number;
            scope.spawn(move || stream(part, seed << 8 | index as u64, number));
        }
    });
}

/// Eight generators side by side (xorshift64), so that the compiler makes vectors of them.
fn stream<T>(numbers: &mut [T], seed: u64, number: impl Fn(u64) -> T) {
    let mut states: [u64; 8] = std::array::from_fn(|lane| {
        (seed << 3 | lane as u64).wrapping_mul(0x9e37_79b9_7f4a_7c15).wrapping_add(0x1234_5678_9abc_def1) | 1
    });
    for chunk in numbers.chunks_mut(states.len()) {
        for (slot, state) in chunk.iter_mut().zip(&mut states) {
            *state ^= *state << 13;
            *state ^= *state >> 7;
            *state ^= *state << 17;
            *slot = number(*state >> 16);
        }
    }
}
