//! Vectors of texts seen before, within a bounded number of bytes.
//!
//! Two generations: what is used moves to the young one; when that is full it becomes the old one,
//! and what was in the old one is forgotten. So everything costs a look-up or two, whatever the size.

use std::collections::HashMap;
use std::mem;
use std::sync::{Arc, Mutex, PoisonError};

use sha2::{Digest, Sha256};
use wenyi::embed::{Overflow, TokenUsage};

/// Which vector: hash over the model, the prompt, the overflow policy and the text.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub(super) struct Key([u8; 32]);

impl Key {
    /// The key of `text` behind `prompt` in the space that `space` names.
    pub(super) fn of(space: &str, prompt: &str, overflow: Overflow, text: &str) -> Self {
        let mut hash = Sha256::new();
        for part in [space, prompt, text] {
            hash.update((part.len() as u64).to_le_bytes());
            hash.update(part);
        }
        hash.update([overflow as u8]);
        Self(hash.finalize().into())
    }
}

/// A vector at the model's full width and what became of the text's tokens.
pub(super) type Known = (Arc<[f32]>, TokenUsage);

/// See the module.
#[derive(Debug)]
pub(super) struct Cache {
    generations: Mutex<Generations>,
    /// Bytes that a generation may have.
    limit: usize,
}

#[derive(Debug, Default)]
struct Generations {
    young: HashMap<Key, Known>,
    old: HashMap<Key, Known>,
    young_bytes: usize,
}

/// Bytes of an entry beside the vector: key, pointer, counts, the map's slack.
const OVERHEAD: usize = 128;

impl Cache {
    /// A cache of about `bytes`; none at all for 0.
    pub(super) fn new(bytes: usize) -> Self {
        Self {
            generations: Mutex::default(),
            limit: bytes / 2,
        }
    }

    pub(super) fn is_off(&self) -> bool {
        self.limit == 0
    }

    pub(super) fn get(&self, key: &Key) -> Option<Known> {
        if self.is_off() {
            return None;
        }
        let mut generations = self.lock();
        if let Some(known) = generations.young.get(key) {
            return Some(known.clone());
        }
        let known = generations.old.remove(key)?;
        generations.insert(*key, known.clone(), self.limit);
        Some(known)
    }

    pub(super) fn insert(&self, key: Key, known: Known) {
        if !self.is_off() {
            self.lock().insert(key, known, self.limit);
        }
    }

    fn lock(&self) -> std::sync::MutexGuard<'_, Generations> {
        self.generations
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
    }
}

impl Generations {
    fn insert(&mut self, key: Key, known: Known, limit: usize) {
        let bytes = OVERHEAD + mem::size_of_val(&*known.0);
        if self.young_bytes + bytes > limit {
            self.old = mem::take(&mut self.young);
            self.young_bytes = 0;
        }
        if self.young.insert(key, known).is_none() {
            self.young_bytes += bytes;
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn key(number: usize) -> Key {
        Key::of("space", "", Overflow::Error, &number.to_string())
    }

    fn known(number: usize) -> Known {
        let usage = TokenUsage {
            seen: number,
            kept: number,
            windows: 1,
        };
        (Arc::from([number as f32; 16]), usage)
    }

    #[test]
    fn parts_of_a_key_do_not_run_together() {
        let keys = [
            Key::of("a", "b", Overflow::Error, "c"),
            Key::of("ab", "", Overflow::Error, "c"),
            Key::of("a", "", Overflow::Error, "bc"),
            Key::of("a", "b", Overflow::Truncate, "c"),
        ];
        for (index, key) in keys.iter().enumerate() {
            assert!(!keys[..index].contains(key), "{index}");
        }
    }

    #[test]
    fn it_stays_within_its_bytes_and_keeps_what_is_used() {
        let entry = OVERHEAD + 64;
        let cache = Cache::new(entry * 20);
        cache.insert(key(0), known(0));
        for number in 1..1000 {
            cache.insert(key(number), known(number));
            assert_eq!(cache.get(&key(0)).unwrap().1.seen, 0, "{number}");
            let generations = cache.lock();
            assert!(generations.young.len() + generations.old.len() <= 20);
        }
        assert!(cache.get(&key(1)).is_none());
        assert_eq!(cache.get(&key(999)).unwrap().0[0], 999.0);
    }

    #[test]
    fn none_at_all_keeps_nothing() {
        let cache = Cache::new(0);
        cache.insert(key(1), known(1));
        assert!(cache.get(&key(1)).is_none());
    }
}
