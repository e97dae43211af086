//! The integration tests, one binary: each test binary links the whole tensor stack.
#![allow(missing_docs, clippy::unwrap_used, clippy::print_stdout)]

mod parity;
