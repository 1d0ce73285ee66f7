//! The windows that texts are sent in: into requests, and what comes back put together by text.

use std::borrow::Cow;
use std::ops::Range;

use super::vectors::{Batch, Bill};
use crate::embed::{Embeddings, TokenUsage};

/// A text, or as much of one as the model takes.
pub(super) struct Window<'a> {
    pub(super) text: Cow<'a, str>,
    pub(super) tokens: usize,
    /// The caller's text that it belongs to.
    pub(super) text_index: usize,
}

/// What one request may hold.
pub(super) struct Caps {
    pub(super) inputs: usize,
    pub(super) tokens: usize,
    /// An empty text goes in a request of its own.
    pub(super) empty_alone: bool,
}

/// Neighbouring windows that go together. Parts cover all windows in order.
pub(super) fn parts(windows: &[Window<'_>], caps: &Caps) -> Vec<Range<usize>> {
    let mut parts: Vec<Range<usize>> = Vec::new();
    let mut tokens = 0;
    let mut closed = true;
    for (index, window) in windows.iter().enumerate() {
        let alone = caps.empty_alone && window.text.is_empty();
        tokens += window.tokens;
        match parts.last_mut().filter(|_| !closed && !alone) {
            Some(part) if part.len() < caps.inputs && tokens <= caps.tokens => part.end += 1,
            _ => {
                parts.push(index..index + 1);
                tokens = window.tokens;
            }
        }
        closed = alone;
    }
    parts
}

/// `planned` with the provider's own counts in the place of ours: what it says of a request is spread
/// over the request's windows by our counts, so that the sum is true to the token.
pub(super) fn charged(
    windows: &[Window<'_>],
    bills: &[Bill],
    planned: Vec<TokenUsage>,
) -> Vec<TokenUsage> {
    let mut kept = vec![0; planned.len()];
    let mut rest = windows;
    for bill in bills {
        let (ours, others) = rest.split_at(bill.texts.min(rest.len()));
        rest = others;
        let total: u128 = ours.iter().map(|window| window.tokens as u128).sum();
        let told = bill.tokens.filter(|_| total > 0);
        let share = |sum: u128| told.map_or(sum, |told| u128::from(told) * sum / total);
        let mut sum = 0;
        for window in ours {
            let before = share(sum);
            sum += window.tokens as u128;
            let part = usize::try_from(share(sum) - before);
            kept[window.text_index] += part.unwrap_or(usize::MAX / 2);
        }
    }
    let charge = |(usage, kept): (TokenUsage, usize)| TokenUsage {
        // What was cut off is known by our count alone.
        seen: kept + (usage.seen - usage.kept),
        kept,
        ..usage
    };
    planned.into_iter().zip(kept).map(charge).collect()
}

/// The windows of each text averaged by their tokens; every vector of unit length.
pub(super) fn combine(windows: &[Window<'_>], batch: &Batch, usage: Vec<TokenUsage>) -> Embeddings {
    let dimensions = batch.dimensions;
    let mut values = vec![0.0_f32; usage.len() * dimensions];
    for (window, vector) in windows
        .iter()
        .zip(batch.values.chunks_exact(dimensions.max(1)))
    {
        let target = &mut values[window.text_index * dimensions..][..dimensions];
        let (length, weight) = (norm(vector), window.tokens.max(1) as f32);
        for (sum, value) in target.iter_mut().zip(vector) {
            *sum += weight * value / length;
        }
    }
    for vector in values.chunks_exact_mut(dimensions.max(1)) {
        let length = norm(vector).max(f32::MIN_POSITIVE);
        vector.iter_mut().for_each(|value| *value /= length);
    }
    Embeddings {
        dimensions,
        values,
        usage,
    }
}

fn norm(vector: &[f32]) -> f32 {
    let squares = vector.iter().map(|value| f64::from(*value).powi(2));
    squares.sum::<f64>().sqrt() as f32
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn what_the_provider_counts_is_spread_to_the_token() {
        let window = |(text_index, tokens)| Window {
            text: Cow::Borrowed("x"),
            tokens,
            text_index,
        };
        let windows: Vec<_> = [(0, 3), (1, 5), (1, 5), (2, 0)].map(window).into();
        let usage = |seen, kept| TokenUsage {
            seen,
            kept,
            windows: 1,
        };
        let planned = vec![usage(7, 3), usage(10, 10), usage(0, 0)];
        let bills = |tokens| {
            [
                Bill { texts: 2, tokens },
                Bill {
                    texts: 2,
                    tokens: None,
                },
            ]
        };
        let told = charged(&windows, &bills(Some(99)), planned.clone());
        assert_eq!((told[0].kept, told[1].kept, told[2].kept), (37, 62 + 5, 0));
        // A text that was cut is still one, and a whole one is whole.
        assert_eq!((told[0].seen, told[1].seen), (37 + 4, 62 + 5));
        assert_eq!(charged(&windows, &bills(None), planned.clone()), planned);
    }

    proptest! {
        #[test]
        fn parts_cover_all_in_order_within_the_caps(
            sizes in prop::collection::vec(0_usize..30, 0..60),
            inputs in 1_usize..8,
            tokens in 30_usize..90,
        ) {
            let window = |tokens: &usize| Window {
                text: Cow::Borrowed(if *tokens == 0 { "" } else { "x" }),
                tokens: *tokens,
                text_index: 0,
            };
            let windows: Vec<_> = sizes.iter().map(window).collect();
            let caps = Caps { inputs, tokens, empty_alone: true };
            let parts = parts(&windows, &caps);
            let covered: Vec<usize> = parts.iter().cloned().flatten().collect();
            prop_assert_eq!(covered, (0..sizes.len()).collect::<Vec<_>>());
            for part in parts {
                prop_assert!(part.len() <= inputs);
                prop_assert!(sizes[part.clone()].iter().sum::<usize>() <= tokens);
                prop_assert!(part.len() == 1 || !sizes[part].contains(&0));
            }
        }
    }
}
