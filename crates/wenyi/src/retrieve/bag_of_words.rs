//! An embedder for tests: hashed words and pairs of characters, the same on every machine.

use std::sync::Mutex;

use super::words::keys;
use crate::embed::{EmbedError, EmbedOptions, Embedder, Embeddings, Fingerprint, Role, TokenUsage};

const DIMENSIONS: usize = 256;

/// One token a word (longer ones one for every 4 bytes), a mark or an ideograph, and two special.
#[derive(Debug)]
pub(crate) struct BagOfWords {
    fingerprint: Fingerprint,
    max_length: usize,
    embedded: Mutex<Vec<String>>,
}

impl BagOfWords {
    pub(crate) fn new(max_length: usize) -> Self {
        let fingerprint = Fingerprint {
            model: "bag-of-words".into(),
            weights: "0".into(),
            pooling: "mean".into(),
            document_prompt: "passage: ".into(),
            dimensions: DIMENSIONS,
            precision: "f32".into(),
        };
        Self {
            fingerprint,
            max_length,
            embedded: Mutex::default(),
        }
    }

    /// The same model with other weights.
    pub(crate) fn retrained(mut self) -> Self {
        self.fingerprint.weights = "1".into();
        self
    }

    /// What was embedded as a document since the last call.
    pub(crate) fn take_embedded(&self) -> Vec<String> {
        std::mem::take(&mut self.embedded.lock().unwrap())
    }
}

impl Embedder for BagOfWords {
    fn fingerprint(&self) -> &Fingerprint {
        &self.fingerprint
    }

    fn max_length(&self) -> usize {
        self.max_length
    }

    fn count_tokens(&self, text: &str) -> Result<usize, EmbedError> {
        let mut tokens = 2;
        for word in text.split_whitespace() {
            let letters = word.bytes().filter(u8::is_ascii_alphanumeric).count();
            let others = word.chars().filter(|c| !c.is_ascii_alphanumeric()).count();
            tokens += letters.div_ceil(4) + others;
        }
        Ok(tokens)
    }

    fn embed(&self, texts: &[&str], options: &EmbedOptions) -> Result<Embeddings, EmbedError> {
        let mut embeddings = Embeddings {
            dimensions: DIMENSIONS,
            ..Embeddings::default()
        };
        for text in texts {
            if options.role == Role::Document {
                self.embedded.lock().unwrap().push((*text).to_owned());
            }
            let mut vector = vec![1e-3_f32; DIMENSIONS];
            for key in keys(text) {
                let hash = super::load::hex_sha256(key.as_bytes());
                let slot = usize::from_str_radix(&hash[..8], 16).unwrap() % DIMENSIONS;
                vector[slot] += 1.0;
            }
            let norm = vector
                .iter()
                .map(|v| v * v)
                .sum::<f32>()
                .sqrt()
                .max(f32::MIN_POSITIVE);
            embeddings.values.extend(vector.iter().map(|v| v / norm));
            let tokens = self.count_tokens(text)?;
            embeddings.usage.push(TokenUsage {
                seen: tokens,
                kept: tokens,
                windows: 1,
            });
        }
        Ok(embeddings)
    }
}
