//! From texts to windows of token ids, and from windows to batches.

use super::options::{Overflow, TokenUsage};
use crate::tokenizer::Tokenizer;
use crate::{ErrorKind, Result};

/// One pass of a text, or of a part of it, through the model.
#[derive(Debug)]
pub struct Window {
    pub(super) input_ids: Vec<u32>,
    /// Empty if all are 0.
    pub(super) token_type_ids: Vec<u8>,
}

impl Window {
    /// Tokens that pass through the model.
    #[must_use]
    pub fn tokens(&self) -> usize {
        self.input_ids.len()
    }
}

/// A tokenized text: its windows and what became of its tokens.
#[derive(Debug)]
pub struct Planned {
    /// At least one.
    pub windows: Vec<Window>,
    /// What became of its tokens.
    pub usage: TokenUsage,
}

/// Tokenizes `prompt + text` and applies the overflow policy.
pub(super) fn plan(
    tokenizer: &Tokenizer,
    prompt: &str,
    (index, text): (usize, &str),
    max_length: usize,
    overflow: Overflow,
) -> Result<Planned> {
    let ids = if prompt.is_empty() {
        tokenizer.encode(text)?
    } else {
        tokenizer.encode(&format!("{prompt}{text}"))?
    };
    let specials = tokenizer.prefix().len() + tokenizer.suffix().len();
    let seen = ids.len() + specials;
    let window = |input_ids| Window {
        input_ids,
        token_type_ids: Vec::new(),
    };
    if seen <= max_length {
        let windows = vec![window(tokenizer.assemble(&ids, max_length))];
        return Ok(Planned {
            windows,
            usage: TokenUsage {
                seen,
                kept: seen,
                windows: 1,
            },
        });
    }
    match overflow {
        Overflow::Error => Err(ErrorKind::TooLong {
            index,
            tokens: seen,
            max_length,
        }
        .into()),
        Overflow::Truncate => {
            let windows = vec![window(tokenizer.assemble(&ids, max_length))];
            let usage = TokenUsage {
                seen,
                kept: max_length,
                windows: 1,
            };
            Ok(Planned { windows, usage })
        }
        Overflow::SplitMean => {
            let prompt = common_start(&tokenizer.encode(prompt)?, &ids);
            let windows = split(&ids, prompt, max_length - specials);
            let windows: Vec<_> = windows
                .map(|ids| window(tokenizer.assemble(&ids, max_length)))
                .collect();
            let usage = TokenUsage {
                seen,
                kept: seen,
                windows: windows.len(),
            };
            Ok(Planned { windows, usage })
        }
    }
}

/// How many ids both begin with.
fn common_start(prompt: &[u32], ids: &[u32]) -> usize {
    prompt.iter().zip(ids).take_while(|(a, b)| a == b).count()
}

/// Windows of nearly equal length, each behind the first `prompt` ids.
fn split(ids: &[u32], prompt: usize, room: usize) -> impl Iterator<Item = Vec<u32>> {
    // A prompt that fills the window would leave no room for the text.
    let prompt = if prompt * 2 < room { prompt } else { 0 };
    let (prompt, content) = ids.split_at(prompt);
    let count = content.len().div_ceil(room - prompt.len());
    (0..count).map(move |index| {
        let border = |index: usize| content.len() * index / count;
        [prompt, &content[border(index)..border(index + 1)]].concat()
    })
}

/// Windows that run through the model together, as indices into the windows.
pub(super) fn batches(windows: &[Window], budget: usize) -> Vec<Vec<usize>> {
    let mut order: Vec<_> = (0..windows.len()).collect();
    // Longest first, so that no long text is left for the end; stable, so that runs repeat.
    order.sort_by_key(|index| std::cmp::Reverse(windows[*index].input_ids.len()));
    let mut batches = Vec::new();
    let (mut batch, mut tokens) = (Vec::new(), 0);
    for index in order {
        let length = windows[index].input_ids.len();
        if !batch.is_empty() && tokens + length > budget {
            batches.push(std::mem::take(&mut batch));
            tokens = 0;
        }
        batch.push(index);
        tokens += length;
    }
    if !batch.is_empty() {
        batches.push(batch);
    }
    batches
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn windows_keep_every_token_and_the_prompt() {
        let ids: Vec<u32> = (0..100).collect();
        let windows: Vec<_> = split(&ids, 3, 20).collect();
        assert_eq!(windows.len(), 6);
        assert!(
            windows
                .iter()
                .all(|window| window.len() <= 20 && window[..3] == [0, 1, 2])
        );
        let joined: Vec<u32> = windows
            .iter()
            .flat_map(|window| window[3..].to_vec())
            .collect();
        assert_eq!(joined, ids[3..]);
    }

    #[test]
    fn batches_hold_every_window_once_within_the_budget() {
        let lengths = [5, 90, 17, 3, 64, 64, 200, 1];
        let window = |length| Window {
            input_ids: vec![0; length],
            token_type_ids: Vec::new(),
        };
        let windows: Vec<_> = lengths.map(window).into();
        let batches = batches(&windows, 100);
        let mut all: Vec<_> = batches.concat();
        all.sort_unstable();
        assert_eq!(all, (0..lengths.len()).collect::<Vec<_>>());
        for batch in batches {
            let tokens: usize = batch.iter().map(|index| lengths[*index]).sum();
            assert!(tokens <= 100 || batch.len() == 1);
        }
    }
}
