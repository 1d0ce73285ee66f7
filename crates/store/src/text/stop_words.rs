//! Words that join others and tell nothing of their own.

/// English ones. They stay in the index (`the who` can be asked for); a query with other words
/// goes without them, which saves reading their long lists.
const ENGLISH: &[&str] = &[
    "a", "about", "an", "and", "any", "are", "as", "at", "be", "been", "but", "by", "can", "could",
    "did", "do", "does", "for", "from", "had", "has", "have", "how", "i", "if", "in", "into", "is",
    "it", "its", "me", "my", "of", "on", "or", "our", "should", "so", "than", "that", "the",
    "their", "them", "then", "there", "these", "they", "this", "those", "to", "was", "we", "were",
    "what", "when", "where", "which", "who", "why", "will", "with", "would", "you", "your",
];

/// Chinese characters that join words or ask.
const CHINESE: &str = "的了在是和与及或吗呢吧啊把被让对从到也都就还很这那着为什么怎样如何哪些个";

/// True for a word that tells nothing beside others.
pub(super) fn is_stop_word(word: &str) -> bool {
    ENGLISH.contains(&word.to_lowercase().as_str())
}

/// True for a pair of characters that both join or ask.
pub(super) fn is_stop_pair(pair: &str) -> bool {
    pair.chars().all(|character| CHINESE.contains(character))
}
