//! A feed-forward block of experts, of which each token uses a few.

use super::config::ExpertsConfig;
use crate::kernels::activation::Activation;
use crate::kernels::isa::Isa;
use crate::kernels::linear::Linear;
use crate::kernels::rows::padded;

/// A gated feed-forward block.
#[derive(Debug)]
pub(super) struct Expert {
    /// Gate and up side by side, each padded to whole panels.
    pub(super) up: Linear,
    pub(super) down: Linear,
    pub(super) intermediate_size: usize,
}

impl Expert {
    /// The block for `rows` rows padded to whole panels.
    fn apply(&self, isa: Isa, activation: Activation, rows: usize, from: &mut [f32]) -> Vec<f32> {
        let width = padded(self.intermediate_size);
        let mut inner = vec![0.0; rows * 2 * width];
        self.up.apply(isa, rows, from, &mut inner);
        activation.apply_gated_to(isa, &mut inner, self.intermediate_size);
        let product = inner.chunks_exact(2 * width).flat_map(|row| &row[..width]);
        let mut product: Vec<f32> = product.copied().collect();
        let mut out = vec![0.0; rows * padded(self.down.out_features())];
        self.down.apply(isa, rows, &mut product, &mut out);
        out
    }
}

/// The experts of a layer.
#[derive(Debug)]
pub(super) struct Experts {
    pub(super) config: ExpertsConfig,
    pub(super) activation: Activation,
    /// Hidden state to a score for each expert.
    pub(super) router: Linear,
    /// Added to the scores while choosing (DeepSeek V3); empty for none.
    pub(super) correction: Vec<f32>,
    pub(super) experts: Vec<Expert>,
    /// The one that every token uses.
    pub(super) shared: Option<Expert>,
}

impl Experts {
    /// The block for `rows` rows of hidden states padded to whole panels; tokens that share an
    /// expert go through it together.
    pub(super) fn apply(&self, isa: Isa, rows: usize, from: &mut [f32]) -> Vec<f32> {
        let stride = from.len() / rows.max(1);
        let mut out = match &self.shared {
            Some(shared) => shared.apply(isa, self.activation, rows, from),
            None => vec![0.0; rows * stride],
        };
        let mut scores = vec![0.0; rows * padded(self.config.num_experts)];
        self.router.apply(isa, rows, from, &mut scores);
        let mut wanted = vec![Vec::new(); self.experts.len()];
        for (row, scores) in scores
            .chunks_exact(padded(self.config.num_experts))
            .enumerate()
        {
            for (expert, weight) in self.choose(&scores[..self.config.num_experts]) {
                wanted[expert].push((row, weight));
            }
        }
        for (expert, rows) in self.experts.iter().zip(&wanted) {
            if rows.is_empty() {
                continue;
            }
            let gathered = rows
                .iter()
                .flat_map(|(row, _)| &from[row * stride..][..stride]);
            let mut gathered: Vec<f32> = gathered.copied().collect();
            let result = expert.apply(isa, self.activation, rows.len(), &mut gathered);
            for ((row, weight), result) in rows.iter().zip(result.chunks_exact(stride)) {
                let out = &mut out[row * stride..][..stride];
                out.iter_mut()
                    .zip(result)
                    .for_each(|(out, value)| *out += weight * value);
            }
        }
        out
    }

    /// The experts of a token, with their weights.
    fn choose(&self, logits: &[f32]) -> Vec<(usize, f32)> {
        let config = &self.config;
        let scores = if config.sigmoid {
            logits
                .iter()
                .map(|logit| 1.0 / (1.0 + (-logit).exp()))
                .collect()
        } else {
            softmax(logits)
        };
        let mut ranked = scores.clone();
        if !self.correction.is_empty() {
            ranked
                .iter_mut()
                .zip(&self.correction)
                .for_each(|(score, add)| *score += add);
        }
        self.close_groups(&mut ranked);
        let mut order: Vec<usize> = (0..scores.len()).collect();
        // Stable, so that of equals the first is chosen.
        order.sort_by(|a, b| ranked[*b].total_cmp(&ranked[*a]));
        order.truncate(config.num_experts_per_tok);
        let sum: f32 = order.iter().map(|expert| scores[*expert]).sum();
        let norm = if config.norm_topk_prob {
            1.0 / sum.max(1e-20)
        } else {
            1.0
        };
        let factor = norm * config.routed_scaling_factor;
        order
            .into_iter()
            .map(|expert| (expert, scores[expert] * factor))
            .collect()
    }

    /// Leaves only the experts of the best groups to choose from.
    fn close_groups(&self, ranked: &mut [f32]) {
        let config = &self.config;
        if config.topk_group >= config.n_group {
            return;
        }
        let size = ranked.len() / config.n_group;
        let strength = |group: &[f32]| {
            let mut group = group.to_vec();
            group.sort_by(|a, b| b.total_cmp(a));
            group
                .iter()
                .take(if config.group_by_two { 2 } else { 1 })
                .sum::<f32>()
        };
        let strengths: Vec<f32> = ranked.chunks(size).map(strength).collect();
        let mut order: Vec<usize> = (0..strengths.len()).collect();
        order.sort_by(|a, b| strengths[*b].total_cmp(&strengths[*a]));
        for group in &order[config.topk_group..] {
            ranked[group * size..][..size].fill(f32::NEG_INFINITY);
        }
    }
}

fn softmax(logits: &[f32]) -> Vec<f32> {
    let largest = logits.iter().copied().fold(f32::NEG_INFINITY, f32::max);
    let mut weights: Vec<f32> = logits.iter().map(|logit| (logit - largest).exp()).collect();
    let sum: f32 = weights.iter().sum();
    weights.iter_mut().for_each(|weight| *weight /= sum);
    weights
}
