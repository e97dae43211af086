//! What a run tells: lines on the terminal and a table.

use crate::{
    curriculum::Bucket,
    network::{Figures, Part},
    state::Progress,
};
use anyhow::Result;
use std::{
    fs::{self, File, OpenOptions},
    io::Write,
    path::Path,
};

/// The table's name in a run's folder.
pub(crate) const TABLE: &str = "log.csv";

const HEAD: &str = "step,tokens,seconds,rows,rate,loss,accuracy,patches,patches_accuracy,tokens_loss,tokens_accuracy,places,places_accuracy,looks,looks_accuracy,shares,shares_accuracy,norm,kind";

/// Figures of a line.
const FIGURES: usize = 13;

/// Means of figures since the last line.
#[derive(Default)]
pub(crate) struct Averages {
    sums: [f64; FIGURES],
    count: usize,
}

impl Averages {
    pub(crate) fn add(&mut self, figures: &Figures) {
        for (sum, value) in self.sums.iter_mut().zip(values(figures)) {
            *sum += f64::from(value);
        }
        self.count += 1;
    }

    /// The means; what comes next begins anew.
    pub(crate) fn take(&mut self) -> [f32; FIGURES] {
        let means = self.sums.map(|sum| (sum / self.count.max(1) as f64) as f32);
        *self = Self::default();
        means
    }
}

fn values(figures: &Figures) -> [f32; FIGURES] {
    let mut values = [figures.norm; FIGURES];
    let parts = figures.parts().map(|Part { loss, accuracy }| [loss, accuracy]);
    values[..FIGURES - 1].copy_from_slice(parts.as_flattened());
    values
}

/// The table of a run. Lines of training have 0 rows, those of held-out pages as many as these and, last, their kind.
pub(crate) struct Log {
    file: File,
    last: Option<Progress>,
}

impl Log {
    /// Opens the table of a run that stands at `step`: what it says of later steps will be done anew.
    pub(crate) fn open(folder: &Path, step: usize) -> Result<Self> {
        let path = folder.join(TABLE);
        let old = fs::read_to_string(&path).unwrap_or_default();
        let done =
            |line: &&str| line.split(',').next().and_then(|at| at.parse().ok()).is_some_and(|at: usize| at <= step);
        let lines: Vec<&str> = [HEAD].into_iter().chain(old.lines().filter(done)).collect();
        fs::write(&path, lines.join("\n") + "\n")?;
        Ok(Self { file: OpenOptions::new().append(true).open(&path)?, last: None })
    }

    /// Means over the last steps.
    pub(crate) fn line(&mut self, progress: &Progress, rate: f64, means: &[f32; FIGURES]) -> Result<()> {
        let since = self.last.replace(*progress).unwrap_or(Progress { seconds: f64::NAN, ..*progress });
        let speed = (progress.tokens - since.tokens) as f64 / (progress.seconds - since.seconds);
        let [loss, accuracy, patches, read, tokens, held, places, placed, looks, looked, shares, gathered, norm] =
            means;
        println!(
            "{:6} {:7.0} s {:8.2} M {speed:5.0}/s rate {rate:.1e} loss {loss:.4} {:.2} % | patches {patches:.3} {:.1} % \
             tokens {tokens:.3} {:.1} % | places {places:.3} {:.1} % looks {looks:.3} {:.1} % shares {shares:.3} {:.1} % | norm {norm:.2}",
            progress.step,
            progress.seconds,
            progress.tokens as f64 / 1e6,
            100.0 * accuracy,
            100.0 * read,
            100.0 * held,
            100.0 * placed,
            100.0 * looked,
            100.0 * gathered,
        );
        self.row(progress, (0, ""), rate, means)
    }

    /// Figures of held-out pages of a kind.
    pub(crate) fn judged(&mut self, progress: &Progress, bucket: &Bucket, figures: &Figures) -> Result<()> {
        let (values, kind) = (values(figures), bucket.kind());
        println!(
            "  held out, {} rows{}{kind}: loss {:.4} {:.2} % | patches {:.1} % tokens {:.1} % | places {:.1} % looks {:.1} % shares {:.1} %",
            bucket.rows,
            if kind.is_empty() { "" } else { ", " },
            values[0],
            100.0 * values[1],
            100.0 * values[3],
            100.0 * values[5],
            100.0 * values[7],
            100.0 * values[9],
            100.0 * values[11],
        );
        self.row(progress, (bucket.rows, &kind), f64::NAN, &values)
    }

    /// A line for pages of so many rows and this kind.
    fn row(
        &mut self,
        progress: &Progress,
        (rows, kind): (usize, &str),
        rate: f64,
        values: &[f32; FIGURES],
    ) -> Result<()> {
        let Progress { step, tokens, seconds } = progress;
        write!(self.file, "{step},{tokens},{seconds:.1},{rows},{rate:.3e}")?;
        for value in values {
            write!(self.file, ",{value:.5}")?;
        }
        writeln!(self.file, ",{kind}")?;
        Ok(())
    }
}
