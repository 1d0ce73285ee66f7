//! What cross-encoders and SPLADE models put on top of the hidden states.

use super::dense::{After, Dense};
use super::description::{ModelDescription, Output};
use crate::kernels::activation::Activation;
use crate::kernels::isa::Isa;
use crate::kernels::norm::{Norm, NormKind};
use crate::kernels::rows::padded;
use crate::kernels::team::Team;
use crate::transformer::Hidden;
use crate::transformer::config::Config;
use crate::transformer::load::{Fields, tensor};
use crate::weights::Weights;
use crate::{Error, Result};

/// A head beyond pooling.
#[derive(Debug)]
pub(super) enum Head {
    /// Pooling alone.
    None,
    /// Relevance of a pair: layers over the first token's (or the mean) state, the last with one
    /// output.
    Relevance {
        layers: Vec<Dense>,
        norm: Option<Norm>,
        mean: bool,
    },
    /// Weights of vocabulary entries: `log(1 + max over tokens of relu(logits))`.
    Sparse(Box<SparseHead>),
}

/// The masked-language-model head.
#[derive(Debug)]
pub(super) struct SparseHead {
    transform: Dense,
    norm: Norm,
    decoder: Dense,
    bias: Vec<f32>,
}

/// Tokens whose logits are held at a time.
const TOKENS: usize = 32;

impl Head {
    /// Loads the head that `description` promises.
    pub(super) fn load(
        team: &Team,
        weights: &Weights,
        config: &Config,
        fields: Option<&Fields>,
        description: &ModelDescription,
    ) -> Result<Self> {
        match description.output {
            Output::Embedding => Ok(Self::None),
            Output::Relevance => relevance(team, weights, config, fields),
            Output::Sparse => sparse(team, weights, config),
        }
    }
}

fn relevance(
    team: &Team,
    weights: &Weights,
    config: &Config,
    fields: Option<&Fields>,
) -> Result<Head> {
    let width = config.hidden_size;
    let load =
        |name: &str, outputs, after| Dense::load(team, weights, name, (outputs, width), after);
    let relu = After::Activation(Activation::Relu);
    let (layers, norm, mean) = match config.model_type.as_str() {
        "bert" => (
            vec![
                load("bert.pooler.dense", width, After::Tanh)?,
                load("classifier", 1, After::Nothing)?,
            ],
            None,
            false,
        ),
        "roberta" | "xlm-roberta" | "camembert" => (
            vec![
                load("classifier.dense", width, After::Tanh)?,
                load("classifier.out_proj", 1, After::Nothing)?,
            ],
            None,
            false,
        ),
        "distilbert" => (
            vec![
                load("pre_classifier", width, relu)?,
                load("classifier", 1, After::Nothing)?,
            ],
            None,
            false,
        ),
        "modernbert" => {
            let gelu = After::Activation(Activation::Gelu);
            let weight = tensor(weights, "head.norm.weight", &[width])?.to_f32()?;
            let norm = Norm::new(NormKind::Layer, config.norm_eps, &weight, &[]);
            let pooling = fields.and_then(|fields| fields.text("classifier_pooling"));
            let layers = vec![
                load("head.dense", width, gelu)?,
                load("classifier", 1, After::Nothing)?,
            ];
            (layers, Some(norm), pooling == Some("mean"))
        }
        other => {
            let expected = "a cross-encoder of the `bert`, `roberta`, `distilbert` or `modernbert` \
                            family";
            return Err(Error::unsupported("architectures", other, expected));
        }
    };
    Ok(Head::Relevance { layers, norm, mean })
}

fn sparse(team: &Team, weights: &Weights, config: &Config) -> Result<Head> {
    let (hidden, vocab) = (config.hidden_size, config.vocab_size);
    let (transform, norm, table, bias) = match config.model_type.as_str() {
        "bert" => (
            "cls.predictions.transform.dense",
            "cls.predictions.transform.LayerNorm",
            "bert.embeddings.word_embeddings",
            "cls.predictions.bias",
        ),
        "distilbert" => (
            "vocab_transform",
            "vocab_layer_norm",
            "distilbert.embeddings.word_embeddings",
            "vocab_projector.bias",
        ),
        other => {
            let expected = "a SPLADE model of the `bert` or `distilbert` family";
            return Err(Error::unsupported("architectures", other, expected));
        }
    };
    let after = After::Activation(config.activation);
    let vector = |name: &str, width| tensor(weights, name, &[width])?.to_f32();
    let norm_weight = vector(&format!("{norm}.weight"), hidden)?;
    let norm_bias = vector(&format!("{norm}.bias"), hidden)?;
    Ok(Head::Sparse(Box::new(SparseHead {
        transform: Dense::load(team, weights, transform, (hidden, hidden), after)?,
        norm: Norm::new(NormKind::Layer, config.norm_eps, &norm_weight, &norm_bias),
        decoder: Dense::load(team, weights, table, (vocab, hidden), After::Nothing)?,
        bias: vector(bias, vocab)?,
    })))
}

/// The relevance logit of the pair whose tokens are `first..first + length`.
pub(super) fn relevance_logit(
    isa: Isa,
    (layers, norm, mean): (&[Dense], Option<&Norm>, bool),
    hidden: &Hidden<'_>,
    first: usize,
    length: usize,
) -> f32 {
    let mut state = hidden.token(first).to_vec();
    if mean {
        state = super::pooling::mean(hidden, first, length);
    }
    for (index, layer) in layers.iter().enumerate() {
        state = layer.apply(isa, &state);
        if let (0, Some(norm)) = (index, norm) {
            let width = state.len();
            state.resize(padded(width), 0.0);
            norm.apply_to(isa, &mut state);
            state.truncate(width);
        }
    }
    state.first().copied().unwrap_or(f32::NAN)
}

impl SparseHead {
    /// The logits of some neighbouring tokens, `[tokens, vocab_size]`.
    pub(super) fn logits(
        &self,
        isa: Isa,
        hidden: &Hidden<'_>,
        tokens: std::ops::Range<usize>,
    ) -> Vec<f32> {
        let states: Vec<f32> = tokens
            .clone()
            .flat_map(|token| hidden.token(token))
            .copied()
            .collect();
        let states = self.transform.apply(isa, &states);
        let width = self.transform.outputs();
        let mut rows = vec![0.0; tokens.len() * padded(width)];
        for (row, state) in states.chunks_exact(width).enumerate() {
            rows[row * padded(width)..][..width].copy_from_slice(state);
        }
        self.norm.apply_to(isa, &mut rows);
        let states: Vec<f32> = rows
            .chunks_exact(padded(width))
            .flat_map(|row| &row[..width])
            .copied()
            .collect();
        let mut logits = self.decoder.apply(isa, &states);
        for row in logits.chunks_exact_mut(self.bias.len()) {
            row.iter_mut()
                .zip(&self.bias)
                .for_each(|(logit, bias)| *logit += bias);
        }
        logits
    }

    /// The weights above zero of the text whose tokens are `first..first + length`, by token id.
    pub(super) fn weigh(
        &self,
        isa: Isa,
        hidden: &Hidden<'_>,
        first: usize,
        length: usize,
    ) -> Vec<(u32, f32)> {
        let mut largest = vec![0.0_f32; self.bias.len()];
        let mut token = first;
        while token < first + length {
            let end = (token + TOKENS).min(first + length);
            for row in self
                .logits(isa, hidden, token..end)
                .chunks_exact(largest.len())
            {
                largest
                    .iter_mut()
                    .zip(row)
                    .for_each(|(most, logit)| *most = most.max(*logit));
            }
            token = end;
        }
        let weights = largest
            .into_iter()
            .zip(0..)
            .filter(|(logit, _)| *logit > 0.0);
        weights.map(|(logit, id)| (id, logit.ln_1p())).collect()
    }
}
