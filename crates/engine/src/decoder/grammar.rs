//! Which texts a model may write, and the vocabulary that they are written in.

use std::sync::Arc;

use llguidance::api::{ParserLimits, TopLevelGrammar};
use llguidance::toktrie::{ApproximateTokEnv, SimpleVob, TokEnv, TokRxInfo, TokTrie};
use llguidance::{Matcher, ParserFactory};
use serde_json::{Value, json};

use super::Decoder;
use crate::{Error, ErrorKind, Result};

/// What a text has to be.
#[derive(Clone, Debug, PartialEq)]
pub enum Grammar {
    /// JSON of this schema, on one line, as Python's `json.dumps` writes it.
    JsonSchema(Value),
    /// A text that the regular expression describes from its beginning to its end.
    Regex(String),
    /// A grammar in llguidance's dialect of Lark, where `%json {…}` stands for JSON of a schema.
    Lark(String),
}

impl Grammar {
    /// Any JSON object.
    #[must_use]
    pub fn json_object() -> Self {
        Self::JsonSchema(json!({"type": "object"}))
    }
}

/// `schema` with JSON's spaces fixed: free ones would let a small model write nothing else.
#[must_use]
pub fn compact(schema: &Value) -> Value {
    let mut schema = match schema {
        Value::Object(_) => schema.clone(),
        // `true` is a schema too.
        other => json!({"allOf": [other]}),
    };
    schema["x-guidance"] =
        json!({"whitespace_flexible": false, "item_separator": ", ", "key_separator": ": "});
    schema
}

/// A model's tokens by their bytes, ready to be held against grammars.
pub(super) struct Vocabulary {
    factory: ParserFactory,
    environment: TokEnv,
    /// Tokens that end what is open, the shortest way first.
    closers: Vec<u32>,
    /// Stands for all tokens that end an answer.
    end: u32,
}

impl std::fmt::Debug for Vocabulary {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Vocabulary").finish_non_exhaustive()
    }
}

impl Vocabulary {
    fn new(decoder: &Decoder) -> Result<Self> {
        let mut words = decoder.tokenizer.spellings(decoder.vocab_size());
        for id in &decoder.end_ids {
            if let Some(word) = words.get_mut(*id as usize) {
                word.clear();
            }
        }
        let end = u32::try_from(words.len()).unwrap_or(u32::MAX);
        words.push(b"\xff<end>".to_vec());
        let info = TokRxInfo::new(end + 1, end);
        let trie = TokTrie::from(&info, &words);
        // The quote first: within a string the others are letters.
        let closers = [
            "\"", "}", "]", "0", "1", "2", "3", "4", "5", "6", "7", "8", "9", "true", "null", "{",
            "[",
        ];
        let closers = closers
            .iter()
            .filter_map(|text| trie.token_id(text.as_bytes()));
        let closers = closers.collect();
        let environment: TokEnv = Arc::new(ApproximateTokEnv::new(trie));
        let mut factory =
            ParserFactory::new_simple(&environment).map_err(|error| refused(&error))?;
        *factory.limits_mut() = ParserLimits {
            verbose_errors: false,
            ..ParserLimits::default()
        };
        factory.quiet();
        Ok(Self {
            factory,
            environment,
            closers,
            end,
        })
    }

    fn trie(&self) -> &TokTrie {
        self.environment.tok_trie()
    }

    /// The bytes of a token.
    pub(super) fn bytes(&self, id: u32) -> &[u8] {
        if id < self.end {
            self.trie().token(id)
        } else {
            &[]
        }
    }

    pub(super) fn matcher(&self, grammar: &Grammar) -> Result<Matcher> {
        let grammar = match grammar {
            Grammar::JsonSchema(schema) => TopLevelGrammar::from_json_schema(compact(schema)),
            Grammar::Regex(regex) => TopLevelGrammar::from_regex(regex),
            Grammar::Lark(lark) => TopLevelGrammar::from_lark(lark.clone()),
        };
        let parser = self.factory.create_parser(grammar);
        Ok(Matcher::new(Ok(parser.map_err(|error| refused(&error))?)))
    }

    /// True if `mask` lets the text end.
    pub(super) fn may_end(&self, mask: &SimpleVob) -> bool {
        mask.is_allowed(self.end)
    }

    /// A short way from where `matcher` is to an end of the text; none if none of `limit` tokens was
    /// found.
    pub(super) fn way_out(&self, matcher: &Matcher, limit: usize) -> Option<Vec<u32>> {
        /// The first takes the likeliest way, the others any: forms such as `(ab)*c` have no other.
        const ATTEMPTS: usize = 4;
        (0..ATTEMPTS).find_map(|attempt| self.attempt(matcher.clone(), limit, attempt))
    }

    fn attempt(&self, mut matcher: Matcher, limit: usize, attempt: usize) -> Option<Vec<u32>> {
        let mut path = Vec::new();
        loop {
            if matcher.is_stopped() || matcher.is_accepting().ok()? {
                return (path.len() <= limit).then_some(path);
            }
            if path.len() >= limit {
                return None;
            }
            let step = self.step_out(&mut matcher, attempt * (path.len() + 1))?;
            matcher.consume_tokens(&step).ok()?;
            path.extend(step);
        }
    }

    /// The next tokens of a way out; `chance` chooses among words, if it is not 0.
    fn step_out(&self, matcher: &mut Matcher, chance: usize) -> Option<Vec<u32>> {
        let forced = matcher.compute_ff_bytes();
        if !forced.is_empty() {
            return Some(self.trie().greedy_tokenize(&forced));
        }
        let mask = matcher.compute_mask().ok()?;
        let closer = self.closers.iter().find(|id| mask.is_allowed(**id));
        if let Some(id) = closer.filter(|_| chance == 0) {
            return Some(vec![*id]);
        }
        let mut allowed = mask.iter().filter(|id| *id != self.end);
        if chance == 0 {
            // Of words to choose from, any will do; long tokens are soonest at their end.
            let longest = allowed.max_by_key(|id| self.bytes(*id).len());
            return longest.map(|id| vec![id]);
        }
        let allowed: Vec<u32> = allowed.by_ref().collect();
        let any = chance.wrapping_mul(0x9E37_79B9) >> 8;
        let any = any.checked_rem(allowed.len()).map(|at| allowed[at]);
        any.map(|id| vec![id])
    }
}

impl Decoder {
    pub(super) fn vocabulary(&self) -> Result<&Arc<Vocabulary>> {
        if let Some(vocabulary) = self.vocabulary.get() {
            return Ok(vocabulary);
        }
        // Of two threads that make one at the same time, the first's is kept.
        let vocabulary = Arc::new(Vocabulary::new(self)?);
        Ok(self.vocabulary.get_or_init(|| vocabulary))
    }
}

/// A grammar that makes no sense or describes no text.
pub(super) fn refused(error: &impl std::fmt::Display) -> Error {
    let text = error.to_string();
    // Further lines describe the parser's state; only a regular expression's say what is wrong with it.
    let first = text.lines().next().unwrap_or_default().trim();
    let cause = text.lines().find_map(|line| line.strip_prefix("error: "));
    let reason = match cause.filter(|_| first.ends_with(':')) {
        Some(cause) => format!("{first} {}", cause.trim()),
        None => first.to_owned(),
    };
    ErrorKind::Grammar { reason }.into()
}
