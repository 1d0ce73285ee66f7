//! What a model is shown of a conversation that has grown longer than it can read.

use super::{Message, MessageRole};
use crate::embed::{EmbedError, Embedder};

/// A question and what followed it, up to the next question.
#[derive(Clone, Debug, PartialEq)]
pub struct Turn {
    /// The question first.
    pub messages: Vec<Message>,
}

impl Turn {
    /// What was said, for an embedding model.
    #[must_use]
    pub fn text(&self) -> String {
        let texts: Vec<String> = self.messages.iter().map(Message::text).collect();
        texts.join("\n")
    }
}

/// The instructions of a conversation and its turns.
#[must_use]
pub fn turns(messages: &[Message]) -> (Vec<Message>, Vec<Turn>) {
    let (mut instructions, mut turns) = (Vec::new(), Vec::<Turn>::new());
    for message in messages {
        let is_instruction = matches!(message.role, MessageRole::System | MessageRole::Developer);
        match turns.last_mut() {
            _ if is_instruction => instructions.push(message.clone()),
            Some(turn) if message.role != MessageRole::User => turn.messages.push(message.clone()),
            _ => turns.push(Turn {
                messages: vec![message.clone()],
            }),
        }
    }
    (instructions, turns)
}

/// Looks up the vectors of turns.
pub trait TurnVectors {
    /// One vector for each of `turns`, of length 1.
    ///
    /// # Errors
    ///
    /// If the embedding model fails.
    fn of_turns(&mut self, turns: &[Turn]) -> Result<Vec<Vec<f32>>, EmbedError>;

    /// The vector of a question.
    ///
    /// # Errors
    ///
    /// As [`TurnVectors::of_turns`].
    fn of_question(&mut self, question: &str) -> Result<Vec<f32>, EmbedError>;
}

impl<E: Embedder + ?Sized> TurnVectors for &E {
    fn of_turns(&mut self, turns: &[Turn]) -> Result<Vec<Vec<f32>>, EmbedError> {
        let texts: Vec<String> = turns.iter().map(Turn::text).collect();
        let texts: Vec<&str> = texts.iter().map(String::as_str).collect();
        self.embed_documents(&texts)
    }

    fn of_question(&mut self, question: &str) -> Result<Vec<f32>, EmbedError> {
        self.embed_query(question)
    }
}

/// The conversation as far as it fits into `budget` tokens, counted by `count`: the instructions, the
/// latest turns, and of the earlier ones those that are nearest to `question` by meaning, all in their
/// order. The vectors are only asked for if something has to be left out.
///
/// # Errors
///
/// If the embedding model fails.
pub fn recall(
    messages: &[Message],
    question: &str,
    budget: usize,
    count: &dyn Fn(&str) -> usize,
    vectors: &mut dyn TurnVectors,
) -> Result<Vec<Message>, EmbedError> {
    let (instructions, turns) = turns(messages);
    /// What a template puts around a message, at most.
    const AROUND: usize = 8;
    let cost = |messages: &[Message]| -> usize {
        messages
            .iter()
            .map(|message| count(&message.text()) + AROUND)
            .sum()
    };
    let costs: Vec<usize> = turns.iter().map(|turn| cost(&turn.messages)).collect();
    let room = budget.saturating_sub(cost(&instructions) + count(question) + AROUND);
    if costs.iter().sum::<usize>() <= room {
        return Ok(messages.to_vec());
    }
    // Half of the room for what was said last, which questions lean on most.
    let mut left = room;
    let mut first_recent = turns.len();
    while first_recent > 0 && costs[first_recent - 1] <= left.saturating_sub(room / 2) {
        first_recent -= 1;
        left -= costs[first_recent];
    }
    let earlier = &turns[..first_recent];
    let mut chosen: Vec<usize> = nearest(earlier, question, vectors)?
        .into_iter()
        .filter(|index| {
            let fits = costs[*index] <= left;
            left -= if fits { costs[*index] } else { 0 };
            fits
        })
        .collect();
    chosen.sort_unstable();
    let recalled = chosen.iter().map(|index| &earlier[*index]);
    let shown = recalled.chain(&turns[first_recent..]);
    let shown = shown.flat_map(|turn| turn.messages.clone());
    Ok(instructions.into_iter().chain(shown).collect())
}

/// Turns by their nearness to the question, nearest first.
fn nearest(
    turns: &[Turn],
    question: &str,
    vectors: &mut dyn TurnVectors,
) -> Result<Vec<usize>, EmbedError> {
    if turns.is_empty() {
        return Ok(Vec::new());
    }
    let asked = vectors.of_question(question)?;
    let scores: Vec<f32> = (vectors.of_turns(turns)?.iter())
        .map(|vector| vector.iter().zip(&asked).map(|(a, b)| a * b).sum())
        .collect();
    let mut order: Vec<usize> = (0..turns.len()).collect();
    order.sort_by(|a, b| scores[*b].total_cmp(&scores[*a]));
    Ok(order)
}

#[cfg(test)]
mod tests {
    use super::*;

    /// A vector of two letters' shares.
    struct Letters(usize);

    fn vector(text: &str) -> Vec<f32> {
        ['x', '猫']
            .map(|letter| text.matches(letter).count() as f32)
            .to_vec()
    }

    impl TurnVectors for Letters {
        fn of_turns(&mut self, turns: &[Turn]) -> Result<Vec<Vec<f32>>, EmbedError> {
            self.0 += 1;
            Ok(turns.iter().map(|turn| vector(&turn.text())).collect())
        }

        fn of_question(&mut self, question: &str) -> Result<Vec<f32>, EmbedError> {
            Ok(vector(question))
        }
    }

    fn conversation() -> Vec<Message> {
        let mut messages = vec![Message::system("Be brief.")];
        for (question, answer) in [
            ("What is x x?", "x"),
            ("猫叫什么？", "猫叫小白。"),
            ("Weather?", "Rain."),
            ("And now?", "Sun."),
        ] {
            messages.extend([Message::user(question), Message::assistant(answer)]);
        }
        messages
    }

    fn count(text: &str) -> usize {
        text.chars().count()
    }

    #[test]
    fn what_fits_is_left_as_it_is() {
        let mut vectors = Letters(0);
        let all = recall(&conversation(), "?", 1000, &count, &mut vectors).unwrap();
        assert_eq!(all, conversation());
        assert_eq!(vectors.0, 0);
    }

    #[test]
    fn earlier_turns_that_matter_come_back_in_their_order() {
        let budget = 99;
        let told = |question: &str| {
            let shown = recall(&conversation(), question, budget, &count, &mut Letters(0)).unwrap();
            let cost: usize = shown.iter().map(|message| count(&message.text()) + 8).sum();
            assert!(cost + count(question) + 8 <= budget, "{cost}");
            let texts = shown.iter().map(Message::text);
            texts.collect::<Vec<_>>()
        };
        let about_cats = told("我的猫？");
        assert_eq!(
            about_cats,
            ["Be brief.", "猫叫什么？", "猫叫小白。", "And now?", "Sun."]
        );
        let about_x = told("x again");
        assert_eq!(
            about_x,
            ["Be brief.", "What is x x?", "x", "And now?", "Sun."]
        );
    }

    #[test]
    fn a_budget_too_small_for_anything_keeps_the_instructions() {
        let shown = recall(&conversation(), "?", 5, &count, &mut Letters(0)).unwrap();
        assert_eq!(shown, [Message::system("Be brief.")]);
    }
}
