//! Token ids of OpenAI's vocabularies, read back into text.
//!
//! Clients of the OpenAI API may send ids instead of text, and `LangChain`'s `OpenAIEmbeddings` does
//! so by default, in the vocabulary that it believes the model to have: `cl100k_base` for every
//! name it does not know. The ids mean nothing to the models served here, so they become text
//! again, which the model's own tokenizer reads.

use tiktoken_rs::CoreBPE;

use crate::problem::Problem;

/// A vocabulary of OpenAI's.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Vocabulary {
    R50k,
    P50k,
    P50kEdit,
    Cl100k,
    O200k,
    O200kHarmony,
}

/// Names as `tiktoken` 0.14 maps them; what is not listed is [`Vocabulary::Cl100k`], to which the
/// clients fall back.
const BY_NAME: &[(&str, Vocabulary)] = &[
    ("o1", Vocabulary::O200k),
    ("o3", Vocabulary::O200k),
    ("o4-mini", Vocabulary::O200k),
    ("gpt-4.1", Vocabulary::O200k),
    ("gpt-4o", Vocabulary::O200k),
    ("text-davinci-003", Vocabulary::P50k),
    ("text-davinci-002", Vocabulary::P50k),
    ("code-davinci-002", Vocabulary::P50k),
    ("code-davinci-001", Vocabulary::P50k),
    ("code-cushman-002", Vocabulary::P50k),
    ("code-cushman-001", Vocabulary::P50k),
    ("davinci-codex", Vocabulary::P50k),
    ("cushman-codex", Vocabulary::P50k),
    ("text-davinci-edit-001", Vocabulary::P50kEdit),
    ("code-davinci-edit-001", Vocabulary::P50kEdit),
    ("text-davinci-001", Vocabulary::R50k),
    ("text-curie-001", Vocabulary::R50k),
    ("text-babbage-001", Vocabulary::R50k),
    ("text-ada-001", Vocabulary::R50k),
    ("davinci", Vocabulary::R50k),
    ("curie", Vocabulary::R50k),
    ("babbage", Vocabulary::R50k),
    ("ada", Vocabulary::R50k),
    ("text-similarity-davinci-001", Vocabulary::R50k),
    ("text-similarity-curie-001", Vocabulary::R50k),
    ("text-similarity-babbage-001", Vocabulary::R50k),
    ("text-similarity-ada-001", Vocabulary::R50k),
    ("text-search-davinci-doc-001", Vocabulary::R50k),
    ("text-search-curie-doc-001", Vocabulary::R50k),
    ("text-search-babbage-doc-001", Vocabulary::R50k),
    ("text-search-ada-doc-001", Vocabulary::R50k),
    ("code-search-babbage-code-001", Vocabulary::R50k),
    ("code-search-ada-code-001", Vocabulary::R50k),
    ("gpt2", Vocabulary::R50k),
    ("gpt-2", Vocabulary::R50k),
];

const BY_START: &[(&str, Vocabulary)] = &[
    ("o1-", Vocabulary::O200k),
    ("o3-", Vocabulary::O200k),
    ("o4-mini-", Vocabulary::O200k),
    ("gpt-5", Vocabulary::O200k),
    ("gpt-4.5-", Vocabulary::O200k),
    ("gpt-4.1-", Vocabulary::O200k),
    ("chatgpt-4o-", Vocabulary::O200k),
    ("gpt-4o-", Vocabulary::O200k),
    ("gpt-oss-", Vocabulary::O200kHarmony),
    ("ft:gpt-4o", Vocabulary::O200k),
];

impl Vocabulary {
    /// The vocabulary that clients use for `model`.
    pub(crate) fn of_model(model: &str) -> Self {
        let by_name = BY_NAME.iter().find(|(name, _)| *name == model);
        let by_start = || BY_START.iter().find(|(start, _)| model.starts_with(start));
        by_name
            .or_else(by_start)
            .map_or(Self::Cl100k, |(_, vocabulary)| *vocabulary)
    }

    fn name(self) -> &'static str {
        match self {
            Self::R50k => "r50k_base",
            Self::P50k => "p50k_base",
            Self::P50kEdit => "p50k_edit",
            Self::Cl100k => "cl100k_base",
            Self::O200k => "o200k_base",
            Self::O200kHarmony => "o200k_harmony",
        }
    }

    /// Its table, built when first asked for (a tenth of a second).
    fn table(self) -> &'static CoreBPE {
        match self {
            Self::R50k => tiktoken_rs::r50k_base_singleton(),
            Self::P50k => tiktoken_rs::p50k_base_singleton(),
            Self::P50kEdit => tiktoken_rs::p50k_edit_singleton(),
            Self::Cl100k => tiktoken_rs::cl100k_base_singleton(),
            Self::O200k => tiktoken_rs::o200k_base_singleton(),
            Self::O200kHarmony => tiktoken_rs::o200k_harmony_singleton(),
        }
    }

    /// Tokens of `text`, special ones read as plain text, as the clients do it.
    pub(crate) fn count(self, text: &str) -> usize {
        self.table().encode_ordinary(text).len()
    }

    /// The text of `ids`. Clients cut long texts between tokens, which may be inside a character;
    /// such parts of a character at the ends are dropped.
    ///
    /// # Errors
    ///
    /// If the vocabulary has no such id.
    pub(crate) fn decode(self, ids: &[u32]) -> Result<String, Problem> {
        let bytes = self.table().decode_bytes(ids).map_err(|error| {
            let reason = format!(
                "holds id {}, which {} does not have",
                error.token,
                self.name()
            );
            Problem::field("input", reason)
        })?;
        let whole = without_cut_characters(&bytes);
        Ok(String::from_utf8_lossy(whole).into_owned())
    }
}

/// `bytes` without the end of a character at the start and the start of one at the end.
fn without_cut_characters(bytes: &[u8]) -> &[u8] {
    /// Bytes of a UTF-8 character after its first.
    const MOST: usize = 3;
    let is_inner = |byte: &u8| byte & 0b1100_0000 == 0b1000_0000;
    let inner = bytes.iter().take_while(|byte| is_inner(byte)).count();
    let bytes = if inner <= MOST {
        &bytes[inner..]
    } else {
        bytes
    };
    let after = bytes.iter().rev().take_while(|byte| is_inner(byte)).count();
    let Some(lead) = bytes.len().checked_sub(after + 1).filter(|_| after <= MOST) else {
        return bytes;
    };
    let needed = match bytes[lead] {
        0b1100_0000..=0b1101_1111 => 1,
        0b1110_0000..=0b1110_1111 => 2,
        0b1111_0000..=0b1111_0111 => 3,
        _ => 0,
    };
    if needed > after {
        &bytes[..lead]
    } else {
        bytes
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn unknown_names_mean_cl100k() {
        for name in [
            "text-embedding-3-large",
            "bge-m3",
            "text-embedding-v4",
            "gpt-4",
            "local",
        ] {
            assert_eq!(Vocabulary::of_model(name), Vocabulary::Cl100k, "{name}");
        }
        assert_eq!(Vocabulary::of_model("gpt-4o"), Vocabulary::O200k);
        assert_eq!(Vocabulary::of_model("gpt-4o-mini"), Vocabulary::O200k);
        assert_eq!(
            Vocabulary::of_model("gpt-oss-20b"),
            Vocabulary::O200kHarmony
        );
        assert_eq!(Vocabulary::of_model("text-davinci-003"), Vocabulary::P50k);
    }

    #[test]
    fn the_ids_that_clients_send_become_their_text() {
        // As OpenAIEmbeddings sends `hello world`.
        assert_eq!(
            Vocabulary::Cl100k.decode(&[15339, 1917]).unwrap(),
            "hello world"
        );
        for vocabulary in [Vocabulary::Cl100k, Vocabulary::O200k, Vocabulary::R50k] {
            for text in ["", "文意：句子的意思", "naïve 🚀 <|endoftext|> \n\t"] {
                let ids = vocabulary.table().encode_ordinary(text);
                assert_eq!(vocabulary.decode(&ids).unwrap(), text);
            }
        }
    }

    #[test]
    fn ids_beyond_the_vocabulary_are_refused() {
        for id in [100_277, 100_270, 200_000, u32::MAX] {
            let problem = Vocabulary::Cl100k.decode(&[1, id]).unwrap_err();
            assert!(problem.to_string().contains(&id.to_string()), "{problem}");
        }
    }

    #[test]
    fn a_cut_inside_a_character_loses_only_that_character() {
        let ids = Vocabulary::Cl100k.table().encode_ordinary(&"杏".repeat(6));
        assert_eq!(ids.len(), 12, "two tokens each");
        assert_eq!(Vocabulary::Cl100k.decode(&ids[..5]).unwrap(), "杏杏");
        assert_eq!(Vocabulary::Cl100k.decode(&ids[5..]).unwrap(), "杏杏杏");
        assert_eq!(Vocabulary::Cl100k.decode(&ids[1..11]).unwrap(), "杏杏杏杏");
    }

    #[test]
    fn whole_texts_keep_every_byte() {
        for text in ["", "a", "é", "文", "🚀", "a🚀", "文b", "\u{80}"] {
            assert_eq!(
                without_cut_characters(text.as_bytes()),
                text.as_bytes(),
                "{text}"
            );
        }
        assert_eq!(without_cut_characters(&[0xE6]), &[] as &[u8]);
    }
}
