//! How a benchmark tells its figures: a table for people, a JSON file for everything else.

use std::path::{Path, PathBuf};

use anyhow::Context;
use serde::Serialize;
use serde_json::Value;

use super::machine::Machine;

/// What a part hands back.
#[derive(Debug, Serialize)]
pub struct Figures {
    /// The part's name.
    pub name: &'static str,
    /// What was asked for.
    pub parameters: Value,
    pub figures: Value,
    /// What a reader of the figures must know.
    pub notes: Vec<String>,
    #[serde(skip)]
    pub tables: Vec<Table>,
}

/// Rows of text under headings.
#[derive(Debug, Default)]
pub struct Table {
    pub title: String,
    pub headings: Vec<&'static str>,
    pub rows: Vec<Vec<String>>,
}

impl Table {
    /// The table as lines, numbers to the right, the first column to the left.
    #[must_use]
    pub fn render(&self) -> String {
        let mut widths: Vec<usize> = self
            .headings
            .iter()
            .map(|text| text.chars().count())
            .collect();
        for row in &self.rows {
            for (width, cell) in widths.iter_mut().zip(row) {
                *width = (*width).max(cell.chars().count());
            }
        }
        let line = |cells: &mut dyn Iterator<Item = &str>| {
            let mut text = String::new();
            for (column, (cell, width)) in cells.zip(&widths).enumerate() {
                let padded = if column == 0 {
                    format!("  {cell:<width$}")
                } else {
                    format!("  {cell:>width$}")
                };
                text.push_str(&padded);
            }
            text.push('\n');
            text
        };
        let mut text = format!("{}\n", self.title);
        text.push_str(&line(&mut self.headings.iter().copied()));
        for row in &self.rows {
            text.push_str(&line(&mut row.iter().map(String::as_str)));
        }
        text
    }
}

impl Figures {
    pub fn print(&self) {
        for table in &self.tables {
            println!("\n{}", table.render());
        }
        for note in &self.notes {
            println!("  {note}");
        }
    }

    /// Writes `<date>-<name>.json` and says where.
    ///
    /// # Errors
    /// The folder cannot be written to.
    pub fn write(&self, root: &Path, machine: &Machine) -> anyhow::Result<PathBuf> {
        #[derive(Serialize)]
        struct Document<'a> {
            finished_at: &'a str,
            machine: &'a Machine,
            #[serde(flatten)]
            figures: &'a Figures,
        }
        let finished_at = utc_now();
        let directory = root.join("target/bench");
        std::fs::create_dir_all(&directory).context("making target/bench")?;
        let stamp = finished_at.replace(':', "");
        let path = directory.join(format!("{stamp}-{}.json", self.name));
        let document = Document {
            finished_at: &finished_at,
            machine,
            figures: self,
        };
        let json = serde_json::to_vec_pretty(&document)?;
        std::fs::write(&path, json).with_context(|| format!("writing {}", path.display()))?;
        Ok(path)
    }
}

/// Now, as `2026-11-24T01:02:03Z`.
fn utc_now() -> String {
    jiff::Timestamp::now()
        .strftime("%Y-%m-%dT%H:%M:%SZ")
        .to_string()
}

/// The middle of a few measurements; 0 where there is none.
#[must_use]
pub fn median(values: impl IntoIterator<Item = f64>) -> f64 {
    let mut values: Vec<f64> = values.into_iter().collect();
    values.sort_by(f64::total_cmp);
    match values.len() {
        0 => 0.0,
        count if count % 2 == 1 => values[count / 2],
        count => f64::midpoint(values[count / 2 - 1], values[count / 2]),
    }
}

/// `12345.6` as `12,346`.
#[must_use]
pub fn thousands(value: f64) -> String {
    let digits = format!("{value:.0}");
    let mut text = String::new();
    for (index, digit) in digits.chars().enumerate() {
        if index > 0 && (digits.len() - index) % 3 == 0 {
            text.push(',');
        }
        text.push(digit);
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_median_is_the_middle() {
        assert_eq!(median([3.0, 1.0, 2.0]), 2.0);
        assert_eq!(median([4.0, 1.0]), 2.5);
        assert_eq!(median([]), 0.0);
    }

    #[test]
    fn tables_line_up() {
        let table = Table {
            title: "t".into(),
            headings: vec!["server", "rate"],
            rows: vec![
                vec!["a".into(), thousands(1_234_567.0)],
                vec!["naive".into(), thousands(12.0)],
            ],
        };
        assert_eq!(
            table.render(),
            "t\n  server       rate\n  a       1,234,567\n  naive          12\n"
        );
    }
}
