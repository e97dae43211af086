//! Components at their own resolution to whole pixels, as libjpeg does (jdsample.c): by a triangle filter where a component has half as
//! many samples in a direction, by repetition elsewhere.

use super::header::{Component, Frame};
use rayon::prelude::*;

/// Pixels of `channels` bytes: `convert` gets a row of each component at full width, and the row of pixels.
pub(super) fn interleave(frame: &Frame, channels: usize, convert: impl Fn(&[&[u8]], &mut [u8]) + Sync) -> Vec<u8> {
    let (most_across, most_down) = frame.most();
    let mut pixels = vec![0; frame.width * frame.height * channels];
    let buffers = || vec![Vec::new(); frame.components.len()];
    pixels.par_chunks_mut((frame.width * channels).max(1)).enumerate().for_each_init(
        buffers,
        |buffers: &mut Vec<Vec<u8>>, (y, out)| {
            let mut rows = Vec::with_capacity(buffers.len());
            for (component, buffer) in frame.components.iter().zip(buffers) {
                let (across, down) = (most_across / component.across, most_down / component.down);
                rows.push(&row(component, across, down, y, buffer)[..frame.width]);
            }
            convert(&rows, out);
        },
    );
    pixels
}

/// Row `y` of the picture in a component that has to be stretched by whole factors; `buffer` may hold it.
fn row<'a>(component: &'a Component, across: usize, down: usize, y: usize, buffer: &'a mut Vec<u8>) -> &'a [u8] {
    /// The filter across needs a neighbour on both sides somewhere; libjpeg repeats the samples of narrower components.
    const MIN_WIDTH: usize = 3;
    let line = component.row(y / down);
    let smooth = component.width >= MIN_WIDTH;
    // The nearer row counts three times, the one above or below once.
    let other = || {
        let above = y.is_multiple_of(2);
        component.row(if above { (y / 2).saturating_sub(1) } else { (y / 2 + 1).min(component.height - 1) })
    };
    buffer.clear();
    match (across, down) {
        (1, 1) => return line,
        (2, 1) if smooth => {
            let sums = line.iter().map(|&sample| u32::from(sample));
            stretch(sums, buffer, [1, 2], 2);
        }
        (2, 2) if smooth => {
            let sums = line.iter().zip(other()).map(|(&near, &far)| 3 * u32::from(near) + u32::from(far));
            stretch(sums, buffer, [8, 7], 4);
        }
        (1, 2) => {
            let half = 1 + (y % 2) as u32;
            let sums = line.iter().zip(other()).map(|(&near, &far)| 3 * u32::from(near) + u32::from(far));
            buffer.extend(sums.map(|sum| ((sum + half) >> 2) as u8));
        }
        _ => buffer.extend(line.iter().flat_map(|&sample| std::iter::repeat_n(sample, across))),
    }
    buffer
}

/// Two samples for each of `sums`: three parts of it and one of its neighbour, with `halves` added to the left and the right one
/// before `shift` bits are dropped. The outermost ones have no neighbour and are four parts of their own.
fn stretch(sums: impl Iterator<Item = u32> + Clone, out: &mut Vec<u8>, halves: [u32; 2], shift: u32) {
    let before = sums.clone().take(1).chain(sums.clone());
    let after = sums.clone().skip(1).map(Some).chain(std::iter::once(None));
    for ((sum, before), after) in sums.zip(before).zip(after) {
        let after = after.unwrap_or(sum);
        out.push(((3 * sum + before + halves[0]) >> shift) as u8);
        out.push(((3 * sum + after + halves[1]) >> shift) as u8);
    }
}
