//! Calls: texts in, vectors, scores or weights out.

use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::sync::{Mutex, MutexGuard, PoisonError};

use super::Encoder;
use super::description::Output;
use super::heads::{Head, relevance_logit};
use super::options::{EmbedOptions, Embeddings, Overflow, Relevance, SparseEmbedding, TokenUsage};
use super::plan::{Planned, Window, batches, plan};
use super::pooling::{normalize, pool};
use crate::transformer::{Batch, Hidden};
use crate::{Error, ErrorKind, Result};

/// Texts that are tokenized before any of them runs: enough to sort by length, few enough that a
/// million texts take no memory.
const TEXTS: usize = 8192;

/// Tokens of a batch that one thread runs alone: its hidden states then stay in a 2 MiB cache.
const ALONE: usize = 384;

/// Tokens of a batch that all threads share.
const TOGETHER: usize = 8192;

impl Encoder {
    /// The vectors of `texts`, in order, unit length.
    ///
    /// # Errors
    ///
    /// If the model gives no embeddings, `dimensions` is 0 or above the model's, the prompt is not
    /// known, or a text is too long for the overflow policy.
    pub fn embed(&self, texts: &[&str], options: &EmbedOptions) -> Result<Embeddings> {
        self.must_give(Output::Embedding)?;
        let available = self.dimensions();
        let dimensions = options.dimensions.unwrap_or(available);
        if !(1..=available).contains(&dimensions) {
            return Err(ErrorKind::Dimensions {
                requested: dimensions,
                available,
            }
            .into());
        }
        let prompt = self.description.prompt(&options.role)?;
        let mut embeddings = Embeddings {
            dimensions,
            ..Embeddings::default()
        };
        embeddings.values.reserve(texts.len() * dimensions);
        for (chunk, texts) in texts.chunks(TEXTS).enumerate() {
            let planned = self.plan_all(prompt, texts, chunk * TEXTS, options.overflow)?;
            let (windows, usage) = flatten(planned);
            let vectors = self.vectors(&windows)?;
            let mut vectors = windows.iter().map(Window::tokens).zip(vectors);
            for usage in &usage {
                let vector = combine(vectors.by_ref().take(usage.windows), dimensions);
                embeddings.values.extend(vector);
            }
            embeddings.usage.extend(usage);
        }
        Ok(embeddings)
    }

    /// How relevant each document is to `query`, in order. Over-long pairs are refused or truncated
    /// (the longer of both first); they cannot be split.
    ///
    /// # Errors
    ///
    /// If the model is no cross-encoder, or a pair is too long for the overflow policy.
    pub fn rerank(
        &self,
        query: &str,
        documents: &[&str],
        overflow: Overflow,
    ) -> Result<Vec<Relevance>> {
        self.must_give(Output::Relevance)?;
        if overflow == Overflow::SplitMean {
            let (value, expected) = (
                "split-mean".into(),
                "`error` or `truncate` for pairs".into(),
            );
            return Err(ErrorKind::Option {
                option: "overflow",
                value,
                expected,
            }
            .into());
        }
        let query = self.tokenizer.encode(query)?;
        let mut results = Vec::with_capacity(documents.len());
        for (chunk, documents) in documents.chunks(TEXTS).enumerate() {
            let planned = self.in_parallel(documents.len(), |index| {
                self.plan_pair(&query, documents[index], chunk * TEXTS + index, overflow)
            })?;
            let (windows, usage) = flatten(planned);
            let logits = self.logits(&windows)?;
            results.extend(
                logits
                    .into_iter()
                    .zip(usage)
                    .map(|(logit, usage)| Relevance::of(logit, usage)),
            );
        }
        Ok(results)
    }

    /// The sparse vectors of `texts`, in order.
    ///
    /// # Errors
    ///
    /// If the model gives none, or as [`Encoder::embed`]. Over-long texts cannot be split.
    pub fn sparse(&self, texts: &[&str], options: &EmbedOptions) -> Result<Vec<SparseEmbedding>> {
        self.must_give(Output::Sparse)?;
        let prompt = self.description.prompt(&options.role)?;
        let mut results = Vec::with_capacity(texts.len());
        for (chunk, texts) in texts.chunks(TEXTS).enumerate() {
            let planned = self.plan_all(prompt, texts, chunk * TEXTS, options.overflow)?;
            let (windows, usage) = flatten(planned);
            let weights = self.weights(&windows)?;
            let mut weights = weights.into_iter();
            for usage in usage {
                let windows = weights.by_ref().take(usage.windows);
                results.push(SparseEmbedding {
                    weights: largest_of(windows),
                    usage,
                });
            }
        }
        Ok(results)
    }

    /// The vectors of windows: pooled and through the dense layers, not yet normalised.
    pub(super) fn vectors(&self, windows: &[Window]) -> Result<Vec<Vec<f32>>> {
        self.each_window(windows, |hidden, first, window| {
            let vector = pool(self.description.pooling, hidden, first, &window.input_ids);
            self.dense
                .iter()
                .fold(vector, |vector, layer| layer.apply(self.isa, &vector))
        })
    }

    /// The relevance of pairs.
    pub(super) fn logits(&self, windows: &[Window]) -> Result<Vec<f32>> {
        self.must_give(Output::Relevance)?;
        let Head::Relevance { layers, norm, mean } = &self.head else {
            unreachable!()
        };
        let head = (&layers[..], norm.as_ref(), *mean);
        self.each_window(windows, |hidden, first, window| {
            relevance_logit(self.isa, head, hidden, first, window.tokens())
        })
    }

    /// The vocabulary weights of windows.
    pub(super) fn weights(&self, windows: &[Window]) -> Result<Vec<Vec<(u32, f32)>>> {
        self.must_give(Output::Sparse)?;
        let Head::Sparse(head) = &self.head else {
            unreachable!()
        };
        self.each_window(windows, |hidden, first, window| {
            head.weigh(self.isa, hidden, first, window.tokens())
        })
    }

    pub(super) fn must_give(&self, output: Output) -> Result<()> {
        let available = self.description.output;
        if available == output {
            return Ok(());
        }
        let (wanted, available) = (output.plural(), available.plural());
        Err(ErrorKind::Head { wanted, available }.into())
    }

    fn plan_all(
        &self,
        prompt: &str,
        texts: &[&str],
        first: usize,
        overflow: Overflow,
    ) -> Result<Vec<Planned>> {
        let max_length = self.max_length();
        self.in_parallel(texts.len(), |index| {
            let text = (first + index, texts[index]);
            plan(&self.tokenizer, prompt, text, max_length, overflow)
        })
    }

    pub(super) fn plan_pair(
        &self,
        query: &[u32],
        document: &str,
        index: usize,
        overflow: Overflow,
    ) -> Result<Planned> {
        let document = self.tokenizer.encode(document)?;
        let max_length = self.max_length();
        let whole = self.tokenizer.assemble_pair(query, &document, usize::MAX);
        let seen = whole.input_ids.len();
        if seen > max_length && overflow == Overflow::Error {
            return Err(ErrorKind::TooLong {
                index,
                tokens: seen,
                max_length,
            }
            .into());
        }
        let pair = self.tokenizer.assemble_pair(query, &document, max_length);
        let kept = pair.input_ids.len();
        let kinds = pair.token_type_ids.iter();
        let window = Window {
            input_ids: pair.input_ids,
            token_type_ids: kinds.map(|kind| u8::try_from(*kind).unwrap_or(0)).collect(),
        };
        Ok(Planned {
            windows: vec![window],
            usage: TokenUsage {
                seen,
                kept,
                windows: 1,
            },
        })
    }

    /// `make(index)` for `0..count`, on all threads, in order.
    fn in_parallel<R: Send>(
        &self,
        count: usize,
        make: impl Fn(usize) -> Result<R> + Sync,
    ) -> Result<Vec<R>> {
        /// Texts are tokenized in bunches, since one takes only microseconds.
        const BUNCH: usize = 16;
        if count <= BUNCH {
            return (0..count).map(make).collect();
        }
        let next = AtomicUsize::new(0);
        let done = Mutex::new(Vec::new());
        self.team.run(|_| {
            loop {
                let first = next.fetch_add(BUNCH, Ordering::Relaxed);
                if first >= count {
                    return;
                }
                let bunch: Vec<_> = (first..(first + BUNCH).min(count)).map(&make).collect();
                lock(&done).push((first, bunch));
            }
        });
        let mut done = done.into_inner().unwrap_or_else(PoisonError::into_inner);
        done.sort_unstable_by_key(|(first, _)| *first);
        done.into_iter().flat_map(|(_, bunch)| bunch).collect()
    }

    /// Runs all windows through the transformer and calls `read(hidden, first token, window)` on
    /// each; the results come in the order of the windows.
    fn each_window<R: Send>(
        &self,
        windows: &[Window],
        read: impl Fn(&Hidden<'_>, usize, &Window) -> R + Sync,
    ) -> Result<Vec<R>> {
        let members = self.team.size();
        let mut results: Vec<Option<R>> = Vec::new();
        results.resize_with(windows.len(), || None);
        if members > 1 && windows.len() < 4 * members {
            for indices in batches(windows, TOGETHER) {
                let mut scratch = lock(&self.together);
                let batch = batch_of(windows, &indices);
                let hidden = self.transformer.forward_together(
                    &self.team,
                    &batch,
                    &mut scratch,
                    &self.alone,
                )?;
                for (index, (first, _)) in indices.iter().zip(batch.sequences()) {
                    results[*index] = Some(read(&hidden, first, &windows[*index]));
                }
            }
        } else {
            for (index, result) in self.each_alone(windows, &read)? {
                results[index] = Some(result);
            }
        }
        Ok(results.into_iter().flatten().collect())
    }

    /// Deals batches out among the threads; each runs its own alone.
    fn each_alone<R: Send>(
        &self,
        windows: &[Window],
        read: &(impl Fn(&Hidden<'_>, usize, &Window) -> R + Sync),
    ) -> Result<Vec<(usize, R)>> {
        let total: usize = windows.iter().map(|window| window.input_ids.len()).sum();
        // Smaller batches when there is little work, so that all threads get some of it.
        let budget = (total / (4 * self.team.size())).clamp(64, ALONE);
        let batches = batches(windows, budget);
        let (next, failed) = (AtomicUsize::new(0), AtomicBool::new(false));
        let (done, failure) = (Mutex::new(Vec::new()), Mutex::new(None::<Error>));
        self.team.run(|rank| {
            let mut scratch = lock(&self.alone[rank]);
            while !failed.load(Ordering::Relaxed) {
                let Some(indices) = batches.get(next.fetch_add(1, Ordering::Relaxed)) else {
                    return;
                };
                let batch = batch_of(windows, indices);
                match self.transformer.forward(&batch, &mut scratch) {
                    Ok(hidden) => {
                        let results = indices.iter().zip(batch.sequences());
                        let results: Vec<_> = results
                            .map(|(index, (first, _))| {
                                (*index, read(&hidden, first, &windows[*index]))
                            })
                            .collect();
                        lock(&done).extend(results);
                    }
                    Err(error) => {
                        *lock(&failure) = Some(error);
                        failed.store(true, Ordering::Relaxed);
                    }
                }
            }
        });
        match failure.into_inner().unwrap_or_else(PoisonError::into_inner) {
            Some(error) => Err(error),
            None => Ok(done.into_inner().unwrap_or_else(PoisonError::into_inner)),
        }
    }
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

/// All windows in the order of the texts, and the texts' usage.
fn flatten(planned: Vec<Planned>) -> (Vec<Window>, Vec<TokenUsage>) {
    let usage = planned.iter().map(|planned| planned.usage).collect();
    (
        planned
            .into_iter()
            .flat_map(|planned| planned.windows)
            .collect(),
        usage,
    )
}

fn batch_of(windows: &[Window], indices: &[usize]) -> Batch {
    let mut batch = Batch::default();
    for index in indices {
        let window = &windows[*index];
        batch.push(&window.input_ids, &window.token_type_ids);
    }
    batch
}

/// The vector of a text from its windows' tokens and vectors: averaged by length if there are several,
/// truncated, unit length.
pub(super) fn combine(
    windows: impl Iterator<Item = (usize, Vec<f32>)>,
    dimensions: usize,
) -> Vec<f32> {
    let mut windows: Vec<_> = windows.collect();
    let mut vector = match windows.len() {
        1 => windows.remove(0).1,
        _ => {
            let width = windows.first().map_or(0, |(_, vector)| vector.len());
            let mut sum = vec![0.0; width];
            for (tokens, mut vector) in windows {
                normalize(&mut vector);
                #[expect(clippy::cast_precision_loss, reason = "a text's tokens")]
                let weight = tokens as f32;
                sum.iter_mut()
                    .zip(vector)
                    .for_each(|(sum, value)| *sum += weight * value);
            }
            sum
        }
    };
    vector.truncate(dimensions);
    normalize(&mut vector);
    vector
}

/// The largest weight of each id over all windows, by ascending id.
pub(super) fn largest_of(windows: impl Iterator<Item = Vec<(u32, f32)>>) -> Vec<(u32, f32)> {
    let mut largest = std::collections::BTreeMap::<u32, f32>::new();
    for (id, weight) in windows.flatten() {
        let entry = largest.entry(id).or_insert(weight);
        *entry = entry.max(weight);
    }
    largest.into_iter().collect()
}
