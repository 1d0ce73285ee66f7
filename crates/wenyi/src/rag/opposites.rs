//! Sentences of the same words that say the opposite.

use crate::retrieve::words::{runs, stem};

/// Words that exclude each other where they are said of the same.
const OPPOSITES: &[(&str, &str)] = &[
    ("open", "closed"),
    ("open", "close"),
    ("allowed", "forbidden"),
    ("allowed", "prohibited"),
    ("permitted", "forbidden"),
    ("permitted", "prohibited"),
    ("enabled", "disabled"),
    ("enable", "disable"),
    ("increase", "decrease"),
    ("accepted", "rejected"),
    ("accept", "reject"),
    ("minimum", "maximum"),
    ("least", "most"),
    ("required", "optional"),
    ("mandatory", "optional"),
    ("public", "private"),
    ("paid", "unpaid"),
    ("mutable", "immutable"),
    ("true", "false"),
];

/// The same in Chinese.
const CHINESE_OPPOSITES: &[(&str, &str)] = &[
    ("开放", "关闭"),
    ("开门", "关门"),
    ("开启", "关闭"),
    ("打开", "关闭"),
    ("营业", "休息"),
    ("允许", "禁止"),
    ("启用", "禁用"),
    ("增加", "减少"),
    ("接受", "拒绝"),
    ("最小", "最大"),
    ("最少", "最多"),
    ("至少", "至多"),
    ("至少", "最多"),
    ("必须", "可选"),
    ("公开", "私有"),
    ("可变", "不可变"),
];

/// True if the sentence denies something.
pub(super) fn is_negative(text: &str) -> bool {
    const ENGLISH: &[&str] = &[
        "not", "no", "never", "cannot", "without", "none", "neither", "nor", "aren", "isn",
        "doesn", "don", "didn", "won", "can't", "couldn", "shouldn", "wasn", "weren", "hasn",
        "haven",
    ];
    const CHINESE: &[&str] = &["不", "没", "无法", "未", "非", "禁止"];
    let lower = text.to_lowercase();
    let mut words = lower.split(|c: char| !c.is_alphanumeric());
    words.any(|word| ENGLISH.contains(&word))
        || lower.contains("can’t")
        || lower.contains("can't")
        || CHINESE.iter().any(|word| lower.contains(word))
}

/// True if one has a word whose opposite the other has, and neither has both.
pub(super) fn says_the_opposite(claim: &str, sentence: &str) -> bool {
    let words = |text: &str| -> Vec<String> {
        let latin = runs(text).filter(|run| !run.cjk);
        latin.map(|run| stem(&text[run.span])).collect()
    };
    let (claimed, said) = (words(claim), words(sentence));
    let english = OPPOSITES.iter().any(|(a, b)| {
        let (a, b) = (stem(a), stem(b));
        are_opposite(
            |word| claimed.contains(word),
            |word| said.contains(word),
            &a,
            &b,
        )
    });
    english
        || CHINESE_OPPOSITES.iter().any(|(a, b)| {
            // `不可变` has `可变` in it.
            let has = |text: &str, word: &str| match b.contains(a) && word == *a {
                true => text.replace(b, "").contains(a),
                false => text.contains(word),
            };
            are_opposite(
                |word: &str| has(claim, word),
                |word: &str| has(sentence, word),
                *a,
                *b,
            )
        })
}

fn are_opposite<W: ?Sized>(
    in_claim: impl Fn(&W) -> bool,
    in_sentence: impl Fn(&W) -> bool,
    a: &W,
    b: &W,
) -> bool {
    let claim = (in_claim(a), in_claim(b));
    let sentence = (in_sentence(a), in_sentence(b));
    matches!(
        (claim, sentence),
        ((true, false), (false, true)) | ((false, true), (true, false))
    )
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn opposites_are_told_from_the_same() {
        for (claim, sentence, expected) in [
            (
                "The office is closed on Sundays.",
                "The office is open on Sundays.",
                true,
            ),
            (
                "The office is closed on Sundays.",
                "On Sundays the office is closed.",
                false,
            ),
            (
                "It is open.",
                "It is open on Mondays and closed on Sundays.",
                false,
            ),
            (
                "The flag is enabled.",
                "The flag was disabled in 2.0.",
                true,
            ),
            ("办公室星期天关闭。", "办公室星期天开放。", true),
            ("引用默认可变。", "引用默认不可变。", true),
            ("引用默认不可变。", "引用默认是不可变的。", false),
            ("Nothing of the kind.", "Nothing else.", false),
        ] {
            assert_eq!(
                says_the_opposite(claim, sentence),
                expected,
                "{claim} {sentence}"
            );
        }
    }
}
