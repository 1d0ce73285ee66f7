//! The language of a question, as far as an answer's own words depend on it.

/// What to answer in.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Language {
    /// And every language that is not told apart.
    English,
    /// A question with any ideograph.
    Chinese,
}

impl Language {
    /// The language of `question`.
    #[must_use]
    pub fn of(question: &str) -> Self {
        let is_han = |c: char| matches!(c, '\u{3400}'..='\u{9fff}' | '\u{20000}'..='\u{3ffff}');
        if question.contains(is_han) {
            Self::Chinese
        } else {
            Self::English
        }
    }

    /// Its code, as the catalog of models has it.
    #[must_use]
    pub fn code(self) -> &'static str {
        match self {
            Self::English => "en",
            Self::Chinese => "zh",
        }
    }

    /// What is said when the documents do not answer.
    #[must_use]
    pub fn not_in_these_documents(self) -> &'static str {
        match self {
            Self::English => "not in these documents",
            Self::Chinese => "这些文档中没有答案",
        }
    }
}
