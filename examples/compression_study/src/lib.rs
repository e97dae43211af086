//! How much text survives optical compression (section 4.1 of the paper), measured; and the [`plot`]s that other examples use.
//!
//! 1. [`text`] gives texts that the model never saw: prose, code, Chinese, words and letters and digits at random.
//! 2. [`pages`] sets them on pages, in so many modes and densities, has them read back, and compares by the three readings of
//!    [`precision`]; beside each the two baselines of [`baseline`].
//! 3. [`needle`] hides a number in longer texts and looks for it in what is read.
//! 4. [`decay`] lets rounds fade in an `OpticalMemory`: precision, bytes and time by age.
//!
//! Each gives rows for a CSV file ([`table`]) and lines for a plot.

pub mod baseline;
pub mod decay;
pub mod needle;
pub mod pages;
pub mod plot;
pub mod precision;
pub mod reader;
pub mod table;
pub mod text;
