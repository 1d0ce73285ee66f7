//! From a model's files to a [`Transformer`].

mod decoders;
mod experts;
mod fields;
mod gguf;
mod gguf_decoders;
mod hugging_face;
mod names;
mod blocks;
mod parts;
mod rope;

use std::path::Path;
use std::sync::{Arc, OnceLock};

use self::names::Names;
use self::parts::{Part, Stacked};
use super::config::{Config, RopeScaling};
use super::relative::RelativeBias;
use super::{Embeddings, Layer, Transformer};
use crate::kernels::attention::Heads;
use crate::kernels::buffer::Buffer;
use crate::kernels::isa::Isa;
use crate::kernels::linear::{Format, Linear};
use crate::kernels::norm::Norm;
use crate::kernels::rope::Rope;
use crate::kernels::rows::padded;
use crate::kernels::team::Team;
use crate::weights::{Tensor, Weights};
use crate::{Error, ErrorKind, Result};

pub(crate) use fields::Fields;
pub(crate) use parts::tensor;

/// What is needed besides the files.
#[derive(Debug)]
pub(crate) struct Target<'a> {
    pub(crate) isa: Isa,
    pub(crate) format: Format,
    pub(crate) team: &'a Team,
}

/// Weights with the facts that name and shape them.
#[derive(Debug)]
pub(crate) struct Source {
    pub(crate) weights: Arc<Weights>,
    pub(crate) config: Config,
    /// What the checkpoint puts before every name, such as `bert.`.
    prefix: &'static str,
    names: Names,
}

impl Source {
    /// Reads the description in `folder` (`config.json`) or in the GGUF metadata of `weights`.
    pub(crate) fn open(folder: &Path, weights: Arc<Weights>) -> Result<Self> {
        let (config, names) = match weights.gguf() {
            Some(metadata) => gguf::describe(metadata, &weights)?,
            None => {
                let fields = Fields::open(&folder.join("config.json"))?;
                hugging_face::describe(&fields.of_weights(weights.names().count()))?
            }
        };
        expect_head_width(&config, &weights)?;
        let prefix = names
            .prefixes
            .iter()
            .find(|prefix| {
                weights
                    .get(&format!("{prefix}{}", names.token_embeddings))
                    .is_some()
            })
            .ok_or_else(|| ErrorKind::MissingTensor {
                path: weights.path().to_path_buf(),
                tensor: names.token_embeddings.to_owned(),
            })?;
        Ok(Self {
            weights,
            config,
            prefix,
            names,
        })
    }

    /// Refuses models whose tokens see what comes after them.
    pub(crate) fn must_be_causal(&self) -> Result<()> {
        if self
            .config
            .layers
            .iter()
            .all(|layer| layer.reach.after == 0)
        {
            return Ok(());
        }
        let expected = "a model that writes text, such as `llama` or `qwen3`";
        Err(Error::unsupported(
            "model_type",
            self.config.model_type.as_str(),
            expected,
        ))
    }

    /// The layer that turns a hidden state into a score for each token: the token table, unless the
    /// file has one of its own.
    pub(crate) fn head(&self, target: &Target<'_>) -> Result<Linear> {
        let (vocab_size, hidden_size) = (self.config.vocab_size, self.config.hidden_size);
        let is_there = |name: &&str| self.weights.get(&format!("{name}.weight")).is_some();
        let tokens = self.name(self.names.token_embeddings);
        let tied = tokens.strip_suffix(".weight").unwrap_or(&tokens);
        let own = ["lm_head", "output"].into_iter().find(is_there);
        let part = Part::whole(own.unwrap_or(tied).to_owned(), vocab_size);
        self.linear(target, &[part], hidden_size)
    }

    fn name(&self, name: &str) -> String {
        format!("{}{name}", self.prefix)
    }

    /// A whole tensor of the given shape.
    fn vector(&self, name: &str, shape: &[usize]) -> Result<Vec<f32>> {
        parts::tensor(&self.weights, &self.name(name), shape)?.to_f32()
    }

    /// A norm with a bias if the file has one; `None` if the file has no such norm.
    fn norm(&self, name: &str, width: usize) -> Result<Option<Norm>> {
        let weight_name = format!("{name}.weight");
        if self.weights.get(&self.name(&weight_name)).is_none() {
            return Ok(None);
        }
        let mut weight = self.vector(&weight_name, &[width])?;
        if self.config.norm_plus_one {
            weight.iter_mut().for_each(|value| *value += 1.0);
        }
        let bias = self.bias(name, width)?;
        Ok(Some(Norm::new(
            self.config.norm_kind,
            self.config.norm_eps,
            &weight,
            &bias,
        )))
    }

    /// As [`Source::norm`], for a norm that the architecture requires.
    fn required_norm(&self, name: &str, width: usize) -> Result<Option<Norm>> {
        let norm = self.norm(name, width)?;
        if norm.is_some() {
            return Ok(norm);
        }
        let (path, tensor) = (
            self.weights.path().to_path_buf(),
            self.name(name) + ".weight",
        );
        Err(ErrorKind::MissingTensor { path, tensor }.into())
    }

    /// The bias beside `name`; empty if there is none.
    fn bias(&self, name: &str, width: usize) -> Result<Vec<f32>> {
        let name = format!("{name}.bias");
        match self.weights.get(&self.name(&name)) {
            Some(_) => self.vector(&name, &[width]),
            None => Ok(Vec::new()),
        }
    }

    /// A table of rows, padded to the stride of activations.
    fn table(&self, name: &str, width: usize) -> Result<(Buffer<f32>, usize)> {
        let tensor = parts::existing(&self.weights, &self.name(name))?;
        let rows = tensor.rows();
        if tensor.columns() != width {
            return Err(parts::shape_error(&tensor, &[rows, width]));
        }
        let values = tensor.to_f32()?;
        let mut table = Buffer::zeroed(rows * padded(width));
        for (row, values) in values.chunks_exact(width).enumerate() {
            table[row * padded(width)..][..width].copy_from_slice(values);
        }
        Ok((table, rows))
    }

    /// Several layers read from the same input, packed as one, each padded to whole panels.
    fn linear(&self, target: &Target<'_>, parts: &[Part<'_>], inputs: usize) -> Result<Linear> {
        let stacked = Stacked::new(&self.weights, parts, inputs)?;
        let blocks = stacked.blocks().filter(|_| target.format == Format::Blocks);
        let linear = match blocks {
            Some(blocks) => {
                Linear::pack_blocks(target.team, target.isa, &blocks, inputs, stacked.bias())
            }
            None => Linear::pack(target.team, &stacked, stacked.bias(), target.format),
        };
        // Packed weights are a copy; the file's would stay in memory beside them.
        self.weights.release();
        linear
    }
}

/// Refuses a head wider than any tensor, before the frequencies of its rotation are worked out: they
/// are needed ahead of the tensors whose shapes would betray it.
fn expect_head_width(config: &Config, weights: &Weights) -> Result<()> {
    let sides = |tensor: Tensor<'_>| tensor.shape.iter().copied().max();
    let most = weights.tensors().filter_map(sides).max().unwrap_or(0);
    if config.head_dim.max(config.rotary_dim) <= most {
        return Ok(());
    }
    let width = config.head_dim.max(config.rotary_dim).to_string();
    let expected = format!("at most {most}, the longest side of a tensor");
    Err(Error::unsupported("head_dim", width, expected))
}

impl Transformer {
    /// Packs the weights of `source` for `target`.
    ///
    /// # Errors
    ///
    /// If a tensor is missing, has another shape than the description says, or is not finite.
    pub(crate) fn load(source: &Source, target: &Target<'_>) -> Result<Self> {
        let config = source.config.clone();
        let embeddings = embeddings(source)?;
        let mut ropes: Vec<(f32, Arc<Rope>)> = Vec::new();
        let mut rope_of = |theta: f32| {
            if let Some((_, rope)) = ropes.iter().find(|(known, _)| *known == theta) {
                return Arc::clone(rope);
            }
            let rope = Arc::new(rope::rope(&config, theta, false));
            ropes.push((theta, Arc::clone(&rope)));
            rope
        };
        let mut layers = Vec::with_capacity(config.layers.len());
        for (index, layer) in config.layers.iter().enumerate() {
            layers.push(load_layer(
                source,
                target,
                index,
                layer.rope_theta.map(&mut rope_of),
            )?);
        }
        let final_norm = match (config.final_norm, source.names.final_norm) {
            (true, Some(name)) => source.required_norm(name, config.hidden_size)?,
            _ => None,
        };
        let long_rope = config.layers.first().and_then(|layer| {
            let is_long = matches!(config.decoder.rope_scaling, RopeScaling::Long { .. });
            let theta = layer.rope_theta.filter(|_| is_long)?;
            Some(Arc::new(rope::rope(&config, theta, true)))
        });
        let relative_bias = relative_bias(source)?;
        let spread_bias = OnceLock::new();
        let isa = target.isa;
        Ok(Self {
            config,
            isa,
            embeddings,
            layers,
            final_norm,
            long_rope,
            relative_bias,
            spread_bias,
        })
    }
}

fn embeddings(source: &Source) -> Result<Embeddings> {
    let (config, names) = (&source.config, &source.names);
    let tokens = source.name(names.token_embeddings);
    parts::tensor(
        &source.weights,
        &tokens,
        &[config.vocab_size, config.hidden_size],
    )?;
    let table = |name: Option<&str>| match name {
        Some(name) => source.table(name, config.hidden_size),
        None => Ok((Buffer::zeroed(0), 0)),
    };
    let (positions, num_positions) = table(names.position_embeddings)?;
    if names.position_embeddings.is_some() && num_positions < config.max_positions {
        return Err(Error::from(ErrorKind::TensorShape {
            tensor: source.name(names.position_embeddings.unwrap_or_default()),
            expected: vec![config.max_positions, config.hidden_size],
            received: vec![num_positions, config.hidden_size],
        }));
    }
    let (token_types, _) = table(names.token_type_embeddings.filter(|_| config.token_types))?;
    let norm = match names.embedding_norm.filter(|_| config.embedding_norm) {
        Some(name) => source.required_norm(name, config.hidden_size)?,
        None => None,
    };
    let weights = Arc::clone(&source.weights);
    Ok(Embeddings {
        weights,
        tokens,
        positions,
        token_types,
        norm,
    })
}

fn relative_bias(source: &Source) -> Result<Option<RelativeBias>> {
    let Some(num_buckets) = source.config.relative_attention_num_buckets else {
        return Ok(None);
    };
    let num_heads = source.config.num_attention_heads;
    let name = source.names.relative_bias.unwrap_or_default();
    let values = source.vector(name, &[num_buckets, num_heads])?;
    Ok(Some(RelativeBias {
        num_buckets,
        num_heads,
        values,
    }))
}

fn load_layer(
    source: &Source,
    target: &Target<'_>,
    index: usize,
    rope: Option<Arc<Rope>>,
) -> Result<Layer> {
    let config = &source.config;
    let names = source.names.layer;
    let at = |name: &str| format!("{}{}", names.stem.replace("{}", &index.to_string()), name);
    let (hidden, inner) = (config.hidden_size, config.intermediate_size);
    let queries = config.num_attention_heads * config.head_dim;
    let keys = config.num_key_value_heads * config.head_dim;
    let contexts = config.num_attention_heads * config.value_dim();
    let whole = |name, rows| Part::whole(name, rows).stored(names.transposed);
    let heads = Heads {
        num_heads: config.num_attention_heads,
        num_key_value_heads: config.num_key_value_heads,
        head_dim: config.head_dim,
        scale: config.attention_scale,
        reach: config.layers[index].reach,
    };
    let norm = |name: Option<&'static str>, width| match name {
        // ModernBERT's first layer lacks the norm before its attention.
        Some(name) if index == 0 && names.first_attention_norm_is_absent => {
            if Some(name) == names.attention_norm {
                Ok(None)
            } else {
                source.required_norm(&at(name), width)
            }
        }
        Some(name) => source.required_norm(&at(name), width),
        None => Ok(None),
    };
    let full = |name: &str| source.name(&at(name));
    let query_key_value = names.query_key_value.parts(&full, [queries, keys, keys]);
    let up = match (names.gate, config.gated) {
        (Some(gate), true) => gate.parts(&full, [inner, inner]),
        _ => vec![whole(full(names.up), inner)],
    };
    let query_key_value = query_key_value.into_iter();
    let query_key_value: Vec<_> = query_key_value
        .map(|part| part.stored(names.transposed))
        .collect();
    let described = &config.decoder;
    let latent = described.latent.as_ref();
    let latent = latent.map(|latent| experts::latent(source, target, &at(""), latent));
    let latent = latent.transpose()?.map(Box::new);
    let experts = described.experts.as_ref();
    let experts = experts.filter(|experts| !experts.dense_layers.contains(&index));
    let experts = experts.map(|experts| experts::experts(source, target, &at(""), experts));
    let experts = experts.transpose()?.map(Box::new);
    let head_norm =
        |name: Option<&'static str>| norm(name.filter(|_| config.query_key_norm), config.head_dim);
    Ok(Layer {
        heads,
        rope,
        attention_norm: norm(names.attention_norm, hidden)?,
        query_key_value: match &latent {
            Some(_) => None,
            None => Some(source.linear(target, &query_key_value, hidden)?),
        },
        latent,
        query_norm: head_norm(names.query_norm)?,
        key_norm: head_norm(names.key_norm)?,
        output: source.linear(target, &[whole(full(names.output), hidden)], contexts)?,
        post_attention_norm: norm(names.post_attention_norm, hidden)?,
        feed_forward_norm: norm(names.feed_forward_norm, hidden)?,
        up: match &experts {
            Some(_) => None,
            None => Some(source.linear(target, &up, hidden)?),
        },
        down: match &experts {
            Some(_) => None,
            None => {
                let down = whole(full(names.down), hidden);
                Some(source.linear(target, &[down], inner)?)
            }
        },
        experts,
        post_feed_forward_norm: norm(names.post_feed_forward_norm, hidden)?,
    })
}

#[cfg(test)]
mod tests;
