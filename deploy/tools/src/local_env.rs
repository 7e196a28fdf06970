//! Settings of the local stack: `.local/env` and `.local/secrets.env`, found from the working directory or
//! the executable upwards. What the environment itself says wins. Used by every command here.

use std::{
    collections::BTreeMap,
    path::{Path, PathBuf},
};

use anyhow::Context;

/// What the files of `make up` and the environment say.
#[derive(Debug, Default, Clone)]
pub struct LocalEnv {
    /// The checkout that holds `.local/`, where there is one.
    pub root: Option<PathBuf>,
    from_files: BTreeMap<String, String>,
}

impl LocalEnv {
    /// Reads what is there; no files is not an error.
    ///
    /// # Errors
    /// A file is there and cannot be read.
    pub fn find() -> anyhow::Result<Self> {
        let starts = [std::env::current_dir().ok(), std::env::current_exe().ok()];
        for start in starts.into_iter().flatten() {
            let holds_it = |dir: &&Path| dir.join(".local/env").is_file();
            if let Some(root) = start.ancestors().find(holds_it) {
                return Self::read(root);
            }
        }
        Ok(Self::default())
    }

    fn read(root: &Path) -> anyhow::Result<Self> {
        let mut from_files = BTreeMap::new();
        for name in [".local/env", ".local/secrets.env"] {
            let path = root.join(name);
            if !path.is_file() {
                continue;
            }
            let text = std::fs::read_to_string(&path)
                .with_context(|| format!("reading {}", path.display()))?;
            from_files.extend(parse(&text));
        }
        Ok(Self {
            root: Some(root.to_owned()),
            from_files,
        })
    }

    /// The environment's value, else the files'; empty counts as absent.
    #[must_use]
    pub fn get(&self, name: &str) -> Option<String> {
        let value = std::env::var(name).ok().filter(|value| !value.is_empty());
        value.or_else(|| {
            self.from_files
                .get(name)
                .filter(|value| !value.is_empty())
                .cloned()
        })
    }

    /// # Errors
    /// It is nowhere; the message says what to do.
    pub fn require(&self, name: &str) -> anyhow::Result<String> {
        self.get(name).with_context(|| {
            format!("{name} is not set and .local/env does not name it: run `make up` first")
        })
    }

    /// What the files say and the environment does not, for child processes.
    pub fn for_children(&self) -> impl Iterator<Item = (&str, &str)> {
        let unset = |name: &str| std::env::var_os(name).is_none();
        self.from_files
            .iter()
            .map(|(name, value)| (name.as_str(), value.as_str()))
            .filter(move |(name, _)| unset(name))
    }
}

/// Lines `NAME=value`, as a shell would read them: `export`, comments and quotes around a value are fine.
fn parse(text: &str) -> impl Iterator<Item = (String, String)> {
    text.lines().filter_map(|line| {
        let line = line.trim();
        let line = line.strip_prefix("export ").unwrap_or(line);
        if line.starts_with('#') {
            return None;
        }
        let (name, value) = line.split_once('=')?;
        let value = value.trim();
        let unquoted = ['"', '\'']
            .into_iter()
            .find_map(|quote| value.strip_prefix(quote)?.strip_suffix(quote));
        Some((name.trim().to_owned(), unquoted.unwrap_or(value).to_owned()))
    })
}

/// A binary of the product, next to this one.
///
/// # Errors
/// It has not been built.
pub fn sibling_binary(name: &str) -> anyhow::Result<PathBuf> {
    let own = std::env::current_exe().context("finding the path of this program")?;
    let path = own.with_file_name(name);
    anyhow::ensure!(
        path.is_file(),
        "{} is not there: build it with `cargo build --release`, or run `make up`",
        path.display()
    );
    Ok(path)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn lines_are_read_as_a_shell_would() {
        let text = "# a comment\nA=1\nexport B=\"two words\"\n C = 'x=y' \nnonsense\nD=\n";
        let read: Vec<_> = parse(text).collect();
        let want = [("A", "1"), ("B", "two words"), ("C", "x=y"), ("D", "")];
        assert_eq!(
            read,
            want.map(|(name, value)| (name.to_owned(), value.to_owned()))
        );
    }

    #[test]
    fn what_is_missing_says_what_to_do() {
        let error = LocalEnv::default()
            .require("ROUTER_TOOLS_TEST_NOT_SET")
            .expect_err("unset");
        assert!(error.to_string().contains("make up"));
    }
}
