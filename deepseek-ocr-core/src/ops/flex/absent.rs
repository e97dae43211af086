//! What stands in for the x86 instruction sets on other machines.

use super::isa::Work;

pub(super) fn is_available() -> bool {
    false
}

pub(super) fn has_bf16() -> bool {
    false
}

pub(super) unsafe fn run<W: Work>(_: W) -> W::Output {
    unreachable!("asked for x86 instructions on another machine")
}

pub(super) unsafe fn run_with_bf16<W: Work>(_: W) -> W::Output {
    unreachable!("asked for x86 instructions on another machine")
}
