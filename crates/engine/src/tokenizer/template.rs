//! The special tokens around one text and around two.
//!
//! They are read off the post-processor itself: it is run once on marker tokens, and whatever it
//! puts around them is the template. So every post-processor of the library is covered.

use tokenizers::{Encoding, PostProcessor, PostProcessorWrapper, Token};

use crate::{Error, Result};

/// Stands for the first text while the post-processor is probed; no vocabulary reaches this id.
const FIRST: u32 = u32::MAX;
/// Stands for the second text.
const SECOND: u32 = u32::MAX - 1;

/// What a model expects around a text, and around two.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(super) struct Template {
    pub(super) prefix: Vec<u32>,
    pub(super) suffix: Vec<u32>,
    pub(super) pair: PairTemplate,
}

/// What a model expects around and between two texts, with the `token_type_ids` of every part.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct PairTemplate {
    /// Ids before the first text.
    pub before: Vec<u32>,
    /// Ids between the texts.
    pub between: Vec<u32>,
    /// Ids after the second text.
    pub after: Vec<u32>,
    /// `token_type_ids` of `before`.
    pub before_types: Vec<u32>,
    /// `token_type_ids` of `between`.
    pub between_types: Vec<u32>,
    /// `token_type_ids` of `after`.
    pub after_types: Vec<u32>,
    /// `token_type_id` of the first text's tokens.
    pub first_type: u32,
    /// `token_type_id` of the second text's tokens.
    pub second_type: u32,
}

/// Two texts as a cross-encoder reads them.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct TokenPair {
    /// Special tokens and both texts.
    pub input_ids: Vec<u32>,
    /// Which text each id belongs to, as the model was trained.
    pub token_type_ids: Vec<u32>,
}

impl Template {
    /// Special tokens as the post-processor puts them; none without a post-processor.
    pub(super) fn probe(post_processor: Option<&PostProcessorWrapper>) -> Result<Self> {
        let Some(post_processor) = post_processor else {
            return Ok(Self::around(Vec::new(), Vec::new()));
        };
        let single = run(post_processor, marker(FIRST, 0), None)?;
        let (prefix, suffix) = split_at_marker(single.get_ids(), FIRST)?;
        let pair = run(post_processor, marker(FIRST, 0), Some(marker(SECOND, 1)))?;
        Ok(Self {
            prefix: prefix.to_vec(),
            suffix: suffix.to_vec(),
            pair: PairTemplate::read(pair.get_ids(), pair.get_type_ids())?,
        })
    }

    /// A template for one text; two texts follow each other as `prefix A suffix B suffix`.
    pub(super) fn around(prefix: Vec<u32>, suffix: Vec<u32>) -> Self {
        let pair = PairTemplate {
            before_types: vec![0; prefix.len()],
            between_types: vec![0; suffix.len()],
            after_types: vec![1; suffix.len()],
            before: prefix.clone(),
            between: suffix.clone(),
            after: suffix.clone(),
            first_type: 0,
            second_type: 1,
        };
        Self {
            prefix,
            suffix,
            pair,
        }
    }

    /// A template as RoBERTa has it: `prefix A suffix suffix B suffix`, all of one type.
    pub(super) fn roberta(prefix: Vec<u32>, suffix: Vec<u32>) -> Self {
        let between = [suffix.as_slice(), &suffix].concat();
        let pair = PairTemplate {
            before_types: vec![0; prefix.len()],
            between_types: vec![0; between.len()],
            after_types: vec![0; suffix.len()],
            before: prefix.clone(),
            between,
            after: suffix.clone(),
            first_type: 0,
            second_type: 0,
        };
        Self {
            prefix,
            suffix,
            pair,
        }
    }

    pub(super) fn assemble(&self, ids: &[u32], max_length: usize) -> Vec<u32> {
        let room = max_length.saturating_sub(self.prefix.len() + self.suffix.len());
        let kept = &ids[..ids.len().min(room)];
        [&self.prefix, kept, &self.suffix].concat()
    }

    /// The largest id among the special tokens.
    pub(super) fn largest_id(&self) -> Option<u32> {
        let pair = [&self.pair.before, &self.pair.between, &self.pair.after];
        [&self.prefix, &self.suffix]
            .into_iter()
            .chain(pair)
            .flatten()
            .max()
            .copied()
    }
}

impl PairTemplate {
    fn read(ids: &[u32], types: &[u32]) -> Result<Self> {
        let (before, rest) = split_at_marker(ids, FIRST)?;
        let (between, after) = split_at_marker(rest, SECOND)?;
        let first = before.len();
        let second = first + 1 + between.len();
        Ok(Self {
            before: before.to_vec(),
            between: between.to_vec(),
            after: after.to_vec(),
            before_types: types[..first].to_vec(),
            between_types: types[first + 1..second].to_vec(),
            after_types: types[second + 1..].to_vec(),
            first_type: types[first],
            second_type: types[second],
        })
    }

    /// Number of special tokens.
    #[must_use]
    pub fn len(&self) -> usize {
        self.before.len() + self.between.len() + self.after.len()
    }

    /// True if two texts simply follow each other.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    pub(super) fn assemble(&self, first: &[u32], second: &[u32], max_length: usize) -> TokenPair {
        let room = max_length.saturating_sub(self.len());
        let (kept_first, kept_second) = longest_first(first.len(), second.len(), room);
        let first = &first[..kept_first];
        let second = &second[..kept_second];
        let mut token_type_ids = self.before_types.clone();
        token_type_ids.extend(std::iter::repeat_n(self.first_type, first.len()));
        token_type_ids.extend(&self.between_types);
        token_type_ids.extend(std::iter::repeat_n(self.second_type, second.len()));
        token_type_ids.extend(&self.after_types);
        let input_ids = [&self.before, first, &self.between, second, &self.after].concat();
        TokenPair {
            input_ids,
            token_type_ids,
        }
    }
}

/// How many tokens of two texts stay: the longer one gives until both are equal, then both give.
/// The odd token stays with the longer text, and with the second if they are equally long.
fn longest_first(first: usize, second: usize, room: usize) -> (usize, usize) {
    if first + second <= room {
        return (first, second);
    }
    let shorter = first.min(second).min(room / 2);
    let longer = room - shorter;
    if first <= second {
        (shorter, longer)
    } else {
        (longer, shorter)
    }
}

fn marker(id: u32, type_id: u32) -> Encoding {
    Encoding::from_tokens(vec![Token::new(id, "x".into(), (0, 1))], type_id)
}

fn run(
    post_processor: &PostProcessorWrapper,
    first: Encoding,
    second: Option<Encoding>,
) -> Result<Encoding> {
    post_processor
        .process(first, second, true)
        .map_err(|error| Error::tokenizer(format!("post_processor failed: {error}")))
}

fn split_at_marker(ids: &[u32], marker: u32) -> Result<(&[u32], &[u32])> {
    let at = ids.iter().position(|&id| id == marker).ok_or_else(|| {
        Error::tokenizer(
            "`post_processor` drops the text itself, expected special tokens around it",
        )
    })?;
    Ok((&ids[..at], &ids[at + 1..]))
}

#[cfg(test)]
mod tests {
    use super::*;

    /// The rule written out a token at a time: always the longer text loses its last one.
    fn one_by_one(mut first: usize, mut second: usize, room: usize) -> (usize, usize) {
        let first_is_longer = first > second;
        while first + second > room {
            let take_first = if first == second {
                !first_is_longer
            } else {
                first > second
            };
            if take_first {
                first -= 1;
            } else {
                second -= 1;
            }
        }
        (first, second)
    }

    #[test]
    fn longest_first_is_one_token_at_a_time() {
        for first in 0..12 {
            for second in 0..12 {
                for room in 0..26 {
                    assert_eq!(
                        longest_first(first, second, room),
                        one_by_one(first, second, room),
                        "{first} and {second} tokens into {room}"
                    );
                }
            }
        }
    }

    #[test]
    fn special_tokens_stay_whole_when_nothing_else_fits() {
        let template = Template::around(vec![1], vec![2]);
        assert_eq!(template.assemble(&[7, 8, 9], 4), [1, 7, 8, 2]);
        assert_eq!(template.assemble(&[7, 8, 9], 1), [1, 2]);
        let pair = template.pair.assemble(&[7], &[8], 0);
        assert_eq!(pair.input_ids, [1, 2, 2]);
        assert_eq!(pair.token_type_ids, [0, 0, 1]);
    }
}
