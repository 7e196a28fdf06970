//! Draws the stories: on a terminal a table that changes, elsewhere a line for each that has ended.

use std::io::IsTerminal;

use indicatif::{MultiProgress, ProgressBar, ProgressStyle};

use super::story::Story;

const SENDER: usize = 28;
const CATEGORY: usize = 11;
const SUMMARY: usize = 56;

pub(super) struct Table {
    /// One line for each story, and one for the sum; none where nobody watches.
    lines: Option<(MultiProgress, Vec<ProgressBar>)>,
    told: Vec<bool>,
}

impl Table {
    pub(super) fn begin(stories: usize) -> Self {
        let lines = std::io::stdout().is_terminal().then(|| {
            let lines = MultiProgress::with_draw_target(indicatif::ProgressDrawTarget::stdout());
            let line = || {
                let bar = lines.add(ProgressBar::new_spinner());
                bar.set_style(
                    ProgressStyle::with_template("{msg}")
                        .unwrap_or_else(|_| ProgressStyle::default_spinner()),
                );
                bar
            };
            // The sum stands on top: a low terminal shows the first lines only.
            let bars = (0..=stories).map(|_| line()).collect();
            (lines, bars)
        });
        if lines.is_none() {
            println!("{}", head());
        }
        Self {
            lines,
            told: vec![false; stories],
        }
    }

    pub(super) fn draw(&mut self, stories: &[Story]) {
        if let Some((_, bars)) = &self.lines {
            bars[0].set_message(sum(stories));
            for (bar, story) in bars[1..].iter().zip(stories) {
                bar.set_message(row(story));
            }
            return;
        }
        for (told, story) in self.told.iter_mut().zip(stories) {
            if story.ended() && !*told {
                *told = true;
                println!("{}", row(story));
            }
        }
    }

    /// The last word: the whole table, however low the terminal is.
    pub(super) fn end(&mut self, stories: &[Story]) {
        if let Some((lines, _)) = self.lines.take() {
            lines.clear().ok();
            println!("{}", head());
            for story in stories {
                println!("{}", row(story));
            }
        } else {
            for (told, story) in self.told.iter().zip(stories) {
                if !told {
                    println!("{}", row(story));
                }
            }
        }
        println!("\n{}", sum(stories));
    }
}

fn head() -> String {
    format!(
        "{:<SENDER$}  {:<CATEGORY$}  {:>5}  {:<SUMMARY$}  {:>8}  outcome",
        "sender", "category", "sure", "summary", "attempts"
    )
}

fn row(story: &Story) -> String {
    let sure = story
        .confidence
        .map_or(String::new(), |c| format!("{:.0} %", c * 100.0));
    format!(
        "{:<SENDER$}  {:<CATEGORY$}  {sure:>5}  {:<SUMMARY$}  {:>8}  {}",
        cut(&story.sender, SENDER),
        cut(&story.category, CATEGORY),
        cut(&story.summary, SUMMARY),
        story.attempts,
        story.outcome(),
    )
}

fn sum(stories: &[Story]) -> String {
    let ended = stories.iter().filter(|story| story.ended()).count();
    let (delivered, deliveries) = stories.iter().fold((0, 0), |(delivered, all), story| {
        (delivered + story.delivered(), all + story.deliveries())
    });
    let attempts: u32 = stories.iter().map(|story| story.attempts).sum();
    format!(
        "{ended} of {} webhooks ended; {delivered} of {deliveries} deliveries arrived, after {attempts} attempts",
        stories.len()
    )
}

fn cut(text: &str, width: usize) -> String {
    if text.chars().count() <= width {
        return text.to_owned();
    }
    text.chars().take(width - 1).chain(['…']).collect()
}
