//! Scores to the next token.

use std::collections::HashMap;

/// How the next token is chosen.
#[derive(Clone, Debug, PartialEq)]
pub struct SamplingOptions {
    /// 0 takes the best token always; 1 takes the model's probabilities as they are.
    pub temperature: f32,
    /// Choose among this many best tokens; `None` among all.
    pub top_k: Option<usize>,
    /// Choose among the best tokens that together have this probability.
    pub top_p: f32,
    /// Choose among tokens that have at least this share of the best token's probability.
    pub min_p: f32,
    /// Scores of tokens that occurred are divided by it if positive, else multiplied; 1 is none.
    pub repetition_penalty: f32,
    /// Taken from the score of tokens that the answer has.
    pub presence_penalty: f32,
    /// Taken from a token's score for each time that the answer has it.
    pub frequency_penalty: f32,
    /// Added to the scores of tokens.
    pub logit_bias: Vec<(u32, f32)>,
    /// The same seed gives the same text; `None` takes one from the clock.
    pub seed: Option<u64>,
}

impl Default for SamplingOptions {
    fn default() -> Self {
        Self {
            temperature: 0.7,
            top_k: None,
            top_p: 1.0,
            min_p: 0.0,
            repetition_penalty: 1.0,
            presence_penalty: 0.0,
            frequency_penalty: 0.0,
            logit_bias: Vec::new(),
            seed: None,
        }
    }
}

/// Tokens of the past that the repetition penalty looks at.
const REMEMBERED: usize = 256;

/// Chooses tokens; remembers those of the conversation for the penalties.
#[derive(Debug)]
pub(super) struct Sampler {
    options: SamplingOptions,
    state: u64,
    /// Tokens of prompt and answer.
    past: Vec<u32>,
    /// How often the answer has each token.
    counts: HashMap<u32, u32>,
}

impl Sampler {
    pub(super) fn new(options: &SamplingOptions, prompt: &[u32]) -> Self {
        let seed = options.seed.unwrap_or_else(|| {
            let now = std::time::SystemTime::now().duration_since(std::time::UNIX_EPOCH);
            #[expect(clippy::cast_possible_truncation, reason = "the fast part of a clock")]
            now.map_or(0, |now| now.as_nanos() as u64)
        });
        Self {
            options: options.clone(),
            state: seed,
            past: prompt[prompt.len().saturating_sub(REMEMBERED)..].to_vec(),
            counts: HashMap::new(),
        }
    }

    /// A token by its score; the scores are those after [`Sampler::penalize`].
    pub(super) fn pick(&mut self, logits: &[f32]) -> u32 {
        if self.options.temperature <= 0.0 {
            best(logits)
        } else {
            self.draw(logits)
        }
    }

    /// Remembers that the answer has `id` now.
    pub(super) fn accept(&mut self, id: u32) {
        self.past.push(id);
        *self.counts.entry(id).or_default() += 1;
    }

    /// Changes the scores by what was said and by the biases.
    pub(super) fn penalize(&self, logits: &mut [f32]) {
        let options = &self.options;
        for (id, bias) in &options.logit_bias {
            if let Some(score) = logits.get_mut(*id as usize) {
                *score += bias;
            }
        }
        if options.repetition_penalty != 1.0 {
            let mut recent = self.past[self.past.len().saturating_sub(REMEMBERED)..].to_vec();
            recent.sort_unstable();
            recent.dedup();
            for id in recent {
                let Some(score) = logits.get_mut(id as usize) else {
                    continue;
                };
                if *score > 0.0 {
                    *score /= options.repetition_penalty;
                } else {
                    *score *= options.repetition_penalty;
                }
            }
        }
        if options.presence_penalty != 0.0 || options.frequency_penalty != 0.0 {
            for (id, count) in &self.counts {
                #[expect(clippy::cast_precision_loss, reason = "a small count")]
                let times = *count as f32;
                logits[*id as usize] -=
                    options.presence_penalty + options.frequency_penalty * times;
            }
        }
    }

    /// Draws from what the limits leave.
    fn draw(&mut self, logits: &[f32]) -> u32 {
        let options = &self.options;
        let largest = logits.iter().copied().fold(f32::NEG_INFINITY, f32::max);
        let weight = |score: f32| ((score - largest) / options.temperature).exp();
        // Weights below 1e-9 of the best cannot be told from zero in an f32 sum.
        let least = options.min_p.max(1e-9);
        let mut chosen: Vec<(u32, f32)> = (0_u32..)
            .zip(logits)
            .map(|(id, score)| (id, weight(*score)))
            .filter(|(_, weight)| *weight >= least)
            .collect();
        chosen.sort_unstable_by(|a, b| b.1.total_cmp(&a.1).then(a.0.cmp(&b.0)));
        if let Some(top_k) = options.top_k.filter(|top_k| *top_k > 0) {
            chosen.truncate(top_k);
        }
        if options.top_p < 1.0 {
            let total: f32 = chosen.iter().map(|(_, weight)| weight).sum();
            let mut sum = 0.0;
            let enough = chosen.iter().position(|(_, weight)| {
                sum += weight;
                sum >= options.top_p * total
            });
            chosen.truncate(enough.map_or(chosen.len(), |last| last + 1));
        }
        let total: f32 = chosen.iter().map(|(_, weight)| weight).sum();
        let mut point = self.random() * total;
        for (id, weight) in &chosen {
            point -= weight;
            if point < 0.0 {
                return *id;
            }
        }
        chosen.first().map_or_else(|| best(logits), |(id, _)| *id)
    }

    /// A number in 0..1 (SplitMix64).
    fn random(&mut self) -> f32 {
        self.state = self.state.wrapping_add(0x9E37_79B9_7F4A_7C15);
        let mut mixed = self.state;
        mixed = (mixed ^ (mixed >> 30)).wrapping_mul(0xBF58_476D_1CE4_E5B9);
        mixed = (mixed ^ (mixed >> 27)).wrapping_mul(0x94D0_49BB_1331_11EB);
        mixed ^= mixed >> 31;
        #[expect(clippy::cast_precision_loss, reason = "24 bits")]
        let bits = (mixed >> 40) as f32;
        bits / 16_777_216.0
    }
}

/// The token of the highest score, the first of equals.
pub(super) fn best(logits: &[f32]) -> u32 {
    let mut best = (0, f32::NEG_INFINITY);
    for (id, score) in (0_u32..).zip(logits) {
        if *score > best.1 {
            best = (id, *score);
        }
    }
    best.0
}

#[cfg(test)]
mod tests {
    use super::*;

    const LOGITS: [f32; 5] = [1.0, 3.0, 2.0, -1.0, 0.0];

    fn draws(options: &SamplingOptions, count: usize) -> Vec<u32> {
        let mut sampler = Sampler::new(options, &[]);
        (0..count).map(|_| next(&mut sampler)).collect()
    }

    fn next(sampler: &mut Sampler) -> u32 {
        let mut logits = LOGITS;
        sampler.penalize(&mut logits);
        let id = sampler.pick(&logits);
        sampler.accept(id);
        id
    }

    #[test]
    fn zero_temperature_takes_the_best() {
        let options = SamplingOptions {
            temperature: 0.0,
            ..SamplingOptions::default()
        };
        assert_eq!(draws(&options, 3), [1, 1, 1]);
    }

    #[test]
    fn a_seed_repeats_and_frequencies_follow_the_probabilities() {
        let options = SamplingOptions {
            temperature: 1.0,
            seed: Some(7),
            ..SamplingOptions::default()
        };
        let drawn = draws(&options, 20_000);
        assert_eq!(drawn, draws(&options, 20_000));
        let total: f32 = LOGITS.iter().map(|score| score.exp()).sum();
        for (id, score) in (0_u32..).zip(LOGITS) {
            let share = drawn.iter().filter(|drawn| **drawn == id).count() as f32 / 20_000.0;
            assert!((share - score.exp() / total).abs() < 0.015, "{id}: {share}");
        }
    }

    #[test]
    fn limits_leave_out_the_unlikely() {
        let base = SamplingOptions {
            temperature: 1.0,
            seed: Some(1),
            ..SamplingOptions::default()
        };
        let only = |options: SamplingOptions| {
            let mut ids = draws(&options, 2000);
            ids.sort_unstable();
            ids.dedup();
            ids
        };
        assert_eq!(
            only(SamplingOptions {
                top_k: Some(2),
                ..base.clone()
            }),
            [1, 2]
        );
        assert_eq!(
            only(SamplingOptions {
                top_p: 0.6,
                ..base.clone()
            }),
            [1]
        );
        assert_eq!(
            only(SamplingOptions {
                min_p: 0.3,
                ..base.clone()
            }),
            [1, 2]
        );
        let bias = vec![(3, 100.0)];
        assert_eq!(
            only(SamplingOptions {
                logit_bias: bias,
                ..base
            }),
            [3]
        );
    }

    #[test]
    fn penalties_drive_away_what_was_said() {
        let options = SamplingOptions {
            temperature: 0.0,
            presence_penalty: 1.5,
            ..SamplingOptions::default()
        };
        assert_eq!(draws(&options, 3), [1, 2, 1]);
        let options = SamplingOptions {
            temperature: 0.0,
            repetition_penalty: 4.0,
            ..SamplingOptions::default()
        };
        let mut sampler = Sampler::new(&options, &[1]);
        assert_eq!(next(&mut sampler), 2);
    }
}
