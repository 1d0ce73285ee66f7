//! What a model's own files say about reading its hidden states: pooling, prompts, length.

use std::path::Path;

use super::options::Role;
use crate::transformer::config::Config;
use crate::transformer::load::Fields;
use crate::weights::gguf::Metadata;
use crate::{Error, ErrorKind, Result};

/// How the token states of a text become one vector.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Pooling {
    /// The first token's state.
    Cls,
    /// The mean over all tokens, special ones and prompt included.
    Mean,
    /// The last token's state.
    LastToken,
    /// The state at the first end-of-text token (CLIP).
    FirstEos(u32),
}

impl Pooling {
    /// `cls`, `mean`, `last-token` or `first-eos`.
    #[must_use]
    pub fn name(self) -> &'static str {
        match self {
            Self::Cls => "cls",
            Self::Mean => "mean",
            Self::LastToken => "last-token",
            Self::FirstEos(_) => "first-eos",
        }
    }
}

/// What the model gives.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Output {
    /// One vector for each text.
    Embedding,
    /// One score for each pair of query and document.
    Relevance,
    /// Weights of vocabulary entries for each text (SPLADE).
    Sparse,
}

impl Output {
    pub(super) fn plural(self) -> &'static str {
        match self {
            Self::Embedding => "embeddings",
            Self::Relevance => "relevance scores",
            Self::Sparse => "sparse vectors",
        }
    }
}

/// A model's facts.
#[derive(Clone, Debug, PartialEq)]
pub struct ModelDescription {
    /// The family, as the model's files name it.
    pub model_type: String,
    /// What the model gives.
    pub output: Output,
    /// How token states become one vector.
    pub pooling: Pooling,
    /// False if the pooling is our assumption because no file says it.
    pub pooling_is_stated: bool,
    /// Longest text in tokens, special ones and prompt included.
    pub max_length: usize,
    /// Width of the hidden states.
    pub hidden_size: usize,
    /// Number of transformer layers.
    pub num_hidden_layers: usize,
    /// Prompts by name.
    pub prompts: Vec<(String, String)>,
    /// Folders of dense layers behind the pooling, in order.
    pub(super) dense: Vec<String>,
    /// The longest text that the position embeddings reach.
    pub(super) max_positions: usize,
}

impl ModelDescription {
    /// Reads a model folder.
    pub(super) fn of_folder(folder: &Path, config: &Config) -> Result<Self> {
        let fields = Fields::open(&folder.join("config.json"))?;
        let mut description = Self::of_config(config);
        description.output = output(&fields, folder)?;
        read_modules(folder, &mut description)?;
        if config.model_type == "clip_text_model" {
            let eos = fields.optional_count("eos_token_id")?.unwrap_or(49_407);
            // Old exports say 2 and mean the largest id, which is the end of text.
            let eos = if eos == 2 { config.vocab_size - 1 } else { eos };
            description.pooling = Pooling::FirstEos(u32::try_from(eos).unwrap_or(u32::MAX));
            description.pooling_is_stated = true;
        }
        if let Some(length) = stated_length(folder)? {
            description.max_length = description.max_length.min(length);
        }
        let path = folder.join("config_sentence_transformers.json");
        if let Some(fields) = Fields::open_if_exists(&path)? {
            description.prompts = prompts(&fields);
        }
        Ok(description)
    }

    /// Reads GGUF metadata.
    pub(super) fn of_gguf(metadata: &Metadata, config: &Config) -> Result<Self> {
        let mut description = Self::of_config(config);
        let key = format!("{}.pooling_type", config.model_type);
        let pooling = match metadata.u32(&key)? {
            Some(1) => Some(Pooling::Mean),
            Some(2) => Some(Pooling::Cls),
            Some(3) => Some(Pooling::LastToken),
            Some(0) | None => None,
            Some(other) => {
                let expected = "1 (mean), 2 (cls) or 3 (last)";
                return Err(Error::unsupported(key, other.to_string(), expected));
            }
        };
        if let Some(pooling) = pooling {
            (description.pooling, description.pooling_is_stated) = (pooling, true);
        }
        for name in ["query", "document"] {
            if let Some(prompt) = metadata.str(&format!("wenyi.prompt.{name}"))? {
                description
                    .prompts
                    .push((name.to_owned(), prompt.to_owned()));
            }
        }
        Ok(description)
    }

    fn of_config(config: &Config) -> Self {
        let causal = config
            .layers
            .first()
            .is_some_and(|layer| layer.reach.after == 0);
        Self {
            model_type: config.model_type.clone(),
            output: Output::Embedding,
            pooling: if causal {
                Pooling::LastToken
            } else {
                Pooling::Mean
            },
            pooling_is_stated: false,
            max_length: config.max_positions,
            hidden_size: config.hidden_size,
            num_hidden_layers: config.layers.len(),
            prompts: Vec::new(),
            dense: Vec::new(),
            max_positions: config.max_positions,
        }
    }

    /// The prompt that a role stands for; empty if the model's files define none.
    ///
    /// # Errors
    ///
    /// If the role is a name that they do not define.
    pub fn prompt(&self, role: &Role) -> Result<&str> {
        let find = |names: &[&str]| {
            names.iter().find_map(|name| {
                self.prompts
                    .iter()
                    .find(|(known, _)| known == name)
                    .map(|(_, prompt)| &**prompt)
            })
        };
        match role {
            Role::Plain => Ok(""),
            Role::Query => {
                Ok(find(&["query", "search_query", "retrieval.query"]).unwrap_or_default())
            }
            Role::Document => {
                let names = [
                    "document",
                    "passage",
                    "search_document",
                    "retrieval.passage",
                ];
                Ok(find(&names).unwrap_or_default())
            }
            Role::Named(name) => find(&[name]).ok_or_else(|| {
                let known = self.prompts.iter().map(|(name, _)| name.clone()).collect();
                ErrorKind::UnknownPrompt {
                    name: name.clone(),
                    known,
                }
                .into()
            }),
        }
    }
}

/// What the architecture's name promises.
fn output(fields: &Fields, folder: &Path) -> Result<Output> {
    let architecture = fields
        .get("architectures")
        .and_then(|names| names.get(0)?.as_str());
    let architecture = architecture.unwrap_or_default();
    if architecture.ends_with("ForSequenceClassification") {
        let labels = fields
            .get("id2label")
            .and_then(|labels| Some(labels.as_object()?.len()));
        let labels = labels.or(fields.optional_count("num_labels")?).unwrap_or(2);
        return match labels {
            1 => Ok(Output::Relevance),
            other => Err(Error::unsupported(
                "id2label",
                format!("{other} labels"),
                "one label",
            )),
        };
    }
    let modules = std::fs::read_to_string(folder.join("modules.json")).unwrap_or_default();
    Ok(if modules.contains("SpladePooling") {
        Output::Sparse
    } else {
        Output::Embedding
    })
}

/// Follows `modules.json`: pooling and dense layers, and refuses what the engine does not know.
fn read_modules(folder: &Path, description: &mut ModelDescription) -> Result<()> {
    let modules = Fields::open_if_exists(&folder.join("modules.json"))?;
    let pooling = match &modules {
        None => folder
            .join("1_Pooling/config.json")
            .exists()
            .then(|| "1_Pooling".to_owned()),
        Some(modules) => follow(modules, description)?,
    };
    if let Some(pooling) = pooling {
        let fields = Fields::open(&folder.join(pooling).join("config.json"))?;
        description.pooling = read_pooling(&fields)?;
        description.pooling_is_stated = true;
    }
    Ok(())
}

/// The pooling module's folder; dense layers go into the description.
fn follow(modules: &Fields, description: &mut ModelDescription) -> Result<Option<String>> {
    let mut pooling = None;
    for module in modules.value().as_array().into_iter().flatten() {
        let text = |name: &str| module.get(name).and_then(|value| value.as_str());
        let kind = text("type").unwrap_or_default();
        let path = text("path").unwrap_or_default().to_owned();
        match kind.rsplit('.').next().unwrap_or_default() {
            "Transformer" | "MLMTransformer" | "Normalize" | "SpladePooling" => {}
            "Pooling" => pooling = Some(path),
            "Dense" => description.dense.push(path),
            _ => {
                let expected = "Transformer, Pooling, Dense, Normalize or SpladePooling";
                return Err(Error::unsupported("modules.json: type", kind, expected));
            }
        }
    }
    Ok(pooling)
}

fn read_pooling(fields: &Fields) -> Result<Pooling> {
    if !fields.flag("include_prompt", true)? {
        return Err(Error::unsupported("include_prompt", "false", "`true`"));
    }
    let known = [
        ("pooling_mode_cls_token", Pooling::Cls),
        ("pooling_mode_mean_tokens", Pooling::Mean),
        ("pooling_mode_lasttoken", Pooling::LastToken),
    ];
    let mut chosen = Vec::new();
    for (name, pooling) in known {
        if fields.flag(name, false)? {
            chosen.push(pooling);
        }
    }
    for name in [
        "pooling_mode_max_tokens",
        "pooling_mode_mean_sqrt_len_tokens",
        "pooling_mode_weightedmean_tokens",
    ] {
        if fields.flag(name, false)? {
            return Err(Error::unsupported(name, "true", "`false`"));
        }
    }
    if let [pooling] = chosen[..] {
        return Ok(pooling);
    }
    // Newer files name the mode in one field.
    match fields.text("pooling_mode") {
        Some("cls") => Ok(Pooling::Cls),
        Some("mean") => Ok(Pooling::Mean),
        Some("lasttoken") => Ok(Pooling::LastToken),
        other => Err(Error::unsupported(
            "pooling_mode",
            other.map_or_else(
                || format!("{} modes at once", chosen.len()),
                ToOwned::to_owned,
            ),
            "exactly one of `cls`, `mean` and `lasttoken`",
        )),
    }
}

/// `max_seq_length` of sentence-transformers, else the tokenizer's `model_max_length` if it is one.
fn stated_length(folder: &Path) -> Result<Option<usize>> {
    if let Some(fields) = Fields::open_if_exists(&folder.join("sentence_bert_config.json"))?
        && let Some(length) = fields.optional_count("max_seq_length")?
    {
        return Ok(Some(length));
    }
    let Some(fields) = Fields::open_if_exists(&folder.join("tokenizer_config.json"))? else {
        return Ok(None);
    };
    // Tokenizers without a limit say 10³⁰.
    let length = fields
        .get("model_max_length")
        .and_then(serde_json::Value::as_u64);
    Ok(length
        .and_then(|length| usize::try_from(length).ok())
        .filter(|length| *length > 0))
}

fn prompts(fields: &Fields) -> Vec<(String, String)> {
    let prompts = fields.get("prompts").and_then(serde_json::Value::as_object);
    let prompts = prompts.into_iter().flatten();
    prompts
        .filter_map(|(name, prompt)| Some((name.clone(), prompt.as_str()?.to_owned())))
        .collect()
}
