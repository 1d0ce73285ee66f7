//! What can go wrong between a model's files and a vector, and what to do about it.

use std::io;
use std::path::{Path, PathBuf};

/// The result of an engine operation.
pub type Result<T, E = Error> = std::result::Result<T, E>;

/// An error of the engine: what came, what was expected, and where.
#[derive(Debug, thiserror::Error)]
#[error(transparent)]
pub struct Error(Box<ErrorKind>);

impl Error {
    /// What went wrong, with its data.
    #[must_use]
    pub fn kind(&self) -> &ErrorKind {
        &self.0
    }

    /// True if the caller can cure it by other input; false for a failing machine or a bug.
    #[must_use]
    pub fn is_user_error(&self) -> bool {
        !matches!(&*self.0, ErrorKind::Io { source, .. } if source.kind() != io::ErrorKind::NotFound)
    }

    /// What the user can do about it, where we know.
    #[must_use]
    pub fn hint(&self) -> Option<String> {
        self.0.hint()
    }

    /// An input or output error at `path`.
    pub(crate) fn io(path: impl AsRef<Path>, source: io::Error) -> Self {
        ErrorKind::Io {
            path: path.as_ref().to_path_buf(),
            source,
        }
        .into()
    }

    /// A file that is not what it should be.
    pub(crate) fn invalid(path: impl AsRef<Path>, reason: impl Into<String>) -> Self {
        ErrorKind::InvalidFile {
            path: path.as_ref().to_path_buf(),
            reason: reason.into(),
        }
        .into()
    }

    /// A model whose `field` asks for maths that the engine does not have.
    pub(crate) fn unsupported(
        field: impl Into<String>,
        value: impl Into<String>,
        expected: impl Into<String>,
    ) -> Self {
        ErrorKind::Unsupported {
            field: field.into(),
            value: value.into(),
            expected: expected.into(),
        }
        .into()
    }
}

impl From<ErrorKind> for Error {
    fn from(kind: ErrorKind) -> Self {
        Self(Box::new(kind))
    }
}

/// What went wrong.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum ErrorKind {
    /// The operating system refused.
    #[error("cannot read `{}`: {source}", path.display())]
    Io {
        /// The file or folder.
        path: PathBuf,
        /// The system's own error.
        source: io::Error,
    },
    /// A file is cut off, malformed, or of another kind.
    #[error("`{}` is not usable: {reason}", path.display())]
    InvalidFile {
        /// The file.
        path: PathBuf,
        /// What was expected and what came.
        reason: String,
    },
    /// The model asks for maths that the engine does not have; it is refused, never approximated.
    #[error("model not supported: `{field}` is `{value}`, expected {expected}")]
    Unsupported {
        /// The field of `config.json`, of the GGUF metadata or of a module's configuration.
        field: String,
        /// Its value.
        value: String,
        /// What the engine knows.
        expected: String,
    },
    /// A folder without weights.
    #[error("`{}` holds no weights, only {found:?}", path.display())]
    NoWeights {
        /// The folder.
        path: PathBuf,
        /// The names in it.
        found: Vec<String>,
    },
    /// A weight is missing.
    #[error("`{}` has no tensor `{tensor}`", path.display())]
    MissingTensor {
        /// The weights file or folder.
        path: PathBuf,
        /// The tensor's name.
        tensor: String,
    },
    /// A weight has another shape than the configuration says.
    #[error("tensor `{tensor}` has shape {received:?}, expected {expected:?}")]
    TensorShape {
        /// The tensor's name.
        tensor: String,
        /// The shape that follows from the configuration, outermost first.
        expected: Vec<usize>,
        /// The shape in the file.
        received: Vec<usize>,
    },
    /// A weight is NaN or infinite.
    #[error("tensor `{tensor}` holds {value} at index {index}, expected finite numbers")]
    NotFinite {
        /// The tensor's name.
        tensor: String,
        /// The flat index of the first bad value.
        index: usize,
        /// The value.
        value: f32,
    },
    /// Tokenizer and weights belong to different models.
    #[error("the tokenizer yields id {id}, but the model has {vocab_size} token embeddings")]
    TokenizerMismatch {
        /// The largest id that the tokenizer can yield.
        id: u32,
        /// The rows of the embedding table.
        vocab_size: usize,
    },
    /// The tokenizer cannot be built or refused a text.
    #[error("tokenizer: {reason}")]
    Tokenizer {
        /// What it said.
        reason: String,
    },
    /// A text is longer than the model, and the overflow policy is `error`.
    #[error("text {index} has {tokens} tokens, the model takes {max_length}")]
    TooLong {
        /// The text's index in the call.
        index: usize,
        /// Its tokens, special ones and prompt included.
        tokens: usize,
        /// What the model takes.
        max_length: usize,
    },
    /// A conversation is empty or longer than its room.
    #[error("the conversation has {tokens} tokens, expected 1 to {context}")]
    ContextLength {
        /// Prompt and answer.
        tokens: usize,
        /// What fits.
        context: usize,
    },
    /// The model's chat template refused the messages, or is broken.
    #[error("chat template: {reason}")]
    ChatTemplate {
        /// What it said.
        reason: String,
    },
    /// No answer can have the form that was asked for.
    #[error("the form asked for cannot be met: {reason}")]
    Grammar {
        /// What is wrong with it.
        reason: String,
    },
    /// The shortest answer of the form asked for is longer than the answer may be.
    #[error(
        "the shortest text of the form asked for has about {needed} tokens, there is room for {room}"
    )]
    FormRoom {
        /// Tokens of the shortest text of that form that was found.
        needed: usize,
        /// Tokens that the answer may have.
        room: usize,
    },
    /// More or fewer dimensions asked for than the model has.
    #[error("{requested} dimensions asked for, the model has {available}")]
    Dimensions {
        /// What was asked.
        requested: usize,
        /// The model's width.
        available: usize,
    },
    /// No prompt of that name.
    #[error("the model has no prompt `{name}`, only {known:?}")]
    UnknownPrompt {
        /// What was asked.
        name: String,
        /// What the model's files define.
        known: Vec<String>,
    },
    /// The model lacks the head that the call needs.
    #[error("the model gives {available}, not {wanted}")]
    Head {
        /// `embeddings`, `relevance scores` or `sparse vectors`.
        wanted: &'static str,
        /// What it gives.
        available: &'static str,
    },
    /// An option has a value that this machine or build cannot serve.
    #[error("`{option}` is `{value}`, expected {expected}")]
    Option {
        /// The option or environment variable.
        option: &'static str,
        /// What came.
        value: String,
        /// What is possible here.
        expected: String,
    },
    /// The caller asked to stop.
    #[error("stopped")]
    Cancelled,
}

impl ErrorKind {
    fn hint(&self) -> Option<String> {
        Some(match self {
            Self::Io { source, .. } if source.kind() == io::ErrorKind::NotFound => {
                "give the folder of a model (with `config.json` and `model.safetensors`) or a \
                 `.gguf` file; `wenyi models list` shows the models known by name"
                    .into()
            }
            Self::InvalidFile { .. } | Self::NotFinite { .. } => {
                "fetch the file again; `wenyi models verify` checks a model of the catalog".into()
            }
            Self::NoWeights { found, .. } => no_weights_hint(found).into(),
            Self::Unsupported { .. } => "`wenyi models list` shows models that run".into(),
            Self::MissingTensor { .. } | Self::TensorShape { .. } => {
                "weights and `config.json` belong to different models; fetch both again".into()
            }
            Self::TokenizerMismatch { .. } => {
                "`tokenizer.json` belongs to another model; fetch it again".into()
            }
            Self::TooLong { .. } => "choose `--overflow truncate` or `--overflow split-mean`, \
                                     or cut the text into chunks"
                .into(),
            Self::ContextLength { .. } => {
                "shorten the prompt, ask for fewer tokens, or open the model with a longer context"
                    .into()
            }
            Self::FormRoom { .. } => {
                "allow more tokens for the answer, or ask for less in the schema".into()
            }
            Self::Grammar { .. } => {
                "the schema, the regular expression or the tools are at fault: \
                                     take out what contradicts itself or is not known"
                    .into()
            }
            Self::UnknownPrompt { .. } => {
                "leave the role out, or take one of these; `query` and `document` suit every model"
                    .into()
            }
            Self::Head { .. } => {
                "`wenyi models list` shows what each model gives; choose another with `--model`"
                    .into()
            }
            Self::Dimensions { available, .. } => format!("choose 1 to {available}"),
            _ => return None,
        })
    }
}

/// What to do about a folder that holds only the files `found`.
fn no_weights_hint(found: &[String]) -> &'static str {
    let is_torch = |name: &String| name.ends_with(".bin") || name.ends_with(".pt");
    if found.iter().any(is_torch) {
        "PyTorch's own files are not read; save the model again with `safe_serialization=True`, or \
         take a repository that has `model.safetensors`"
    } else {
        "expected `model.safetensors`, `model.safetensors.index.json` with its shards, or a \
         `.gguf` file; a download may have been stopped"
    }
}
