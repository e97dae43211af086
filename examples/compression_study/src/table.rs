//! Rows for a CSV file.

use std::{fmt::Display, io, path::Path};

/// A table whose fields hold neither commas nor quotes.
#[derive(Debug, Clone)]
pub struct Table {
    columns: usize,
    text: String,
}

impl Table {
    /// A table with the names of its columns.
    pub fn new(columns: &[&str]) -> Self {
        Self { columns: columns.len(), text: columns.join(",") + "\n" }
    }

    /// Adds a row.
    ///
    /// # Panics
    /// If it has another number of fields than the table has columns.
    pub fn push(&mut self, row: &[&dyn Display]) {
        assert_eq!(row.len(), self.columns, "a row has a field for each column");
        let fields: Vec<String> = row.iter().map(|field| field.to_string()).collect();
        self.text += &(fields.join(",") + "\n");
    }

    /// Writes the file.
    ///
    /// # Errors
    /// If it cannot be written.
    pub fn save(&self, path: &Path) -> io::Result<()> {
        std::fs::write(path, &self.text)
    }
}

/// A number with so many decimals.
pub fn rounded(number: f64, decimals: usize) -> String {
    format!("{number:.decimals$}")
}
