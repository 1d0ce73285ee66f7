//! From a path to an encoder that is ready to run.

use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, OnceLock};

use super::Encoder;
use super::dense::{After, Dense};
use super::description::{ModelDescription, Pooling};
use super::heads::Head;
use super::options::{Fingerprint, Precision};
use crate::kernels::isa::Isa;
use crate::kernels::linear::Format;
use crate::kernels::team::Team;
use crate::tokenizer::Tokenizer;
use crate::transformer::load::{Fields, Source, Target};
use crate::transformer::{Scratch, Transformer};
use crate::weights::{Dtype, Weights};
use crate::{Error, ErrorKind, Result};

/// How to open a model.
#[derive(Clone, Debug, Default)]
pub struct EncoderOptions {
    /// `None` chooses the fastest that loses nothing that a task would notice; see
    /// [`Encoder::precision`].
    pub precision: Option<Precision>,
    /// `None` takes all cores.
    pub threads: Option<usize>,
    /// Lowers the longest text below what the model's files say.
    pub max_length: Option<usize>,
    /// The name for the fingerprint; the path's last part if `None`.
    pub name: Option<String>,
    /// Replaces the pooling of the model's files.
    pub pooling: Option<Pooling>,
    /// Prompts by name for models whose files have none.
    pub prompts: Vec<(String, String)>,
}

impl Encoder {
    /// Opens a model folder (safetensors and `config.json`, as on the hub) or a GGUF file.
    ///
    /// # Errors
    ///
    /// If a file is missing or broken, tokenizer and weights disagree, or the model asks for maths
    /// that the engine does not have.
    pub fn open(path: &Path, options: &EncoderOptions) -> Result<Self> {
        let isa = Isa::current()?;
        let weights = Arc::new(Weights::open(path)?);
        let folder = folder_of(path);
        // The tokenizer is read while the weights are packed.
        let (tokenizer, model) = std::thread::scope(|scope| {
            let tokenizer = scope.spawn(|| open_tokenizer(&folder, &weights));
            let model = load(isa, &folder, &weights, options);
            (tokenizer.join(), model)
        });
        let (source, loaded) = model?;
        let tokenizer = tokenizer.unwrap_or_else(|panic| std::panic::resume_unwind(panic))?;
        let vocab_size = source.config.vocab_size;
        if tokenizer.vocab_size() > vocab_size {
            let id = u32::try_from(tokenizer.vocab_size() - 1).unwrap_or(u32::MAX);
            return Err(ErrorKind::TokenizerMismatch { id, vocab_size }.into());
        }
        loaded.assemble(isa, path, &source, Arc::new(tokenizer), options)
    }

    /// Reads a model that is in memory already; its weights are not loaded again.
    pub(crate) fn over(trunk: Trunk<'_>, options: &EncoderOptions) -> Result<Self> {
        let isa = Isa::current()?;
        if let Some(precision) = options.precision.filter(|asked| *asked != trunk.precision) {
            let (value, expected) = (precision.to_string(), trunk.precision.to_string());
            return Err(ErrorKind::Option {
                option: "precision",
                value,
                expected: format!("{expected}, in which the model is in memory"),
            }
            .into());
        }
        let folder = folder_of(trunk.path);
        let source = Source::open(&folder, Arc::clone(trunk.weights))?;
        let description = describe(&folder, trunk.weights, &source, options)?;
        let team = Team::new(threads(options.threads.or(Some(trunk.threads)))?);
        let fields = Fields::open_if_exists(&folder.join("config.json"))?;
        let fields = fields.as_ref();
        let (weights, config) = (trunk.weights, &source.config);
        let head = Head::load(&team, weights, config, fields, &description)?;
        let dense = load_dense(&folder, weights, &source, fields, &description, &team)?;
        let loaded = Loaded {
            transformer: Arc::clone(trunk.transformer),
            description,
            head,
            dense,
            precision: trunk.precision,
            team,
        };
        let tokenizer = Arc::clone(trunk.tokenizer);
        loaded.assemble(isa, trunk.path, &source, tokenizer, options)
    }

    /// True if both read the same weights in memory.
    pub(crate) fn has_transformer(&self, transformer: &Arc<Transformer>) -> bool {
        Arc::ptr_eq(&self.transformer, transformer)
    }
}

/// A model in memory, for another reading of it.
pub(crate) struct Trunk<'a> {
    pub(crate) path: &'a Path,
    pub(crate) weights: &'a Arc<Weights>,
    pub(crate) transformer: &'a Arc<Transformer>,
    pub(crate) tokenizer: &'a Arc<Tokenizer>,
    pub(crate) precision: Precision,
    pub(crate) threads: usize,
}

/// Everything but the tokenizer.
struct Loaded {
    transformer: Arc<Transformer>,
    description: ModelDescription,
    head: Head,
    dense: Vec<Dense>,
    precision: Precision,
    team: Team,
}

fn load(
    isa: Isa,
    folder: &Path,
    weights: &Arc<Weights>,
    options: &EncoderOptions,
) -> Result<(Source, Loaded)> {
    let source = Source::open(folder, Arc::clone(weights))?;
    let description = describe(folder, weights, &source, options)?;
    let team = Team::new(threads(options.threads)?);
    let precision = options
        .precision
        .unwrap_or_else(|| default_precision(isa, weights));
    let format = match precision {
        Precision::F32 => Format::F32,
        Precision::Bf16 if isa.has_tiles() => Format::Bf16,
        Precision::Bf16 => Format::I16,
        Precision::Int8 => Format::I8,
    };
    let transformer = Transformer::load(
        &source,
        &Target {
            isa,
            format,
            team: &team,
        },
    )?;
    let fields = Fields::open_if_exists(&folder.join("config.json"))?;
    let head = Head::load(
        &team,
        weights,
        &source.config,
        fields.as_ref(),
        &description,
    )?;
    let dense = load_dense(
        folder,
        weights,
        &source,
        fields.as_ref(),
        &description,
        &team,
    )?;
    Ok((
        source,
        Loaded {
            transformer: Arc::new(transformer),
            description,
            head,
            dense,
            precision,
            team,
        },
    ))
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

fn describe(
    folder: &Path,
    weights: &Weights,
    source: &Source,
    options: &EncoderOptions,
) -> Result<ModelDescription> {
    let mut description = match weights.gguf() {
        Some(metadata) => ModelDescription::of_gguf(metadata, &source.config)?,
        None => ModelDescription::of_folder(folder, &source.config)?,
    };
    if let Some(pooling) = options.pooling {
        (description.pooling, description.pooling_is_stated) = (pooling, true);
    }
    for (name, prompt) in &options.prompts {
        if !description.prompts.iter().any(|(known, _)| known == name) {
            description.prompts.push((name.clone(), prompt.clone()));
        }
    }
    if let Some(length) = options.max_length {
        let most = description.max_positions;
        if length == 0 || length > most {
            let (value, expected) = (length.to_string(), format!("1 to {most}"));
            return Err(ErrorKind::Option {
                option: "max_length",
                value,
                expected,
            }
            .into());
        }
        description.max_length = length;
    }
    Ok(description)
}

pub(crate) fn threads(asked: Option<usize>) -> Result<usize> {
    /// More threads than any machine has cores is a slip of the finger.
    const MOST: usize = 1024;
    let available = std::thread::available_parallelism().map_or(1, usize::from);
    match asked {
        None => Ok(available),
        Some(threads) if (1..=MOST).contains(&threads) => Ok(threads),
        Some(threads) => {
            let (value, expected) = (threads.to_string(), format!("1 to {MOST}"));
            Err(ErrorKind::Option {
                option: "threads",
                value,
                expected,
            }
            .into())
        }
    }
}

/// The fastest precision that keeps the model's quality: int8 for weights that have 8 bits or fewer
/// already, where the CPU has instructions for it; 16-bit products where they are fast; else `f32`.
pub(crate) fn default_precision(isa: Isa, weights: &Weights) -> Precision {
    let quantised = |dtype| !matches!(dtype, Dtype::F32 | Dtype::F16 | Dtype::BF16);
    let is_quantised = weights.gguf().is_some()
        && weights
            .tensors()
            .any(|tensor| tensor.shape.len() == 2 && quantised(tensor.dtype));
    match (is_quantised, isa.has_fast_8_bit(), isa.has_fast_16_bit()) {
        (true, true, _) => Precision::Int8,
        (_, _, true) => Precision::Bf16,
        _ => Precision::F32,
    }
}

/// Dense modules of the folder, or CLIP's projection.
fn load_dense(
    folder: &Path,
    weights: &Weights,
    source: &Source,
    fields: Option<&Fields>,
    description: &ModelDescription,
    team: &Team,
) -> Result<Vec<Dense>> {
    let mut width = source.config.hidden_size;
    let mut dense = Vec::new();
    for module in &description.dense {
        let layer = Dense::open(team, &folder.join(module), width)?;
        width = layer.outputs();
        dense.push(layer);
    }
    if weights.get("text_projection.weight").is_some() {
        let outputs = fields
            .map(|fields| fields.count("projection_dim"))
            .transpose()?;
        let shape = (outputs.unwrap_or(width), width);
        dense.push(Dense::load(
            team,
            weights,
            "text_projection",
            shape,
            After::Nothing,
        )?);
    }
    Ok(dense)
}

impl Loaded {
    fn assemble(
        self,
        isa: Isa,
        path: &Path,
        source: &Source,
        tokenizer: Arc<Tokenizer>,
        options: &EncoderOptions,
    ) -> Result<Encoder> {
        let Self {
            transformer,
            description,
            head,
            dense,
            precision,
            team,
        } = self;
        let specials = tokenizer.prefix().len() + tokenizer.suffix().len();
        if description.max_length <= specials {
            let came = description.max_length.to_string();
            let expected = format!("more than the {specials} special tokens");
            return Err(Error::unsupported("max_seq_length", came, expected));
        }
        let name = options.name.clone().unwrap_or_else(|| {
            path.file_name()
                .map_or_else(String::new, |name| name.to_string_lossy().into_owned())
        });
        let alone = (0..team.size())
            .map(|_| Mutex::new(Scratch::new(&transformer)))
            .collect();
        let together = Mutex::new(Scratch::new(&transformer));
        let encoder = Encoder {
            transformer,
            tokenizer,
            description,
            head,
            dense,
            isa,
            precision,
            name,
            weights: Arc::clone(&source.weights),
            fingerprint: OnceLock::new(),
            team,
            alone,
            together,
        };
        Ok(encoder)
    }
}

impl Encoder {
    /// The space that the vectors live in.
    pub fn fingerprint(&self) -> &Fingerprint {
        self.fingerprint.get_or_init(|| Fingerprint {
            model: self.name.clone(),
            weights: self.weights.sampled_hash(),
            pooling: self.description.pooling.name().to_owned(),
            document_prompt: self
                .description
                .prompt(&super::Role::Document)
                .unwrap_or_default()
                .to_owned(),
            dimensions: self.dimensions(),
            precision: self.precision.to_string(),
        })
    }
}
