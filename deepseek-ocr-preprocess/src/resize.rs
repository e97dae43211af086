//! Pillow's bicubic resampling of 8-bit RGB, bit for bit: what the released processor resizes every view with.
//!
//! Two passes, horizontal first, each rounded to 8 bits. The weights are computed in `f64` and then fixed to 22
//! fractional bits, so the result does not depend on the machine, the number of threads or the vector width.

use image::RgbImage;
use rayon::prelude::*;

/// Bytes of a pixel.
const CHANNELS: usize = 3;

/// Fractional bits of a weight: 32, less 8 for the sample and 2 for the overshoot of negative lobes.
const PRECISION_BITS: u32 = 22;

/// One half in fixed point, so that the final shift rounds.
const HALF: i32 = 1 << (PRECISION_BITS - 1);

/// Reach of the bicubic kernel in source pixels, when it is not widened for shrinking.
const SUPPORT: f64 = 2.0;

/// The kernel's free parameter.
const A: f64 = -0.5;

/// Rows that the horizontal pass works on at once: the inner loop runs down a column of this many samples.
const LANES: usize = 16;

/// Samples of a row that the vertical pass accumulates at once; the sums stay in the first-level cache.
const BLOCK: usize = 1024;

/// Resizes to `width` x `height` with the filter of the released processor; the aspect is not kept.
///
/// # Panics
/// If a side of the image or of the result is zero.
pub fn resize(image: &RgbImage, width: u32, height: u32) -> RgbImage {
    let (old_width, old_height) = image.dimensions();
    assert!(old_width > 0 && old_height > 0, "an empty image cannot be resized");
    assert!(width > 0 && height > 0, "an image cannot be resized to nothing");
    let wide = (width != old_width).then(|| {
        let taps = Taps::new(old_width as usize, width as usize);
        horizontal(image.as_raw(), old_width as usize, &taps)
    });
    let samples = wide.as_ref().unwrap_or(image.as_raw());
    let samples = if height == old_height {
        samples.clone()
    } else {
        vertical(samples, width as usize, &Taps::new(old_height as usize, height as usize))
    };
    RgbImage::from_raw(width, height, samples).expect("both passes fill every row of the result")
}

/// For each output position, which inputs it sums and with what weights.
struct Taps {
    /// First input of each output position, and how many there are.
    spans: Vec<(usize, usize)>,
    /// `stride` fixed-point weights for each output position, of which the span's length are used.
    weights: Vec<i32>,
    stride: usize,
}

impl Taps {
    fn new(inputs: usize, outputs: usize) -> Self {
        let scale = inputs as f64 / outputs as f64;
        let widening = scale.max(1.0);
        let support = SUPPORT * widening;
        let stride = support.ceil() as usize * 2 + 1;
        let mut spans = Vec::with_capacity(outputs);
        let mut weights = vec![0; outputs * stride];
        for (position, weights) in weights.chunks_exact_mut(stride).enumerate() {
            let centre = (position as f64 + 0.5) * scale;
            // The casts drop the fraction and, being saturating, clamp below at 0.
            let first = (centre - support + 0.5) as usize;
            let end = ((centre + support + 0.5) as usize).min(inputs);
            let exact: Vec<f64> =
                (first..end).map(|input| bicubic((input as f64 - centre + 0.5) * (1.0 / widening))).collect();
            let sum: f64 = exact.iter().sum();
            for (weight, exact) in weights.iter_mut().zip(&exact) {
                *weight = (exact / sum * f64::from(1 << PRECISION_BITS)).round() as i32;
            }
            spans.push((first, end - first));
        }
        Self { spans, weights, stride }
    }

    /// `(first input, weights)` of each output position.
    fn iter(&self) -> impl Iterator<Item = (usize, &[i32])> {
        self.spans.iter().zip(self.weights.chunks_exact(self.stride)).map(|(&(first, len), w)| (first, &w[..len]))
    }

    /// `(first input, weights)` of one output position.
    fn at(&self, position: usize) -> (usize, &[i32]) {
        let (first, len) = self.spans[position];
        (first, &self.weights[position * self.stride..][..len])
    }
}

/// The cubic convolution kernel.
fn bicubic(x: f64) -> f64 {
    let x = x.abs();
    if x < 1.0 {
        ((A + 2.0) * x - (A + 3.0)) * x * x + 1.0
    } else if x < 2.0 {
        (((x - 5.0) * x + 8.0) * x - 4.0) * A
    } else {
        0.0
    }
}

/// Resizes every row of `width` pixels.
fn horizontal(samples: &[u8], width: usize, taps: &Taps) -> Vec<u8> {
    let (row, new_row) = (width * CHANNELS, taps.spans.len() * CHANNELS);
    let mut out = vec![0; samples.len() / row * new_row];
    let bands = out.par_chunks_mut(new_row * LANES).zip(samples.par_chunks(row * LANES));
    // A band is turned on its side first: a column of samples lies together and shares its weight.
    bands.for_each_init(
        || vec![[0; LANES]; row],
        |columns, (out, samples)| {
            for (lane, samples) in samples.chunks_exact(row).enumerate() {
                for (column, &sample) in columns.iter_mut().zip(samples) {
                    column[lane] = sample;
                }
            }
            for (position, (first, weights)) in taps.iter().enumerate() {
                let sums = weigh(&columns[first * CHANNELS..], weights);
                for (channel, sums) in sums.iter().enumerate() {
                    for (out, &sum) in out.chunks_exact_mut(new_row).zip(sums) {
                        out[position * CHANNELS + channel] = to_sample(sum);
                    }
                }
            }
        },
    );
    out
}

/// The weighted sums of the first `weights.len()` pixels, for each channel and lane.
fn weigh(columns: &[[u8; LANES]], weights: &[i32]) -> [[i32; LANES]; CHANNELS] {
    let mut sums = [[HALF; LANES]; CHANNELS];
    for (pixel, &weight) in columns.chunks_exact(CHANNELS).zip(weights) {
        for (sums, column) in sums.iter_mut().zip(pixel) {
            for (sum, &sample) in sums.iter_mut().zip(column) {
                *sum += weight * i32::from(sample);
            }
        }
    }
    sums
}

/// Resizes every column of an image that is `width` pixels wide.
fn vertical(samples: &[u8], width: usize, taps: &Taps) -> Vec<u8> {
    let row = width * CHANNELS;
    let mut out = vec![0; taps.spans.len() * row];
    out.par_chunks_mut(row).enumerate().for_each(|(position, out)| {
        let (first, weights) = taps.at(position);
        for (block, out) in out.chunks_mut(BLOCK).enumerate() {
            let mut sums = [HALF; BLOCK];
            let sums = &mut sums[..out.len()];
            for (samples, &weight) in samples[first * row..].chunks_exact(row).zip(weights) {
                for (sum, &sample) in sums.iter_mut().zip(&samples[block * BLOCK..]) {
                    *sum += weight * i32::from(sample);
                }
            }
            for (out, &sum) in out.iter_mut().zip(&*sums) {
                *out = to_sample(sum);
            }
        }
    });
    out
}

/// Back from fixed point; the negative lobes can leave the range of a sample.
fn to_sample(sum: i32) -> u8 {
    (sum >> PRECISION_BITS).clamp(0, 255) as u8
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn pattern(width: u32, height: u32) -> RgbImage {
        RgbImage::from_fn(width, height, |x, y| {
            image::Rgb([(x * 37 + y * 11) as u8, (x * x + 3 * y) as u8, (x ^ (y * 7)) as u8])
        })
    }

    /// The definition, one sample at a time.
    fn plain_rows(samples: &[u8], width: usize, new_width: usize) -> Vec<u8> {
        let taps = Taps::new(width, new_width);
        let mut out = Vec::new();
        for row in samples.chunks_exact(width * CHANNELS) {
            for (first, weights) in taps.iter() {
                for channel in 0..CHANNELS {
                    let sum: i64 = (first..)
                        .zip(weights)
                        .map(|(x, &weight)| i64::from(weight) * i64::from(row[x * CHANNELS + channel]))
                        .sum();
                    out.push(((sum + i64::from(HALF)) >> PRECISION_BITS).clamp(0, 255) as u8);
                }
            }
        }
        out
    }

    fn transpose(samples: &[u8], width: usize) -> Vec<u8> {
        let height = samples.len() / width / CHANNELS;
        (0..width)
            .flat_map(|x| (0..height).map(move |y| (y * width + x) * CHANNELS))
            .flat_map(|at| samples[at..at + CHANNELS].iter().copied())
            .collect()
    }

    #[test]
    fn the_same_size_changes_nothing() {
        let image = pattern(31, 17);
        assert_eq!(resize(&image, 31, 17), image);
    }

    #[test]
    fn a_flat_image_stays_flat() {
        for value in [0, 1, 127, 254, 255] {
            let image = RgbImage::from_pixel(53, 29, image::Rgb([value; 3]));
            assert!(resize(&image, 640, 5).as_raw().iter().all(|&sample| sample == value));
        }
    }

    proptest! {
        #[test]
        fn both_passes_equal_the_definition(w in 1u32..90, h in 1u32..90, nw in 1u32..90, nh in 1u32..90) {
            let image = pattern(w, h);
            let wide = plain_rows(image.as_raw(), w as usize, nw as usize);
            let tall = plain_rows(&transpose(&wide, nw as usize), h as usize, nh as usize);
            prop_assert_eq!(resize(&image, nw, nh).into_raw(), transpose(&tall, nh as usize));
        }

        #[test]
        fn sums_fit_32_bits(inputs in 1usize..5000, outputs in 1usize..2000) {
            let taps = Taps::new(inputs, outputs);
            for (_, weights) in taps.iter() {
                let reach: i64 = weights.iter().map(|&weight| i64::from(weight).abs() * 255).sum();
                prop_assert!(reach + i64::from(HALF) <= i64::from(i32::MAX));
            }
        }
    }
}
