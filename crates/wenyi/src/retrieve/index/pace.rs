//! How much is embedded before it is written.
//!
//! What is not written is lost with the process. So a slow model's batches are as long as some time
//! takes, not as many tokens as a fast one's.

use std::time::Duration;

use super::IndexOptions;
use crate::embed::Embedder;

/// Tokens for each core that a batch has at least: some four passages, so that no core waits long for
/// the others at a batch's end.
const LEAST_PER_CORE: usize = 1024;

/// The size of the next batch.
#[derive(Debug)]
pub(super) struct Pace {
    tokens: usize,
    least: usize,
    most: usize,
    time: Duration,
}

impl Pace {
    pub(super) fn new(options: &IndexOptions, embedder: &dyn Embedder) -> Self {
        let cores = std::thread::available_parallelism().map_or(1, usize::from);
        let least = match embedder.is_remote() {
            // A smaller call would be hardly quicker.
            true => usize::MAX,
            false => cores * LEAST_PER_CORE,
        };
        Self::within(least, options.batch_tokens, options.batch_time)
    }

    fn within(least: usize, most: usize, time: Duration) -> Self {
        let least = least.min(most);
        Self {
            // How fast the model is will be known after the first one.
            tokens: least,
            least,
            most,
            time,
        }
    }

    /// Tokens that the next batch is to have.
    pub(super) fn tokens(&self) -> usize {
        self.tokens
    }

    /// Learns from a batch: how many tokens were embedded, and how long that took.
    pub(super) fn learn(&mut self, tokens: u64, took: Duration) {
        if tokens == 0 {
            return;
        }
        let rate = tokens as f64 / took.as_secs_f64().max(1e-6);
        let wanted = rate * self.time.as_secs_f64();
        self.tokens = (wanted as usize).clamp(self.least, self.most);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_batch_takes_about_the_time_within_its_bounds() {
        let second = Duration::from_secs(1);
        let mut pace = Pace::within(2_000, 16_000, 2 * second);
        assert_eq!(pace.tokens(), 2_000);
        pace.learn(2_000, second / 2);
        assert_eq!(pace.tokens(), 8_000);
        pace.learn(8_000, second);
        assert_eq!(pace.tokens(), 16_000);
        // Vectors that were there already say nothing of the model.
        pace.learn(0, second);
        assert_eq!(pace.tokens(), 16_000);
        pace.learn(16_000, 32 * second);
        assert_eq!(pace.tokens(), 2_000);
        assert_eq!(
            Pace::within(usize::MAX, 16_000, 2 * second).tokens(),
            16_000
        );
        assert_eq!(Pace::within(2_000, 500, 2 * second).tokens(), 500);
    }
}
