//! A follow-up to a question that stands alone: passages are looked up without the conversation.

use super::language::Language;
use super::prompt::harmless;
use crate::chat::{ChatError, ChatModel, ChatOptions, ChatRequest, Message, MessageRole};
use crate::retrieve::words::Words;

/// How a follow-up becomes a question that stands alone.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum FollowUp {
    /// The last questions are put before it: for small models, and without one.
    #[default]
    RecentTurns,
    /// The chat model says it anew.
    Rewrite,
    /// It is looked up as it is.
    AsItIs,
}

/// Turns of the conversation that a follow-up may refer to.
const TURNS: usize = 3;

/// Characters of a turn that the model reads to say a question anew.
const TURN_LENGTH: usize = 600;

/// What the person said last, oldest first.
fn questions(history: &[Message]) -> Vec<String> {
    let said = history
        .iter()
        .filter(|message| message.role == MessageRole::User);
    let mut last: Vec<String> = said.rev().map(Message::text).take(TURNS).collect();
    last.reverse();
    last
}

/// True if `question` points at something that it does not name, or names hardly anything.
pub(super) fn leans_on_what_was_said(question: &str) -> bool {
    const ENGLISH: &[&str] = &[
        "it", "its", "they", "them", "their", "this", "that", "these", "those", "he", "she", "him",
        "her", "one", "ones", "there", "then", "also", "else", "instead", "same",
    ];
    const BEGINNINGS: &[&str] = &[
        "and ",
        "but ",
        "or ",
        "what about",
        "how about",
        "why?",
        "why not",
    ];
    const CHINESE: &[&str] = &[
        "它",
        "他",
        "她",
        "这个",
        "那个",
        "这些",
        "那些",
        "这样",
        "那样",
        "其",
        "此",
        "上述",
        "前者",
        "后者",
        "还有呢",
        "那么",
        "呢？",
        "呢?",
    ];
    let lower = question.trim().to_lowercase();
    let mut words = lower.split(|c: char| !c.is_alphanumeric());
    words.any(|word| ENGLISH.contains(&word))
        || BEGINNINGS
            .iter()
            .any(|beginning| lower.starts_with(beginning))
        || CHINESE.iter().any(|word| lower.contains(word))
        || Words::of(question).is_empty()
}

/// The last questions and this one, as one text to look up.
pub(super) fn with_recent_turns(history: &[Message], question: &str) -> String {
    // The one before is what is mostly meant; older ones lead away.
    match questions(history).pop() {
        Some(before) => format!("{} {question}", before.trim()),
        None => question.to_owned(),
    }
}

/// The question as `chat` says it anew so that it stands alone.
pub(super) fn rewritten(
    chat: &dyn ChatModel,
    history: &[Message],
    question: &str,
) -> Result<String, ChatError> {
    let language = Language::of(question);
    let instruction = match language {
        Language::English => {
            "Rewrite the last question of the conversation so that it can be understood without \
             the conversation: put the names in place of `it`, `that` and the like. Reply with the \
             question alone, in its own language. Do not answer it."
        }
        Language::Chinese => {
            "请改写对话中的最后一个问题，使其脱离对话也能看懂：用具体名称代替“它”“那个”等。\
             只回复改写后的问题，不要回答。"
        }
    };
    let mut conversation = String::new();
    let spoken = history
        .iter()
        .filter(|message| matches!(message.role, MessageRole::User | MessageRole::Assistant));
    let spoken: Vec<&Message> = spoken.collect();
    for message in &spoken[spoken.len().saturating_sub(2 * TURNS)..] {
        let who = if message.role == MessageRole::User {
            "User"
        } else {
            "Assistant"
        };
        let said: String = message.text().chars().take(TURN_LENGTH).collect();
        conversation.push_str(&format!("{who}: {}\n", harmless(said.trim())));
    }
    conversation.push_str(&format!("User: {}", harmless(question)));
    let request = ChatRequest {
        messages: vec![Message::system(instruction), Message::user(conversation)],
        options: ChatOptions {
            temperature: Some(0.0),
            max_tokens: Some(128),
            ..ChatOptions::default()
        },
        ..ChatRequest::default()
    };
    let reply = chat.invoke(&request)?.text();
    let said = reply.trim().trim_start_matches("User:").trim();
    let line = said.lines().next().unwrap_or_default().trim();
    let said = line.trim_matches(['"', '“', '”']).trim();
    // A model that says nothing, or goes on talking, has not understood what it was to do.
    let longest = 4 * question.chars().count() + 200;
    Ok(match said.chars().count() {
        0 => with_recent_turns(history, question),
        length if length > longest => with_recent_turns(history, question),
        _ => said.to_owned(),
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn follow_ups_are_told_from_questions() {
        for question in [
            "Why is it so big?",
            "And on Windows?",
            "它有多大？",
            "那 Windows 上呢？",
            "Why?",
        ] {
            assert!(leans_on_what_was_said(question), "{question}");
        }
        for question in ["How big is a char in Rust?", "Rust 的字符有多大？"] {
            assert!(!leans_on_what_was_said(question), "{question}");
        }
    }

    #[test]
    fn the_question_before_is_put_before() {
        let history = [
            Message::user("How big is a char?"),
            Message::assistant("Four bytes."),
        ];
        let whole = with_recent_turns(&history, "And what does it represent?");
        assert_eq!(whole, "How big is a char? And what does it represent?");
        assert_eq!(with_recent_turns(&[], "Why?"), "Why?");
    }
}
