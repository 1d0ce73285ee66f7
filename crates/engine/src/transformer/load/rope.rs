//! Rotary frequencies from a description, scaled as the model's files say.

use crate::kernels::rope::{Rope, inverse_frequencies};
use crate::transformer::config::{Config, RopeScaling};

/// The rotation of base `theta`; of the set for long conversations if `long`.
pub(super) fn rope(config: &Config, theta: f32, long: bool) -> Rope {
    let dim = config
        .decoder
        .latent
        .as_ref()
        .map_or(config.rotary_dim, |latent| latent.qk_rope_head_dim);
    let plain = inverse_frequencies(theta, dim).map(|value| value / config.rope_linear_factor);
    let plain: Vec<f32> = plain.collect();
    let interleaved = config.decoder.rope_interleaved;
    let scaled_theta = config.decoder.scaled_theta;
    if scaled_theta.is_some_and(|scaled| scaled != theta) {
        return Rope::of(plain, 1.0, interleaved);
    }
    let (frequencies, magnitude) = match &config.decoder.rope_scaling {
        RopeScaling::None => (plain, 1.0),
        RopeScaling::Linear { factor } => (plain.iter().map(|value| value / factor).collect(), 1.0),
        RopeScaling::Llama3 {
            factor,
            low_freq_factor,
            high_freq_factor,
            original,
        } => {
            let blend = |value: &f32| {
                let turns = original * value / std::f32::consts::TAU;
                let share = (turns - low_freq_factor) / (high_freq_factor - low_freq_factor);
                let share = share.clamp(0.0, 1.0);
                (1.0 - share) * value / factor + share * value
            };
            (plain.iter().map(blend).collect(), 1.0)
        }
        RopeScaling::Yarn {
            factor,
            beta_fast,
            beta_slow,
            original,
            attention_factor,
        } => {
            let range = yarn_range([*beta_fast, *beta_slow], dim, theta, *original);
            (yarn(&plain, range, *factor), *attention_factor)
        }
        RopeScaling::Long {
            short,
            long: longer,
            attention_factor,
            ..
        } => {
            let factors = if long { longer } else { short };
            let divided = plain.iter().zip(factors);
            let divided = divided.map(|(value, factor)| value / factor).collect();
            (divided, *attention_factor)
        }
    };
    Rope::of(frequencies, magnitude, interleaved)
}

/// The first and last frequency of the blend: those that turn `betas` times in `original` tokens.
#[expect(clippy::cast_precision_loss, reason = "a head's width")]
fn yarn_range(betas: [f32; 2], dim: usize, theta: f32, original: f32) -> [f32; 2] {
    let index = |turns: f32| {
        let (dim, theta) = (dim as f64, f64::from(theta));
        let turns = f64::from(original) / (f64::from(turns) * std::f64::consts::TAU);
        dim * turns.ln() / (2.0 * theta.ln())
    };
    let first = index(betas[0]).floor().max(0.0);
    let last = index(betas[1]).ceil().min((dim - 1) as f64);
    #[expect(clippy::cast_possible_truncation, reason = "small whole numbers")]
    [first as f32, last as f32]
}

#[expect(clippy::cast_precision_loss, reason = "a head's width")]
fn yarn(plain: &[f32], [first, last]: [f32; 2], factor: f32) -> Vec<f32> {
    // Two equal ends would divide by zero.
    let last = if first == last { last + 0.001 } else { last };
    let blend = |(index, value): (usize, &f32)| {
        let divided = ((index as f32 - first) / (last - first)).clamp(0.0, 1.0);
        value / factor * divided + value * (1.0 - divided)
    };
    plain.iter().enumerate().map(blend).collect()
}

/// What YaRN adds to the attention's sharpness: `0.1 m ln(factor) + 1`.
pub(super) fn yarn_magnitude(factor: f32, mscale: f32) -> f32 {
    if factor <= 1.0 {
        1.0
    } else {
        0.1 * mscale * factor.ln() + 1.0
    }
}
