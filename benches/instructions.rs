//! Fixed work for counting instructions: `.ci/instructions` runs each case under callgrind and compares the counts.
//!
//! A count is repeatable to a fraction of a percent where a time is not. Valgrind knows no AVX-512 and says so to the
//! program, which then takes its AVX2 paths: these are what the counts guard.
#![allow(clippy::print_stdout)]

use anyhow::{Context, ensure};
use burn::{
    module::Param,
    tensor::{DType, Device, Tensor, TensorData},
};
use deepseek_ocr::{
    decoder::{
        Cache, Decoder, DecoderConfig, Mlp,
        ops::{Rows, expert_mlp},
    },
    encoder::ops as encoder,
};
use deepseek_ocr_core::{
    LinearWeight, StoredLinear,
    ops::{
        Precision, block_linear,
        flex::{Isa, Kernel},
        linear_with,
    },
    quant::{BlockFormat, BlockWeight},
};
use std::hint::black_box;

mod harness;

type Work = Box<dyn Fn() + Send + Sync>;
type Prepare = fn() -> Work;

/// Names and what they do; sizes are a piece of the model's own, a few million instructions each.
const CASES: [(&str, Prepare); 12] = [
    ("linear/bf16/1x1280x896", || linear([1, 1280, 896], DType::BF16)),
    ("linear/bf16/4x1280x896", || linear([4, 1280, 896], DType::BF16)),
    ("linear/bf16/96x768x768", || linear([96, 768, 768], DType::BF16)),
    ("linear/f16/1x1280x896", || linear([1, 1280, 896], DType::F16)),
    ("linear/q8/1x1280x896", || blocks([1, 1280, 896], BlockFormat::Q8)),
    ("linear/q4/1x1280x896", || blocks([1, 1280, 896], BlockFormat::Q4)),
    ("linear/q4/32x1280x128", || blocks([32, 1280, 128], BlockFormat::Q4)),
    ("expert_mlp/1", || experts(1)),
    ("expert_mlp/24", || experts(24)),
    ("prefill-and-step/40", answer),
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

/// A decoder a fifth as wide as the model: a dense and a mixed block.
fn decoder() -> Decoder {
    let config = DecoderConfig {
        vocab: 512,
        hidden: 256,
        layers: 2,
        heads: 2,
        dense_width: 512,
        dense_layers: 1,
        experts: 8,
        experts_per_token: 2,
        expert_width: 192,
        shared_width: 192,
        context: 64,
        rms_eps: 1e-6,
        rope_theta: 10_000.0,
    };
    let device = Device::flex();
    harness::fill(config.init(&device), harness::Storage::Bf16, &device)
}

fn experts(positions: usize) -> Work {
    let decoder = decoder();
    let x = numbers([positions, decoder.config().hidden], DType::F32);
    Box::new(move || {
        let Mlp::Moe(moe) = &decoder.layers[1].mlp else { unreachable!("the second block is a mixed one") };
        let routing = moe.gate.forward(Rows::Together(Precision::Exact), x.clone());
        drop(black_box(expert_mlp(Rows::Together(Precision::Exact), x.clone(), routing, moe)));
    })
}

/// A prompt and a step after it.
fn answer() -> Work {
    let decoder = decoder();
    let x = numbers([40, decoder.config().hidden], DType::F32);
    Box::new(move || {
        let mut cache = Cache::new(decoder.config(), 1, 41, &Device::flex());
        drop(black_box(decoder.prefill(x.clone(), &mut cache, 0)));
        drop(black_box(decoder.step(&[7], &[0], &mut cache)));
    })
}

/// Two windows, three heads.
fn rel_pos_attention() -> Work {
    const SIDE: usize = 14;
    const WIDTH: usize = 3 * 64;
    let x = numbers([2, SIDE, SIDE, WIDTH], DType::F32);
    let weight = Param::from_tensor(numbers([3 * WIDTH, WIDTH], DType::BF16));
    let bias = Some(Param::from_tensor(numbers([3 * WIDTH], DType::F32)));
    let qkv = StoredLinear { weight: LinearWeight::Stored(weight), bias };
    let tables = [(); 2].map(|()| numbers([2 * SIDE - 1, 64], DType::F32));
    Box::new(move || {
        let y = encoder::rel_pos_attention(Precision::Exact, x.clone(), &qkv, tables.clone());
        drop(black_box(y));
    })
}

fn gelu_erf() -> Work {
    let x = numbers([64 * 1024], DType::F32).into_data().try_to_vec::<f32>().expect("f32");
    Box::new(move || {
        let mut x = x.clone();
        Kernel::new(Precision::Exact).gelu_erf(&mut x);
        drop(black_box(x));
    })
}
