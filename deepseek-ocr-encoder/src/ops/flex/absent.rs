//! What stands in for the x86 instruction sets on other machines.

use super::simd::Work;

pub(super) unsafe fn run<W: Work>(_: W) -> W::Output {
    unreachable!("asked for x86 instructions on another machine")
}
