//! Fixed work for counting instructions: `.ci/instructions` runs each case under callgrind and compares the counts.
//!
//! A count is repeatable to a fraction of a percent where a time is not. Valgrind knows no AVX-512 and says so to the
//! program, which then takes its AVX2 paths: these are what the counts guard.
#![allow(clippy::print_stdout)]

use anyhow::{Context, ensure};
use burn::{
    module::Param,
    tensor::{DType, Device, Int, Tensor, TensorData},
};
use deepseek_ocr::{
    decoder::{GatedMlp, ops as decoder},
    encoder::ops as encoder,
};
use deepseek_ocr_core::{
    LinearWeight,
    ops::{Precision, block_linear, flex::Isa, linear_with},
    quant::{BlockFormat, BlockWeight},
};
use std::hint::black_box;

type Work = Box<dyn Fn() + Send + Sync>;

/// Names and what they do; sizes are a piece of the model's own, a few million instructions each.
const CASES: [(&str, fn() -> Work); 11] = [
    ("linear/bf16/1x1280x896", || linear([1, 1280, 896], DType::BF16)),
    ("linear/bf16/4x1280x896", || linear([4, 1280, 896], DType::BF16)),
    ("linear/bf16/96x768x768", || linear([96, 768, 768], DType::BF16)),
    ("linear/f16/1x1280x896", || linear([1, 1280, 896], DType::F16)),
    ("linear/q8/1x1280x896", || blocks([1, 1280, 896], BlockFormat::Q8)),
    ("linear/q4/1x1280x896", || blocks([1, 1280, 896], BlockFormat::Q4)),
    ("linear/q4/32x1280x128", || blocks([32, 1280, 128], BlockFormat::Q4)),
    ("expert_mlp/1", || experts(1)),
    ("expert_mlp/24", || experts(24)),
    ("rel_pos_attention/14", rel_pos_attention),
    ("gelu_erf/65536", gelu_erf),
];

fn main() -> anyhow::Result<()> {
    // `cargo bench` adds `--bench`.
    let Some(name) = std::env::args().skip(1).find(|argument| argument != "--bench") else {
        CASES.iter().for_each(|(name, _)| println!("{name}"));
        return Ok(());
    };
    let (_, prepare) = CASES.iter().find(|(case, _)| *case == name).context("no such case")?;
    ensure!(Isa::best() == Isa::Avx2, "counts are of the AVX2 paths, this is {:?}", Isa::best());
    // One thread, and inside it from the start: how work is divided must not depend on the machine.
    let pool = rayon::ThreadPoolBuilder::new().num_threads(1).build()?;
    pool.install(|| {
        let work = prepare();
        // Buffers that are kept for later grow now.
        work();
        counted(&work);
    });
    Ok(())
}

/// What callgrind counts, by this name.
#[inline(never)]
fn counted(work: &Work) {
    work();
}

/// Numbers that are the same in each run.
fn numbers<const D: usize>(shape: [usize; D], dtype: DType) -> Tensor<D> {
    let count = shape.iter().product::<usize>() as u32;
    let number = |i: u32| (i.wrapping_mul(2_654_435_761) >> 8) as f32 / (1 << 24) as f32 - 0.5;
    let data = TensorData::new((0..count).map(number).collect::<Vec<f32>>(), shape);
    Tensor::from_data(data.convert_dtype(dtype), (&Device::flex(), dtype))
}

fn linear([rows, inputs, outputs]: [usize; 3], dtype: DType) -> Work {
    let (x, weight) = (numbers([rows, inputs], DType::F32), numbers([outputs, inputs], dtype));
    Box::new(move || drop(black_box(linear_with(Precision::Exact, x.clone(), weight.clone(), None))))
}

fn blocks([rows, inputs, outputs]: [usize; 3], format: BlockFormat) -> Work {
    let x = numbers([rows, inputs], DType::F32);
    let weight = BlockWeight::pack(&Param::from_tensor(numbers([outputs, inputs], DType::F32)), format);
    Box::new(move || drop(black_box(block_linear(x.clone(), &weight, None))))
}

/// Some positions through 2 of 8 experts, a fifth as wide as the model's.
fn experts(positions: usize) -> Work {
    const HIDDEN: usize = 256;
    const WIDTH: usize = 192;
    const EXPERTS: usize = 8;
    let device = Device::flex();
    let stored = |mut mlp: GatedMlp| {
        for (layer, shape) in [
            (&mut mlp.gate_proj, [WIDTH, HIDDEN]),
            (&mut mlp.up_proj, [WIDTH, HIDDEN]),
            (&mut mlp.down_proj, [HIDDEN, WIDTH]),
        ] {
            layer.weight = LinearWeight::Stored(Param::from_tensor(numbers(shape, DType::BF16)));
        }
        mlp
    };
    let all: Vec<_> = (0..EXPERTS).map(|_| stored(GatedMlp::new(HIDDEN, WIDTH, &device))).collect();
    let x = numbers([positions, HIDDEN], DType::F32);
    let chosen: Vec<i32> = (0..positions as i32).flat_map(|i| [i % 8, (i * 3 + 1) % 8]).collect();
    let indices = Tensor::<2, Int>::from_data(TensorData::new(chosen, [positions, 2]), (&device, DType::I32));
    let weights = Tensor::<2>::full([positions, 2], 0.25, (&device, DType::F32));
    Box::new(move || drop(black_box(decoder::expert_mlp(x.clone(), indices.clone(), weights.clone(), &all))))
}

/// Two windows, three heads.
fn rel_pos_attention() -> Work {
    const SIDE: usize = 14;
    const HEAD: usize = 64;
    let squares = || numbers([2, 3, SIDE * SIDE, HEAD], DType::F32);
    let table = || numbers([2 * SIDE - 1, HEAD], DType::F32);
    let (q, k, v, h, w) = (squares(), squares(), squares(), table(), table());
    Box::new(move || {
        let y = encoder::rel_pos_attention(q.clone(), k.clone(), v.clone(), h.clone(), w.clone());
        drop(black_box(y));
    })
}

fn gelu_erf() -> Work {
    let x = numbers([64, 1024], DType::F32);
    Box::new(move || drop(black_box(encoder::gelu_erf(x.clone()))))
}
