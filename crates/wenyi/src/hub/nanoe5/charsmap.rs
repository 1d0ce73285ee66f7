//! A sentencepiece `precompiled_charsmap`: which characters become which.
//!
//! The layout: the byte size of a trie (`u32`), the trie, then all replacements, each ended by
//! NUL. The trie is a double array as the library Darts-clone defines it, its values the offsets
//! of the replacements. From the node at `p`, the byte `c` leads to `p ^ offset(p) ^ c`, if the
//! label there is `c`; a node that ends a key has its value where `c = 0` leads.

use std::collections::BTreeMap;

use unicode_normalization::UnicodeNormalization;

/// Marks a unit that holds a value, and units that no byte may lead to.
const VALUE: u32 = 1 << 31;

/// Set if the node ends a key.
const HAS_VALUE: u32 = 1 << 8;

/// Offsets are stored from this bit, and are smaller than the limit.
const OFFSET_SHIFT: u32 = 10;
const OFFSET_LIMIT: usize = 1 << 21;

/// The rules of the file, and those that join a letter and its marks into one character.
///
/// The file maps single characters only. The original tokenizer also has a rule for each character
/// that is fully decomposed, so that a text means the same in either spelling (file names of macOS
/// are decomposed).
pub(super) fn with_compositions(normalizer: &BTreeMap<char, String>) -> BTreeMap<String, String> {
    let mut rules: BTreeMap<String, String> = normalizer
        .iter()
        .map(|(from, to)| (from.to_string(), to.clone()))
        .collect();
    for composed in '\u{a0}'..=char::MAX {
        let parts: Vec<char> = composed.nfd().collect();
        if parts.len() < 2 || !parts.iter().copied().nfc().eq([composed]) {
            continue;
        }
        let to = normalizer
            .get(&composed)
            .cloned()
            .unwrap_or_else(|| composed.to_string());
        rules.insert(parts.into_iter().collect(), to);
    }
    rules
}

/// The map as bytes.
pub(super) fn build(entries: &BTreeMap<String, String>) -> Result<Vec<u8>, String> {
    let mut replacements = Vec::new();
    let mut places = BTreeMap::new();
    let mut keys = Vec::new();
    for (from, to) in entries {
        let place = *places.entry(to).or_insert_with(|| {
            let place = replacements.len() as u32;
            replacements.extend(to.as_bytes());
            replacements.push(0);
            place
        });
        keys.push((from.clone().into_bytes(), place));
    }
    // `String` sorts by bytes, as the trie wants its keys.
    let units = DoubleArray::build(&keys)?;
    let mut bytes = (units.len() as u32 * 4).to_le_bytes().to_vec();
    bytes.extend(units.iter().flat_map(|unit| unit.to_le_bytes()));
    bytes.extend(replacements);
    Ok(bytes)
}

/// The bytes of a key and its value.
type Key = (Vec<u8>, u32);

/// A node whose children have no place yet: its position, the keys through it, its depth.
type Node<'k> = (usize, &'k [Key], usize);

/// A double array under construction.
struct DoubleArray {
    units: Vec<u32>,
    is_used: Vec<bool>,
    /// Where `p ^ offset(p)` of some node is. No two nodes may share it: the label alone could
    /// not tell their children apart.
    is_base: Vec<bool>,
    first_free: usize,
}

impl DoubleArray {
    /// The units of a trie of sorted `keys` without the byte 0.
    fn build(keys: &[Key]) -> Result<Vec<u32>, String> {
        let mut array = Self {
            units: Vec::new(),
            is_used: Vec::new(),
            is_base: Vec::new(),
            first_free: 1,
        };
        array.grow(0);
        array.is_used[0] = true;
        array.units[0] = 0;
        let mut pending = vec![(0, keys, 0)];
        while let Some((position, keys, depth)) = pending.pop() {
            pending.extend(array.place_children(position, keys, depth)?);
        }
        Ok(array.units)
    }

    /// Gives the node at `position` its children; `keys` all pass through it and agree in their
    /// first `depth` bytes. Returns the children that are nodes.
    fn place_children<'k>(
        &mut self,
        position: usize,
        keys: &'k [Key],
        depth: usize,
    ) -> Result<Vec<Node<'k>>, String> {
        let label = |key: &Key| key.0.get(depth).copied().unwrap_or(0);
        let groups: Vec<_> = keys.chunk_by(|a, b| label(a) == label(b)).collect();
        let labels: Vec<u8> = groups.iter().map(|group| label(&group[0])).collect();
        let Some(&first) = labels.first() else {
            return Ok(Vec::new());
        };
        let base = self.find_base(first, &labels);
        let offset = position ^ base;
        if offset >= OFFSET_LIMIT {
            return Err("the normaliser has more entries than a character map can hold".into());
        }
        self.is_base[base] = true;
        self.units[position] |= (offset as u32) << OFFSET_SHIFT;
        let mut nodes = Vec::new();
        for (label, group) in labels.into_iter().zip(groups) {
            let child = base ^ usize::from(label);
            self.is_used[child] = true;
            if label == 0 {
                self.units[position] |= HAS_VALUE;
                self.units[child] = VALUE | group[0].1;
            } else {
                self.units[child] = u32::from(label);
                nodes.push((child, group, depth + 1));
            }
        }
        while self.is_used.get(self.first_free) == Some(&true) {
            self.first_free += 1;
        }
        Ok(nodes)
    }

    /// A place from which all `labels` lead to free units.
    fn find_base(&mut self, first: u8, labels: &[u8]) -> usize {
        let mut candidate = self.first_free;
        loop {
            self.grow(candidate);
            let base = candidate ^ usize::from(first);
            let is_free = |label: &u8| !self.is_used[base ^ usize::from(*label)];
            if !self.is_base[base] && labels.iter().all(is_free) {
                return base;
            }
            candidate += 1;
        }
    }

    /// Makes room for `position` and all that differ from it in the last byte.
    fn grow(&mut self, position: usize) {
        let length = (position | 0xff) + 1;
        if length > self.units.len() {
            // No byte equals the label of such a unit.
            self.units.resize(length, VALUE);
            self.is_used.resize(length, false);
            self.is_base.resize(length, false);
        }
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;

    use spm_precompiled::Precompiled;

    use super::*;

    fn entries() -> BTreeMap<char, String> {
        let mut entries: BTreeMap<char, String> = (0x1_u32..=0x1f)
            .filter_map(char::from_u32)
            .map(|c| (c, String::new()))
            .collect();
        entries.insert('\u{a0}', " ".into());
        entries.insert('½', "1\u{2044}2".into());
        entries.insert('ﷺ', "صلى الله عليه وسلم".into());
        entries.insert('\u{10ffff}', "last".into());
        // Full-width forms and the ideographs of one compatibility block, which share many bytes.
        for (from, to) in ('\u{ff01}'..='\u{ff5e}').zip('!'..='~') {
            entries.insert(from, to.to_string());
        }
        for from in '\u{f900}'..='\u{fa6d}' {
            entries.insert(from, format!("<{:x}>", u32::from(from)));
        }
        entries
    }

    #[test]
    fn another_implementation_reads_every_entry_and_nothing_else() {
        let entries = entries();
        let rules = entries
            .iter()
            .map(|(from, to)| (from.to_string(), to.clone()))
            .collect();
        let bytes = build(&rules).unwrap();
        let map = Precompiled::from(&bytes).unwrap();
        for character in '\u{1}'..=char::MAX {
            let got = map.transform(character.encode_utf8(&mut [0; 4]));
            let expected = entries.get(&character).map(String::as_str);
            assert_eq!(got, expected, "U+{:04X}", u32::from(character));
        }
        assert_eq!(map.normalize_string("Ａ\u{a0}½文\u{1}!"), "A 1\u{2044}2文!");
    }

    #[test]
    fn letters_and_marks_are_joined() {
        let rules = with_compositions(&entries());
        assert_eq!(rules["e\u{301}"], "é");
        assert_eq!(rules["e\u{302}\u{301}"], "ế");
        assert_eq!(rules["\u{1100}\u{1161}\u{11a8}"], "각");
        // Excluded from composition by Unicode, and no composition at all.
        assert_eq!(rules.get("\u{915}\u{93c}"), None);
        assert_eq!(rules.get("e"), None);
        let bytes = build(&rules).unwrap();
        let map = Precompiled::from(&bytes).unwrap();
        for from in rules.keys() {
            // This implementation takes the shortest key that the text begins with.
            let ends = from.char_indices().map(|(at, first)| at + first.len_utf8());
            let expected = ends.filter_map(|end| rules.get(&from[..end])).next();
            assert_eq!(
                map.transform(from),
                expected.map(String::as_str),
                "{from:?}"
            );
        }
        assert_eq!(map.normalize_string("cafe\u{301} ｅ 文"), "café e 文");
    }

    #[test]
    fn an_empty_map_changes_nothing() {
        let bytes = build(&BTreeMap::new()).unwrap();
        let map = Precompiled::from(&bytes).unwrap();
        assert_eq!(map.normalize_string("文意 e\u{301}"), "文意 e\u{301}");
    }
}
