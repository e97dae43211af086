//! The command line of every bench.

use super::Format;
use clap::Parser;
use std::path::PathBuf;

/// Options of a bench.
#[derive(Debug, Clone, Parser)]
pub struct Options {
    /// One JSON object a line instead of a table.
    #[arg(long)]
    pub json: bool,
    /// Fewer repetitions, shorter answers.
    #[arg(long)]
    pub quick: bool,
    /// A model folder to take the weights from, instead of random ones.
    #[arg(long)]
    pub model: Option<PathBuf>,
    /// Formats of the weights.
    #[arg(long, value_delimiter = ',')]
    pub formats: Vec<Format>,
    /// Only the cases whose name contains this.
    #[arg(long)]
    pub only: Option<String>,
    /// What `cargo bench` always says.
    #[arg(long, hide = true)]
    bench: bool,
}

impl Options {
    /// From the command line.
    pub fn get() -> Self {
        Self::parse()
    }

    /// The formats asked for; `all` where none were.
    pub fn formats(&self, all: &[Format]) -> Vec<Format> {
        if self.formats.is_empty() { all.to_vec() } else { self.formats.clone() }
    }

    /// Whether the case of this name shall run.
    pub fn wants(&self, name: &str) -> bool {
        self.only.as_ref().is_none_or(|only| name.contains(only.as_str()))
    }

    /// `usual` repetitions, or the few of a quick run.
    pub fn runs(&self, usual: usize, quick: usize) -> usize {
        if self.quick { quick } else { usual }
    }
}
