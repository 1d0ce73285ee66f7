//! Words and identifiers: one run of letters to its terms.

use rust_stemmers::Stemmer;

use super::MAX_TERM;

/// Appends the terms of a run: the run as it is written if it is more than a plain word, then the
/// words in it.
pub(super) fn terms(stemmer: &Stemmer, run: &str, terms: &mut Vec<String>) {
    let run = run.trim_matches('_');
    let words: Vec<&str> = run
        .split(|c: char| !c.is_alphanumeric())
        .filter(|word| !word.is_empty())
        .collect();
    let has_apostrophe = run.contains(['\'', '’']);
    let is_possessive = words.len() == 2 && has_apostrophe && words[1].len() <= 2;
    if words.len() > 1 && !has_apostrophe {
        push(folded(run), terms);
    }
    let words = if is_possessive { &words[..1] } else { &words };
    for word in words {
        let humps = humps(word);
        if humps.len() > 1 {
            push(folded(word), terms);
        }
        for hump in humps {
            push(stem(stemmer, &folded(hump)), terms);
        }
    }
}

fn push(term: String, terms: &mut Vec<String>) {
    if !term.is_empty() && term.len() <= MAX_TERM {
        terms.push(term);
    }
}

/// Lower case, with full-width letters and digits (`ＡＢＣ１`) as the usual ones.
fn folded(word: &str) -> String {
    let narrow = |c: char| match c {
        '\u{ff01}'..='\u{ff5e}' => char::from_u32(u32::from(c) - 0xfee0).unwrap_or(c),
        other => other,
    };
    word.chars()
        .map(narrow)
        .flat_map(char::to_lowercase)
        .collect()
}

/// English words of letters alone are stemmed; what has a digit is a code and stays as it is.
fn stem(stemmer: &Stemmer, word: &str) -> String {
    if word.bytes().all(|byte| byte.is_ascii_lowercase()) {
        stemmer.stem(word).into_owned()
    } else {
        word.to_owned()
    }
}

/// `HashMap` to `Hash`, `Map`; `HTTPServer` to `HTTP`, `Server`. A word without a hump is one.
fn humps(word: &str) -> Vec<&str> {
    let characters: Vec<(usize, char)> = word.char_indices().collect();
    let mut humps = Vec::new();
    let mut start = 0;
    for (index, pair) in characters.windows(2).enumerate() {
        let ((at, before), (next_at, next)) = (pair[0], pair[1]);
        let cut = if before.is_lowercase() && next.is_uppercase() {
            Some(next_at)
        } else if index > 0 && characters[index - 1].1.is_uppercase() && before.is_uppercase() {
            next.is_lowercase().then_some(at)
        } else {
            None
        };
        if let Some(cut) = cut.filter(|cut| *cut > start) {
            humps.push(&word[start..cut]);
            start = cut;
        }
    }
    humps.push(&word[start..]);
    humps
}
