//! Which ids have been seen, and how often, within bounded memory: two generations, of which the older is
//! forgotten when the younger is full.

use std::collections::HashMap;

/// What an id's turn is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Receipt {
    FailOnPurpose,
    First,
    Again,
}

pub(super) struct SeenIds {
    generation_size: usize,
    young: HashMap<u128, u32>,
    old: HashMap<u128, u32>,
    forgotten: u64,
}

impl SeenIds {
    /// Tells at least the last `tracked` ids apart.
    pub(super) fn new(tracked: usize) -> Self {
        Self {
            generation_size: tracked.max(1),
            young: HashMap::new(),
            old: HashMap::new(),
            forgotten: 0,
        }
    }

    pub(super) fn forgotten(&self) -> u64 {
        self.forgotten
    }

    /// Counts a request of this id; the first `fail_first` of each are to fail.
    pub(super) fn note(&mut self, id: &[u8], fail_first: u32) -> Receipt {
        let id = fingerprint(id);
        let before = self
            .young
            .get(&id)
            .or_else(|| self.old.get(&id))
            .copied()
            .unwrap_or(0);
        if self.young.len() >= self.generation_size && !self.young.contains_key(&id) {
            self.forgotten += self.old.len() as u64;
            self.old = std::mem::take(&mut self.young);
        }
        self.young.insert(id, before.saturating_add(1));
        match before {
            _ if before < fail_first => Receipt::FailOnPurpose,
            _ if before == fail_first => Receipt::First,
            _ => Receipt::Again,
        }
    }
}

/// The id itself where it is a UUID, else half of its SHA-256.
fn fingerprint(id: &[u8]) -> u128 {
    if let Ok(uuid) = uuid::Uuid::try_parse_ascii(id) {
        return uuid.as_u128();
    }
    let digest = ring::digest::digest(&ring::digest::SHA256, id);
    let half = digest.as_ref().first_chunk().expect("SHA-256 has 32 bytes");
    u128::from_be_bytes(*half)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn memory_is_bounded_and_recent_ids_are_still_known() {
        let mut seen = SeenIds::new(100);
        for id in 0..1_000u32 {
            assert_eq!(seen.note(&id.to_be_bytes(), 0), Receipt::First);
        }
        assert!(seen.young.len() + seen.old.len() <= 200);
        assert!(seen.forgotten() >= 800);
        for id in 900..1_000u32 {
            assert_eq!(seen.note(&id.to_be_bytes(), 0), Receipt::Again);
        }
    }

    #[test]
    fn an_id_keeps_its_count_when_its_generation_ages() {
        let mut seen = SeenIds::new(2);
        assert_eq!(seen.note(b"a", 2), Receipt::FailOnPurpose);
        seen.note(b"b", 0);
        seen.note(b"c", 0);
        assert_eq!(seen.note(b"a", 2), Receipt::FailOnPurpose);
        assert_eq!(seen.note(b"a", 2), Receipt::First);
    }
}
