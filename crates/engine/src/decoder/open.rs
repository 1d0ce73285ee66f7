//! From a path to a decoder that is ready to run.

use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, OnceLock};

use super::template::ChatTemplate;
use super::together::Together;
use super::{CacheFormat, Decoder, Work};
use crate::encoder::Precision;
use crate::kernels::isa::Isa;
use crate::kernels::linear::{Format, InputScratch, Linear};
use crate::kernels::team::Team;
use crate::tokenizer::Tokenizer;
use crate::transformer::load::{Fields, Source, Target};
use crate::transformer::{Scratch, Transformer};
use crate::weights::Weights;
use crate::{ErrorKind, Result};

/// How to open a model.
#[derive(Clone, Debug, Default)]
pub struct DecoderOptions {
    /// The numbers that the linear layers multiply in; `None` chooses the fastest that keeps the
    /// quality of the weights as they are stored.
    pub precision: Option<Precision>,
    /// `None` takes all cores.
    pub threads: Option<usize>,
    /// Longest conversation in tokens; `None` takes the model's, at most [`DEFAULT_CONTEXT`].
    pub context: Option<usize>,
    /// How keys and values are kept.
    pub cache: CacheFormat,
}

/// Longest conversation, unless asked otherwise: models that take 128k tokens would set aside
/// gigabytes.
pub const DEFAULT_CONTEXT: usize = 8192;

impl Decoder {
    /// Opens a model folder (safetensors and `config.json`, as on the hub) or a GGUF file.
    ///
    /// # Errors
    ///
    /// If a file is missing or broken, tokenizer and weights disagree, the model reads texts but
    /// does not write them, or it asks for maths that the engine does not have.
    pub fn open(path: &Path, options: &DecoderOptions) -> Result<Self> {
        let isa = Isa::current()?;
        let weights = Arc::new(Weights::open(path)?);
        let folder = folder_of(path);
        // The tokenizer is read while the weights are packed.
        let (tokenizer, model) = std::thread::scope(|scope| {
            let tokenizer = scope.spawn(|| open_tokenizer(&folder, &weights));
            let model = load(isa, &folder, &weights, options);
            (tokenizer.join(), model)
        });
        let Loaded {
            transformer,
            head,
            team,
            precision,
        } = model?;
        let tokenizer = tokenizer.unwrap_or_else(|panic| std::panic::resume_unwind(panic))?;
        let vocab_size = transformer.config.vocab_size;
        if tokenizer.vocab_size() > vocab_size {
            let id = u32::try_from(tokenizer.vocab_size() - 1).unwrap_or(u32::MAX);
            return Err(ErrorKind::TokenizerMismatch { id, vocab_size }.into());
        }
        let template = match weights.gguf() {
            Some(metadata) => ChatTemplate::of_gguf(metadata, &tokenizer)?,
            None => ChatTemplate::of_folder(&folder)?,
        };
        let end_ids = end_ids(&folder, &weights, &tokenizer)?;
        let context = context(options.context, transformer.config.max_positions)?;
        let alone = (0..team.size())
            .map(|_| Mutex::new(Scratch::new(&transformer)))
            .collect();
        let work = Mutex::new(Work {
            scratch: Scratch::new(&transformer),
            head_input: InputScratch::new(1, transformer.config.hidden_size),
        });
        Ok(Self {
            path: path.to_path_buf(),
            weights,
            precision,
            transformer: Arc::new(transformer),
            head,
            tokenizer: Arc::new(tokenizer),
            vocabulary: OnceLock::new(),
            template,
            end_ids,
            isa,
            team,
            cache_format: options.cache,
            context,
            together: Together::default(),
            work,
            alone,
        })
    }
}

/// Tokens that end an answer: those that the model's files name, and those that every family which
/// has them ends a turn with.
fn end_ids(folder: &Path, weights: &Weights, tokenizer: &Tokenizer) -> Result<Vec<u32>> {
    const TURN_ENDS: [&str; 6] = [
        "<|im_end|>",
        "<|eot_id|>",
        "<end_of_turn>",
        "<|end|>",
        "<|endoftext|>",
        "<｜end▁of▁sentence｜>",
    ];
    let mut ids: Vec<u32> = tokenizer.special_ids().eos.into_iter().collect();
    ids.extend(
        TURN_ENDS
            .iter()
            .filter_map(|token| tokenizer.token_to_id(token)),
    );
    if let Some(metadata) = weights.gguf() {
        for key in ["tokenizer.ggml.eos_token_id", "tokenizer.ggml.eot_token_id"] {
            ids.extend(metadata.u32(key)?);
        }
    } else {
        for file in ["config.json", "generation_config.json"] {
            let Some(fields) = Fields::open_if_exists(&folder.join(file))? else {
                continue;
            };
            let Some(value) = fields.get("eos_token_id") else {
                continue;
            };
            let one = std::slice::from_ref(value);
            let list = value.as_array().map_or(one, Vec::as_slice);
            let numbers = list.iter().filter_map(serde_json::Value::as_u64);
            ids.extend(numbers.filter_map(|id| u32::try_from(id).ok()));
        }
    }
    ids.sort_unstable();
    ids.dedup();
    Ok(ids)
}

fn context(asked: Option<usize>, most: usize) -> Result<usize> {
    match asked {
        None => Ok(most.min(DEFAULT_CONTEXT)),
        Some(tokens) if (1..=most).contains(&tokens) => Ok(tokens),
        Some(tokens) => {
            let (value, expected) = (tokens.to_string(), format!("1 to {most}"));
            Err(ErrorKind::Option {
                option: "context",
                value,
                expected,
            }
            .into())
        }
    }
}

/// Everything but the tokenizer.
struct Loaded {
    transformer: Transformer,
    head: Linear,
    team: Team,
    precision: Precision,
}

fn load(
    isa: Isa,
    folder: &Path,
    weights: &Arc<Weights>,
    options: &DecoderOptions,
) -> Result<Loaded> {
    let source = Source::open(folder, Arc::clone(weights))?;
    source.must_be_causal()?;
    let team = Team::new(crate::encoder::threads(options.threads)?);
    let precision = options
        .precision
        .unwrap_or_else(|| default_precision(isa, weights));
    let format = match precision {
        Precision::F32 => Format::F32,
        Precision::Bf16 if isa.has_tiles() => Format::Bf16,
        Precision::Bf16 => Format::I16,
        Precision::Int8 if is_quantised(weights) => Format::Blocks,
        Precision::Int8 => Format::I8,
    };
    let target = Target {
        isa,
        format,
        team: &team,
    };
    let transformer = Transformer::load(&source, &target)?;
    let head = source.head(&target)?;
    Ok(Loaded {
        transformer,
        head,
        team,
        precision,
    })
}

/// Blocks stay blocks, since decoding waits for memory; other weights have 16 bits.
fn default_precision(isa: Isa, weights: &Weights) -> Precision {
    if is_quantised(weights) {
        return Precision::Int8;
    }
    crate::encoder::default_precision(isa, weights)
}

fn is_quantised(weights: &Weights) -> bool {
    weights
        .tensors()
        .any(|tensor| tensor.dtype.block_size() > 1)
}

/// The folder that a model's other files lie in.
fn folder_of(path: &Path) -> PathBuf {
    if path.is_dir() {
        return path.to_path_buf();
    }
    path.parent().map_or_else(PathBuf::new, Path::to_path_buf)
}

fn open_tokenizer(folder: &Path, weights: &Weights) -> Result<Tokenizer> {
    match weights.gguf() {
        Some(metadata) => Tokenizer::from_gguf(metadata),
        None => Tokenizer::open(folder),
    }
}
