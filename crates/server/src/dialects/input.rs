//! Inputs as clients spell them: one text, several, token ids, several lists of them.

use std::fmt;

use serde::Deserialize;
use serde::de::{Deserializer, Error, SeqAccess, Visitor};

/// What stands in an `input` field.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Input {
    Text(String),
    Texts(Vec<String>),
    Ids(Vec<u32>),
    IdLists(Vec<Vec<u32>>),
    /// `[]`, which may mean anything.
    Nothing,
}

impl Input {
    /// Number of texts.
    pub(super) fn len(&self) -> usize {
        match self {
            Self::Text(_) | Self::Ids(_) => 1,
            Self::Texts(texts) => texts.len(),
            Self::IdLists(lists) => lists.len(),
            Self::Nothing => 0,
        }
    }

    /// Its texts; token ids are read by `decode`.
    pub(super) fn texts<E>(
        self,
        decode: impl Fn(&[u32]) -> Result<String, E>,
    ) -> Result<Vec<String>, E> {
        match self {
            Self::Text(text) => Ok(vec![text]),
            Self::Texts(texts) => Ok(texts),
            Self::Ids(ids) => Ok(vec![decode(&ids)?]),
            Self::IdLists(lists) => lists.iter().map(|ids| decode(ids)).collect(),
            Self::Nothing => Ok(Vec::new()),
        }
    }

    /// Bytes of its texts; 0 for token ids.
    pub(super) fn bytes(&self) -> usize {
        match self {
            Self::Text(text) => text.len(),
            Self::Texts(texts) => texts.iter().map(String::len).sum(),
            _ => 0,
        }
    }

    /// Token ids in it; 0 for texts.
    pub(super) fn ids(&self) -> usize {
        match self {
            Self::Ids(ids) => ids.len(),
            Self::IdLists(lists) => lists.iter().map(Vec::len).sum(),
            _ => 0,
        }
    }
}

/// An entry of a list.
enum Entry {
    Text(String),
    Id(u32),
    Ids(Vec<u32>),
}

impl<'de> Deserialize<'de> for Input {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        deserializer.deserialize_any(InputVisitor)
    }
}

struct InputVisitor;

impl<'de> Visitor<'de> for InputVisitor {
    type Value = Input;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("a text, texts, token ids or lists of token ids")
    }

    fn visit_str<E: Error>(self, text: &str) -> Result<Input, E> {
        Ok(Input::Text(text.to_owned()))
    }

    fn visit_seq<A: SeqAccess<'de>>(self, mut list: A) -> Result<Input, A::Error> {
        let mixed = || A::Error::custom("a list has entries of different kinds");
        let Some(first) = list.next_element()? else {
            return Ok(Input::Nothing);
        };
        let mut input = match first {
            Entry::Text(text) => Input::Texts(vec![text]),
            Entry::Id(id) => Input::Ids(vec![id]),
            Entry::Ids(ids) => Input::IdLists(vec![ids]),
        };
        while let Some(entry) = list.next_element()? {
            match (&mut input, entry) {
                (Input::Texts(texts), Entry::Text(text)) => texts.push(text),
                (Input::Ids(ids), Entry::Id(id)) => ids.push(id),
                (Input::IdLists(lists), Entry::Ids(ids)) => lists.push(ids),
                _ => return Err(mixed()),
            }
        }
        Ok(input)
    }
}

impl<'de> Deserialize<'de> for Entry {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        deserializer.deserialize_any(EntryVisitor)
    }
}

struct EntryVisitor;

impl<'de> Visitor<'de> for EntryVisitor {
    type Value = Entry;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("a text, a token id or a list of token ids")
    }

    fn visit_str<E: Error>(self, text: &str) -> Result<Entry, E> {
        Ok(Entry::Text(text.to_owned()))
    }

    fn visit_u64<E: Error>(self, id: u64) -> Result<Entry, E> {
        let id = u32::try_from(id).map_err(|_| E::custom(format!("no token id: {id}")))?;
        Ok(Entry::Id(id))
    }

    fn visit_f64<E: Error>(self, id: f64) -> Result<Entry, E> {
        // As JSON Schema has it, `3.0` is a whole number.
        if id.fract() == 0.0 && (0.0..=f64::from(u32::MAX)).contains(&id) {
            return Ok(Entry::Id(id as u32));
        }
        Err(E::custom(format!("no token id: {id}")))
    }

    fn visit_seq<A: SeqAccess<'de>>(self, mut list: A) -> Result<Entry, A::Error> {
        let mut ids = Vec::with_capacity(list.size_hint().unwrap_or(0));
        while let Some(entry) = list.next_element()? {
            match entry {
                Entry::Id(id) => ids.push(id),
                _ => {
                    return Err(A::Error::custom(
                        "a list of token ids has something else in it",
                    ));
                }
            }
        }
        Ok(Entry::Ids(ids))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn parse(json: &str) -> Result<Input, serde_json::Error> {
        serde_json::from_str(json)
    }

    #[test]
    fn the_four_kinds_are_told_apart() {
        assert_eq!(parse(r#""文""#).unwrap(), Input::Text("文".into()));
        let texts = Input::Texts(vec!["a".into(), String::new()]);
        assert_eq!(parse(r#"["a",""]"#).unwrap(), texts);
        assert_eq!(parse("[1,2.0,1e3]").unwrap(), Input::Ids(vec![1, 2, 1000]));
        assert_eq!(
            parse("[[1],[]]").unwrap(),
            Input::IdLists(vec![vec![1], vec![]])
        );
        assert_eq!(parse("[]").unwrap(), Input::Nothing);
    }

    #[test]
    fn anything_else_is_refused() {
        let deep = "[".repeat(5000) + &"]".repeat(5000);
        for wrong in [
            "1",
            "null",
            "true",
            "{}",
            "[null]",
            r#"["a",1]"#,
            "[1,[2]]",
            "[[[1]]]",
            "[[1,[2]]]",
            "[1.5]",
            "[-1]",
            "[4294967296]",
            r#"[["a"]]"#,
            "[{}]",
            "NaN",
            "[NaN]",
            &deep,
        ] {
            assert!(parse(wrong).is_err(), "{wrong}");
        }
    }
}
