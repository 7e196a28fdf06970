//! What commands print: tables for people, JSON for programs. Results go to standard output, everything
//! else to standard error.

use std::io::{self, Write};

use serde::Serialize;

/// Prints one JSON document on one line.
///
/// # Errors
/// Standard output is closed.
pub fn json<T: Serialize>(value: &T) -> anyhow::Result<()> {
    let mut out = io::stdout().lock();
    serde_json::to_writer(&mut out, value)?;
    writeln!(out)?;
    Ok(())
}

/// Prints a line.
///
/// # Errors
/// Standard output is closed.
pub fn line(text: &str) -> anyhow::Result<()> {
    writeln!(io::stdout().lock(), "{text}")?;
    Ok(())
}

/// Prints a text as it is.
///
/// # Errors
/// Standard output is closed.
pub fn text(text: &str) -> anyhow::Result<()> {
    Ok(io::stdout().lock().write_all(text.as_bytes())?)
}

/// Rows under headings, in columns as wide as their widest cell.
#[derive(Debug)]
pub struct Table {
    headings: Vec<&'static str>,
    rows: Vec<Vec<String>>,
    /// Columns of numbers, aligned to the right.
    numeric: Vec<usize>,
}

impl Table {
    #[must_use]
    pub fn new(headings: &[&'static str]) -> Self {
        Self {
            headings: headings.to_vec(),
            rows: Vec::new(),
            numeric: Vec::new(),
        }
    }

    /// Aligns these columns to the right.
    #[must_use]
    pub fn numeric(mut self, columns: &[usize]) -> Self {
        self.numeric = columns.to_vec();
        self
    }

    pub fn row<const N: usize>(&mut self, cells: [String; N]) {
        self.rows.push(cells.into());
    }

    #[must_use]
    pub fn render(&self) -> String {
        let width = |column: usize| {
            let cells = self.rows.iter().filter_map(|row| row.get(column));
            let widest = cells.map(|cell| cell.chars().count()).max().unwrap_or(0);
            widest.max(self.headings[column].chars().count())
        };
        let widths: Vec<usize> = (0..self.headings.len()).map(width).collect();
        let mut text = String::new();
        let headings: Vec<String> = self.headings.iter().map(|h| (*h).to_owned()).collect();
        for row in std::iter::once(&headings).chain(&self.rows) {
            let mut line = String::new();
            for (column, cell) in row.iter().enumerate() {
                let room = widths[column];
                let cell = match self.numeric.contains(&column) {
                    true => format!("{cell:>room$}  "),
                    false => format!("{cell:<room$}  "),
                };
                line.push_str(&cell);
            }
            text.push_str(line.trim_end());
            text.push('\n');
        }
        text
    }

    /// Prints the table.
    ///
    /// # Errors
    /// Standard output is closed.
    pub fn print(&self) -> anyhow::Result<()> {
        io::stdout().lock().write_all(self.render().as_bytes())?;
        Ok(())
    }
}

/// `2026-11-24 01:02:03Z`, or `-`.
#[must_use]
pub fn time(at_ms: Option<i64>) -> String {
    let time = at_ms.and_then(|ms| jiff::Timestamp::from_millisecond(ms).ok());
    time.map_or_else(
        || "-".into(),
        |time| time.strftime("%Y-%m-%d %H:%M:%SZ").to_string(),
    )
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn columns_are_as_wide_as_their_widest_cell() {
        let mut table = Table::new(&["name", "count"]).numeric(&[1]);
        table.row(["é".into(), "7".into()]);
        table.row(["longer".into(), "123456".into()]);
        assert_eq!(
            table.render(),
            "name     count\né            7\nlonger  123456\n"
        );
    }

    #[test]
    fn times_are_in_utc() {
        assert_eq!(time(Some(0)), "1970-01-01 00:00:00Z");
        assert_eq!(time(None), "-");
    }
}
