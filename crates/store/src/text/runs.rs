//! Cuts a text where its script changes.

/// How a run is made into terms.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Script {
    /// Letters and digits of scripts that separate words; `_` and the marks inside of identifiers.
    Letters,
    /// Characters of scripts that do not: Chinese, Japanese, Thai.
    Ideographs,
}

/// A part of a text in one script.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Run<'a> {
    pub(super) text: &'a str,
    pub(super) script: Script,
}

/// The runs of `text` in order; what is between them (spaces, punctuation) is left out.
pub(super) fn runs(text: &str) -> impl Iterator<Item = Run<'_>> {
    let mut rest = text;
    std::iter::from_fn(move || {
        let start = rest.find(|c| script(c).is_some())?;
        rest = &rest[start..];
        let script = script(rest.chars().next()?)?;
        let end = match script {
            Script::Ideographs => end_of_ideographs(rest),
            Script::Letters => end_of_letters(rest),
        };
        let (text, behind) = rest.split_at(end);
        rest = behind;
        Some(Run { text, script })
    })
}

fn end_of_ideographs(text: &str) -> usize {
    text.find(|c| script(c) != Some(Script::Ideographs))
        .unwrap_or(text.len())
}

/// Letters go on over a connector (`.`, `-`, `::`) that has a letter on both sides.
fn end_of_letters(text: &str) -> usize {
    let mut end = 0;
    loop {
        let rest = &text[end..];
        end += rest
            .find(|c| script(c) != Some(Script::Letters))
            .unwrap_or(rest.len());
        let rest = &text[end..];
        let connector = ["::", ".", "-", "'", "’"]
            .into_iter()
            .find(|connector| rest.starts_with(connector));
        let Some(connector) = connector else {
            return end;
        };
        let next = rest[connector.len()..].chars().next();
        if next.and_then(script) != Some(Script::Letters) {
            return end;
        }
        end += connector.len();
    }
}

fn script(c: char) -> Option<Script> {
    if is_ideograph(c) {
        Some(Script::Ideographs)
    } else if c.is_alphanumeric() || c == '_' {
        Some(Script::Letters)
    } else {
        None
    }
}

/// Han, kana, Bopomofo, and the scripts of south-east Asia that are written without spaces too.
fn is_ideograph(c: char) -> bool {
    c.is_alphanumeric()
        && matches!(c,
            '\u{2e80}'..='\u{2fdf}' | '\u{3005}'..='\u{3007}' | '\u{3040}'..='\u{312f}'
            | '\u{31a0}'..='\u{31ff}' | '\u{3400}'..='\u{9fff}' | '\u{f900}'..='\u{faff}'
            | '\u{20000}'..='\u{3ffff}' | '\u{0e00}'..='\u{0eff}' | '\u{1000}'..='\u{109f}'
            | '\u{1780}'..='\u{17ff}')
}
