//! From criterion's estimates to one table, on the terminal and as CSV.

use std::env;
use std::fs;
use std::path::{Path, PathBuf};
use std::time::SystemTime;

/// The median seconds of a call of benchmark `group/function/parameter`, where criterion has
/// measured it after `since`: None for what a filter left out, and for `--list` and `--test`.
pub fn median(group: &str, function: &str, parameter: &str, since: SystemTime) -> Option<f64> {
    let path = criterion_home()
        .join(group)
        .join(function)
        .join(parameter)
        .join("new/estimates.json");
    if path.metadata().ok()?.modified().ok()? < since {
        return None;
    }
    let estimates: serde_json::Value = serde_json::from_slice(&fs::read(path).ok()?).ok()?;
    let nanoseconds = estimates["median"]["point_estimate"].as_f64()?;
    Some(nanoseconds / 1e9)
}

/// Criterion's output directory: `CRITERION_HOME`, else beside cargo's other outputs.
fn criterion_home() -> PathBuf {
    env::var_os("CRITERION_HOME").map_or_else(
        || Path::new(env!("CARGO_TARGET_TMPDIR")).with_file_name("criterion"),
        PathBuf::from,
    )
}

/// Rows under a header; the first column is left-aligned, numbers are right-aligned.
pub struct Table {
    rows: Vec<Vec<String>>,
}

impl Table {
    /// Without rows yet.
    pub fn new(header: &[&str]) -> Self {
        let header = header.iter().map(ToString::to_string).collect();
        Self { rows: vec![header] }
    }

    /// Appends a row of as many cells as the header has.
    pub fn push(&mut self, row: Vec<String>) {
        assert_eq!(row.len(), self.rows[0].len());
        self.rows.push(row);
    }

    /// Prints the table, and writes it to `benches/results/<name>.csv` in place of the last run's.
    /// Does neither where there are no rows.
    pub fn finish(&self, name: &str) {
        if self.rows.len() == 1 {
            return;
        }
        let width = |column: usize| self.rows.iter().map(|row| row[column].len()).max();
        let widths: Vec<_> = (0..self.rows[0].len()).filter_map(width).collect();
        println!();
        for row in &self.rows {
            let mut cells = row.iter().zip(&widths);
            if let Some((first, width)) = cells.next() {
                print!("{first:<width$}");
            }
            for (cell, width) in cells {
                print!("  {cell:>width$}");
            }
            println!();
        }

        let dir = Path::new(env!("CARGO_MANIFEST_DIR")).join("benches/results");
        let path = dir.join(name).with_extension("csv");
        let lines: String = self.rows.iter().map(|row| row.join(",") + "\n").collect();
        fs::create_dir_all(&dir).expect("benches/results can be made");
        fs::write(&path, lines).expect("benches/results can be written to");
        println!("\nwritten to {}", path.display());
    }
}
