//! The file, line by line, in a thread of its own: memory holds a handful of lines, however long the file.

use std::{
    fs::File,
    io::{BufRead, BufReader, Read},
    path::Path,
};

use anyhow::Context;
use tokio::sync::mpsc;

/// Lines read ahead.
const AHEAD: usize = 64;
/// Above any body that the edge takes, escaped; a longer line is an error rather than all of memory.
const MAX_LINE_BYTES: u64 = 64 * 1024 * 1024;

/// Numbered lines that are not empty, counted from 1 in each round through the file.
pub(super) struct Lines(mpsc::Receiver<anyhow::Result<(u64, String)>>);

impl Lines {
    pub(super) fn read_in_background(path: &Path, rounds: u64) -> Self {
        let (sender, receiver) = mpsc::channel(AHEAD);
        let path = path.to_owned();
        std::thread::spawn(move || {
            for _ in 0..rounds {
                match read_round(&path, &sender) {
                    Ok(true) => {}
                    Ok(false) => return,
                    Err(error) => {
                        sender.blocking_send(Err(error)).ok();
                        return;
                    }
                }
            }
        });
        Self(receiver)
    }

    /// # Errors
    /// The file cannot be read further.
    pub(super) async fn next(&mut self) -> anyhow::Result<Option<(u64, String)>> {
        self.0.recv().await.transpose()
    }
}

/// False where nobody listens any more.
fn read_round(
    path: &Path,
    sender: &mpsc::Sender<anyhow::Result<(u64, String)>>,
) -> anyhow::Result<bool> {
    let mut reader = open(path)?;
    for number in 1.. {
        let mut line = Vec::new();
        let read = (&mut reader)
            .take(MAX_LINE_BYTES)
            .read_until(b'\n', &mut line);
        let read = read.with_context(|| format!("reading {}", path.display()))?;
        if read == 0 {
            break;
        }
        anyhow::ensure!(
            (read as u64) < MAX_LINE_BYTES,
            "line {number} is longer than {MAX_LINE_BYTES} bytes"
        );
        let text =
            String::from_utf8(line).map_err(|_| anyhow::anyhow!("line {number} is not UTF-8"))?;
        let text = text.trim();
        if !text.is_empty() && sender.blocking_send(Ok((number, text.to_owned()))).is_err() {
            return Ok(false);
        }
    }
    Ok(true)
}

/// How many lines are not empty, for the progress bar.
///
/// # Errors
/// The file cannot be read.
pub(super) fn count_lines(path: &Path) -> anyhow::Result<u64> {
    let mut reader = open(path)?;
    let mut lines = 0;
    let mut in_line = false;
    loop {
        let chunk = reader
            .fill_buf()
            .with_context(|| format!("reading {}", path.display()))?;
        if chunk.is_empty() {
            return Ok(lines + u64::from(in_line));
        }
        for byte in chunk {
            if *byte == b'\n' {
                lines += u64::from(in_line);
                in_line = false;
            } else if !byte.is_ascii_whitespace() {
                in_line = true;
            }
        }
        let length = chunk.len();
        reader.consume(length);
    }
}

fn open(path: &Path) -> anyhow::Result<BufReader<File>> {
    let file = File::open(path).with_context(|| format!("opening {}", path.display()))?;
    Ok(BufReader::with_capacity(256 * 1024, file))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn lines_keep_their_numbers_through_every_round() {
        let path = std::env::temp_dir().join(format!("lines-{}.txt", std::process::id()));
        std::fs::write(&path, "a\n\n  \nb").expect("writes");
        assert_eq!(count_lines(&path).expect("counts"), 2);
        let mut lines = Lines::read_in_background(&path, 2);
        let mut seen = Vec::new();
        while let Some(line) = lines.next().await.expect("reads") {
            seen.push(line);
        }
        let want = [(1, "a"), (4, "b"), (1, "a"), (4, "b")];
        assert_eq!(seen, want.map(|(number, text)| (number, text.to_owned())));
    }
}
