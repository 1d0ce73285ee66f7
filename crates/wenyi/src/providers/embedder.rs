//! A provider's model as an [`Embedder`]: long texts cut into windows, windows into requests that
//! keep the provider's limits, and what comes back put together in order.

use std::borrow::Cow;
use std::ops::Range;
use std::sync::Mutex;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};

use sha2::{Digest, Sha256};

use super::endpoint::{Endpoint, Service};
use super::native::{NativeOptions, OutputType};
use super::table::{EmbeddingFacts, ModelFacts};
use super::tokens::Tokenizer;
use super::vectors::{self, Batch, Wish};
use super::windows::{Caps, Window, charged, combine, parts};
use super::{Error, ErrorKind, Result, cancel};
use crate::config::ModelSettings;
use crate::embed::{
    EmbedError, EmbedOptions, Embedder, Embeddings, Fingerprint, Overflow, Role, TokenUsage,
};

/// Requests at once if nothing else is set.
const CONCURRENCY: usize = 4;

/// What chunks are measured against where the model's own limit is not known: most small models
/// take this much.
const CAUTIOUS_LENGTH: usize = 512;

/// A provider's embedding model.
#[derive(Debug)]
pub struct RemoteEmbedder {
    endpoint: Endpoint,
    url: String,
    pub(super) model: String,
    pub(super) facts: EmbeddingFacts,
    pub(super) known: ModelFacts,
    settings: ModelSettings,
    tokenizer: Tokenizer,
    fingerprint: Fingerprint,
    /// Texts of one request; falls when the provider says that it takes fewer.
    max_inputs: AtomicUsize,
}

/// What the texts of a call have in common.
#[derive(Clone, Copy)]
struct Asked<'a> {
    role: &'a Role,
    width: Option<usize>,
    output: OutputType,
    instruct: Option<&'a str>,
}

impl RemoteEmbedder {
    /// The model `model` of the provider behind `endpoint`. A model whose width is not known is
    /// asked for one vector.
    ///
    /// # Errors
    ///
    /// If the provider has no embeddings, a setting is unusable, or the question for the width fails.
    pub fn open(endpoint: Endpoint, model: &str) -> Result<Self> {
        let url = endpoint.url(Service::Embeddings)?;
        endpoint.must_be_alive(model)?;
        let facts = endpoint.facts().embeddings.clone();
        let mut facts = facts.expect("`url` has seen that there are embeddings; this is a bug");
        let known = endpoint.facts().model(model);
        let settings = endpoint
            .settings()
            .models
            .get(model)
            .cloned()
            .unwrap_or_default();
        facts.max_tokens = endpoint.max_text_tokens(model);
        facts.max_request_tokens = settings.max_request_tokens.or(facts.max_request_tokens);
        let name = settings.tokenizer.as_ref().unwrap_or(&facts.tokenizer);
        let tokenizer = Tokenizer::named(name).ok_or_else(|| ErrorKind::Setting {
            name: format!("tokenizer of `{model}`"),
            value: name.clone(),
            expected: "`cl100k`, `o200k` or `qwen-estimate`".into(),
        })?;
        let inputs = settings
            .max_inputs
            .or(known.max_inputs)
            .unwrap_or(facts.max_inputs);
        let mut embedder = Self {
            url,
            model: model.into(),
            tokenizer,
            fingerprint: fingerprint(&endpoint, model, &settings),
            max_inputs: AtomicUsize::new(inputs.max(1)),
            facts,
            known,
            settings,
            endpoint,
        };
        let declared = embedder.settings.dimensions.or(embedder.known.dimensions);
        let width = match declared {
            Some(width) => {
                let width = Some(width).filter(|_| embedder.settings.dimensions.is_some());
                embedder
                    .asked_width(width)?
                    .unwrap_or(declared.unwrap_or_default())
            }
            None => {
                let asked = Asked {
                    role: &Role::Plain,
                    width: None,
                    output: OutputType::Dense,
                    instruct: None,
                };
                embedder.request(&["wenyi"], asked)?.dimensions
            }
        };
        embedder.fingerprint = embedder.fingerprint.clone().with_width(width);
        Ok(embedder)
    }

    /// The texts through the provider: windows, what came back for them, and the texts' usage.
    pub(super) fn run<'a>(
        &self,
        texts: &[&'a str],
        options: &EmbedOptions,
        native: &NativeOptions,
    ) -> Result<(Vec<Window<'a>>, Batch, Vec<TokenUsage>)> {
        // A width that is the model's own need not be asked for.
        let width = options.dimensions.or(self.settings.dimensions);
        let width = self
            .asked_width(width)?
            .filter(|width| Some(*width) != self.known.dimensions);
        let (windows, usage) = self.plan(texts, options)?;
        let caps = Caps {
            inputs: self.max_inputs.load(Ordering::Relaxed),
            tokens: self.facts.max_request_tokens.unwrap_or(usize::MAX),
            empty_alone: self.facts.empty_alone,
        };
        let parts = parts(&windows, &caps);
        let asked = Asked {
            role: &options.role,
            width,
            output: native.output_type,
            instruct: native.instruct.as_deref(),
        };
        let batch = self.request_all(&windows, &parts, asked)?;
        let usage = charged(&windows, &batch.bills, usage);
        Ok((windows, batch, usage))
    }

    /// The width to ask the provider for; none leaves it at the model's own.
    fn asked_width(&self, wanted: Option<usize>) -> Result<Option<usize>> {
        let Some(wanted) = wanted else {
            return Ok(None);
        };
        let known = &self.known;
        let expected = if known.fixed_width {
            known
                .dimensions
                .filter(|own| *own != wanted)
                .map(|own| format!("{own} only"))
        } else if !known.widths.is_empty() {
            let list = || {
                known
                    .widths
                    .iter()
                    .map(usize::to_string)
                    .collect::<Vec<_>>()
                    .join(", ")
            };
            (!known.widths.contains(&wanted)).then(|| format!("one of {}", list()))
        } else {
            let most = known.dimensions.unwrap_or(usize::MAX);
            (wanted == 0 || wanted > most).then(|| format!("1 to {most}"))
        };
        match expected {
            Some(expected) => Err(ErrorKind::Option {
                model: self.model.clone(),
                option: "dimensions",
                value: wanted.to_string(),
                expected,
            }
            .into()),
            None => Ok(Some(wanted)),
        }
    }

    /// The texts behind their prompts, cut as the policy says.
    fn plan<'a>(
        &self,
        texts: &[&'a str],
        options: &EmbedOptions,
    ) -> Result<(Vec<Window<'a>>, Vec<TokenUsage>)> {
        let prompt = self.prompt(&options.role)?;
        let room = |limit: usize| limit.saturating_sub(self.tokenizer.count(prompt)).max(1);
        let (mut windows, mut usage) = (Vec::new(), Vec::new());
        for (text_index, text) in texts.iter().enumerate() {
            let tokens = self.tokenizer.count(text) + self.tokenizer.count_prompt(prompt);
            let too_long = self.facts.max_tokens.filter(|limit| tokens > *limit);
            let pieces = match (too_long, options.overflow) {
                // The provider itself decides whether an estimate was too cautious.
                (Some(_), Overflow::Error) if self.tokenizer.is_estimate() => vec![*text],
                (Some(max_length), Overflow::Error) => {
                    return Err(self.too_long(text_index, tokens, max_length));
                }
                (Some(limit), Overflow::SplitMean) => self.tokenizer.windows(text, room(limit)),
                (Some(limit), Overflow::Truncate) => self
                    .tokenizer
                    .windows(text, room(limit))
                    .into_iter()
                    .take(1)
                    .collect(),
                (None, _) => vec![*text],
            };
            let before = windows.len();
            for piece in &pieces {
                let tokens = self.tokenizer.count(piece) + self.tokenizer.count_prompt(prompt);
                let text = match prompt {
                    "" => Cow::Borrowed(*piece),
                    prompt => Cow::Owned(format!("{prompt}{piece}")),
                };
                windows.push(Window {
                    text,
                    tokens,
                    text_index,
                });
            }
            let kept = windows[before..].iter().map(|window| window.tokens).sum();
            usage.push(TokenUsage {
                seen: tokens.max(kept),
                kept,
                windows: pieces.len(),
            });
        }
        Ok((windows, usage))
    }

    fn prompt(&self, role: &Role) -> Result<&str> {
        let prompt = match role {
            Role::Plain => None,
            Role::Query => self.settings.query_prompt.as_deref(),
            Role::Document => self.settings.document_prompt.as_deref(),
            Role::Named(name) => {
                return Err(ErrorKind::Option {
                    model: self.model.clone(),
                    option: "role",
                    value: name.clone(),
                    expected: "`query`, `document` or `plain`".into(),
                }
                .into());
            }
        };
        Ok(prompt.unwrap_or_default())
    }

    fn too_long(&self, index: usize, tokens: usize, max_length: usize) -> Error {
        ErrorKind::TooLong {
            model: self.model.clone(),
            index,
            tokens,
            max_length,
            estimated: self.tokenizer.is_estimate(),
        }
        .into()
    }

    /// Every part through the provider, several at once; the parts' vectors one after the other.
    fn request_all(
        &self,
        windows: &[Window<'_>],
        parts: &[Range<usize>],
        asked: Asked<'_>,
    ) -> Result<Batch> {
        let next = AtomicUsize::new(0);
        let failed = AtomicBool::new(false);
        let results: Vec<Mutex<Option<Result<Batch>>>> =
            parts.iter().map(|_| Mutex::new(None)).collect();
        let check = cancel::current();
        let part_by_part = || {
            while !failed.load(Ordering::Relaxed) {
                let index = next.fetch_add(1, Ordering::Relaxed);
                let Some(part) = parts.get(index) else { return };
                let texts: Vec<&str> = windows[part.clone()]
                    .iter()
                    .map(|w| w.text.as_ref())
                    .collect();
                let result = self.request(&texts, asked);
                failed.fetch_or(result.is_err(), Ordering::Relaxed);
                *results[index].lock().unwrap_or_else(|p| p.into_inner()) = Some(result);
            }
        };
        let work = || cancel::with_check(check.clone(), part_by_part);
        let threads = self.endpoint.settings().concurrency.unwrap_or(CONCURRENCY);
        std::thread::scope(|scope| {
            for _ in 1..threads.min(parts.len()) {
                scope.spawn(work);
            }
            work();
        });
        let mut whole = Batch::default();
        let mut skipped = false;
        for result in results {
            match result
                .into_inner()
                .unwrap_or_else(|poisoned| poisoned.into_inner())
            {
                Some(result) => whole.append(result?),
                None => skipped = true,
            }
        }
        // A part is skipped only behind a failed one, which has been returned above or comes later
        // in the list than the one that was skipped.
        if skipped {
            Err(ErrorKind::Cancelled.into())
        } else {
            Ok(whole)
        }
    }

    /// One request; two or more, if the provider turns out to take fewer texts than was known.
    fn request(&self, texts: &[&str], asked: Asked<'_>) -> Result<Batch> {
        let cap = self.max_inputs.load(Ordering::Relaxed);
        if texts.len() > cap {
            let mut whole = Batch::default();
            for part in texts.chunks(cap) {
                whole.append(self.request(part, asked)?);
            }
            return Ok(whole);
        }
        let wish = Wish {
            model: &self.model,
            texts,
            role: asked.role,
            width: asked.width,
            output: asked.output,
            instruct: asked.instruct.or_else(|| {
                let is_taken = self.known.instruct && *asked.role == Role::Query;
                self.settings.instruct.as_deref().filter(|_| is_taken)
            }),
            base64: self.facts.base64,
        };
        let body = vectors::request(self.facts.dialect, &wish).to_string();
        let client = self.endpoint.client();
        let exchanged = client.exchange(&self.url, self.endpoint.headers(), body.as_bytes());
        let bytes = match exchanged {
            Err(error) => match vectors::stated_cap(&error).filter(|cap| *cap < texts.len()) {
                Some(cap) => {
                    self.max_inputs.fetch_min(cap, Ordering::Relaxed);
                    return self.request(texts, asked);
                }
                None => return Err(error),
            },
            Ok(bytes) => bytes,
        };
        let dialect = self.facts.dialect;
        let batch = vectors::read(dialect, &bytes, texts.len(), asked.output, client)?;
        let expected = asked.width.unwrap_or(self.fingerprint.dimensions);
        let has_width = expected != 0 && asked.output.has_dense();
        if has_width && batch.dimensions != expected {
            return Err(ErrorKind::WrongDimensions {
                provider: self.endpoint.provider().into(),
                model: self.model.clone(),
                expected,
                received: batch.dimensions,
            }
            .into());
        }
        Ok(batch)
    }
}

impl Embedder for RemoteEmbedder {
    fn fingerprint(&self) -> &Fingerprint {
        &self.fingerprint
    }

    fn is_remote(&self) -> bool {
        true
    }

    fn max_dimensions(&self) -> usize {
        let widest = self.known.widths.iter().copied().max();
        widest
            .or(self.known.dimensions)
            .unwrap_or(0)
            .max(self.dimensions())
    }

    fn max_length(&self) -> usize {
        self.facts.max_tokens.unwrap_or(CAUTIOUS_LENGTH)
    }

    fn count_tokens(&self, text: &str) -> Result<usize, EmbedError> {
        Ok(self.tokenizer.count(text))
    }

    fn embed(&self, texts: &[&str], options: &EmbedOptions) -> Result<Embeddings, EmbedError> {
        let (windows, batch, usage) = self.run(texts, options, &NativeOptions::default())?;
        Ok(combine(&windows, &batch, usage))
    }
}

/// A remote space is the provider, the model and what is put before texts; the width comes later.
fn fingerprint(endpoint: &Endpoint, model: &str, settings: &ModelSettings) -> Fingerprint {
    let of = |prompt: &Option<String>| prompt.clone().unwrap_or_default();
    let provider = endpoint.provider();
    let space = serde_json::json!([
        provider,
        model,
        of(&settings.query_prompt),
        of(&settings.instruct)
    ]);
    Fingerprint {
        model: format!("{provider}:{model}"),
        weights: crate::hub::cache::hex(&Sha256::digest(space.to_string())),
        pooling: "remote".into(),
        document_prompt: of(&settings.document_prompt),
        dimensions: 0,
        precision: "remote".into(),
    }
}

trait WithWidth {
    fn with_width(self, dimensions: usize) -> Self;
}

impl WithWidth for Fingerprint {
    fn with_width(self, dimensions: usize) -> Self {
        Self { dimensions, ..self }
    }
}
