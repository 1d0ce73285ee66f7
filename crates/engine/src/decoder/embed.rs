//! The other reading of the same weights: a text's hidden states as its vector.

use super::Decoder;
use crate::Result;
use crate::encoder::{Encoder, EncoderOptions, Trunk};

impl Decoder {
    /// An encoder over the weights that the decoder has in memory. Pooling and prompts are those of the
    /// model's files, or as asked; a model of which no file says it gives its last token's state.
    ///
    /// # Errors
    ///
    /// If the options ask for another precision than the weights are in, or the model's files for
    /// something that the engine does not have.
    pub fn encoder(&self, options: &EncoderOptions) -> Result<Encoder> {
        let trunk = Trunk {
            path: &self.path,
            weights: &self.weights,
            transformer: &self.transformer,
            tokenizer: &self.tokenizer,
            precision: self.precision,
            threads: self.team.size(),
        };
        Encoder::over(trunk, options)
    }

    /// True if `encoder` reads the weights that this decoder has in memory, and no others.
    #[must_use]
    pub fn shares_weights(&self, encoder: &Encoder) -> bool {
        encoder.has_transformer(&self.transformer)
    }
}

#[cfg(test)]
mod tests {
    use std::path::Path;

    use super::*;
    use crate::ErrorKind;
    use crate::decoder::DecoderOptions;
    use crate::encoder::{EmbedOptions, Pooling, Precision};

    const TEXTS: [&str; 3] = [
        "The sense of a text.",
        "文意",
        "a much longer text, of more tokens",
    ];

    #[test]
    fn one_trunk_gives_the_vectors_of_a_model_of_its_own() {
        let folder = concat!(env!("CARGO_MANIFEST_DIR"), "/tests/fixtures/decoders");
        for name in ["llama", "qwen3", "gemma3", "phi3"] {
            let path = Path::new(folder).join(name);
            let precision = Some(Precision::F32);
            let threads = Some(1);
            let decoder = DecoderOptions {
                precision,
                threads,
                ..DecoderOptions::default()
            };
            let decoder = Decoder::open(&path, &decoder).unwrap();
            for pooling in [None, Some(Pooling::Mean)] {
                let options = EncoderOptions {
                    threads,
                    pooling,
                    ..EncoderOptions::default()
                };
                let shared = decoder.encoder(&options).unwrap();
                assert!(decoder.shares_weights(&shared));
                let apart = EncoderOptions {
                    precision,
                    ..options
                };
                let apart = Encoder::open(&path, &apart).unwrap();
                assert!(!decoder.shares_weights(&apart));
                let embed = |encoder: &Encoder| {
                    let embeddings = encoder.embed(&TEXTS, &EmbedOptions::default()).unwrap();
                    let rows = embeddings.iter().map(<[f32]>::to_vec);
                    rows.collect::<Vec<_>>()
                };
                assert_eq!(embed(&shared), embed(&apart), "{name} {pooling:?}");
                assert_eq!(shared.fingerprint(), apart.fingerprint());
            }
            let other = EncoderOptions {
                precision: Some(Precision::Int8),
                ..EncoderOptions::default()
            };
            let error = decoder.encoder(&other).unwrap_err();
            assert!(matches!(error.kind(), ErrorKind::Option { .. }), "{error}");
        }
    }
}
