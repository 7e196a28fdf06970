//! The words that a model knows from its pretrained base, by number.

use std::{
    collections::HashMap,
    hash::{BuildHasherDefault, Hasher},
};

/// Words of which a longer one may be put together (`orderid`, `pullrequest`).
const MIN_COMPOUND_BYTES: usize = 5;
const LONGEST_COMPOUND_BYTES: usize = 24;
const MIN_FIRST_BYTES: usize = 3;
const MIN_SECOND_BYTES: usize = 2;

/// Words to their numbers. A word is looked up by its hash alone: that no two of the vocabulary share one is
/// checked when it is read, and that another word has the hash of one of them is as likely as a bit that
/// flips by itself.
#[derive(Debug, Default)]
pub struct Vocabulary {
    numbers: HashMap<u64, u32, BuildHasherDefault<AsIs>>,
}

/// The keys are hashes already.
#[derive(Debug, Default)]
struct AsIs(u64);

impl Hasher for AsIs {
    fn finish(&self) -> u64 {
        self.0
    }
    fn write(&mut self, _bytes: &[u8]) {
        unreachable!("keys are of type u64")
    }
    fn write_u64(&mut self, key: u64) {
        self.0 = key;
    }
}

const FNV_START: u64 = 0xcbf2_9ce4_8422_2325;

/// FNV-1a of 64 bits.
fn hash(start: u64, bytes: &[u8]) -> u64 {
    bytes.iter().fold(start, |hash, byte| {
        (hash ^ u64::from(*byte)).wrapping_mul(0x0100_0000_01b3)
    })
}

/// The table looks at the lowest and the highest bits, and FNV leaves the highest of short words alike.
fn spread(hash: u64) -> u64 {
    (hash ^ (hash >> 32)).wrapping_mul(0x9e37_79b9_7f4a_7c15)
}

impl Vocabulary {
    /// One word a line; the number of a word is that of its line, from 0.
    ///
    /// # Errors
    /// A word stands in it twice.
    pub fn read(text: &str) -> Result<Self, String> {
        let mut numbers = HashMap::default();
        for (line, word) in text.lines().enumerate() {
            let number = u32::try_from(line).map_err(|_| "too many words".to_owned())?;
            if let Some(other) = numbers.insert(spread(hash(FNV_START, word.as_bytes())), number) {
                return Err(format!(
                    "line {}: {word:?} is that of line {} again",
                    line + 1,
                    other + 1
                ));
            }
        }
        Ok(Self { numbers })
    }

    pub(super) fn len(&self) -> usize {
        self.numbers.len()
    }

    fn get(&self, hash: u64) -> Option<u32> {
        self.numbers.get(&spread(hash)).copied()
    }

    /// The number of a word (lower case), or of the two words of which it is made, the first as long as possible.
    pub(super) fn find(&self, word: &[u8]) -> [Option<u32>; 2] {
        if let Some(number) = self.get(hash(FNV_START, word)) {
            return [Some(number), None];
        }
        if word.len() < MIN_COMPOUND_BYTES || !word.is_ascii() {
            return [None, None];
        }
        // The hashes of all beginnings in one go; reading never makes a word longer than this.
        let mut firsts = [0; LONGEST_COMPOUND_BYTES];
        let mut hashed = FNV_START;
        for (byte, slot) in word.iter().zip(&mut firsts) {
            hashed = hash(hashed, &[*byte]);
            *slot = hashed;
        }
        let longest = (word.len() - MIN_SECOND_BYTES).min(LONGEST_COMPOUND_BYTES);
        for cut in (MIN_FIRST_BYTES..=longest).rev() {
            if let Some(first) = self.get(firsts[cut - 1])
                && let Some(second) = self.get(hash(FNV_START, &word[cut..]))
            {
                return [Some(first), Some(second)];
            }
        }
        [None, None]
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn words_and_compounds_have_numbers() {
        let words = Vocabulary::read("invoice\norder\nid\npull\nrequest\n").unwrap();
        assert_eq!(words.len(), 5);
        assert_eq!(words.find(b"invoice"), [Some(0), None]);
        assert_eq!(words.find(b"orderid"), [Some(1), Some(2)]);
        assert_eq!(words.find(b"pullrequest"), [Some(3), Some(4)]);
        assert_eq!(words.find(b"xyzzy"), [None, None]);
        assert_eq!(words.find("größe".as_bytes()), [None, None]);
        assert!(Vocabulary::read("a\nb\na\n").is_err());
    }
}
