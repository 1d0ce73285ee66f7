//! How well questions are answered from documents: is the right file found, do the quotes hold what
//! answers, and is a question without an answer told from one that has one?

use std::fs;
use std::path::Path;

use serde::{Deserialize, Serialize};

use crate::rag::{Answer, AnsweredBy, Evidence, Rag, RagError, RagQuestion, Support};
use crate::retrieve::{Error, ErrorKind, Result};

/// A question with what should be found for it: a line of a `.jsonl` file.
#[derive(Clone, Debug, PartialEq, Eq, Deserialize)]
pub struct JudgedQuestion {
    /// Its name.
    pub id: String,
    /// The question.
    pub question: String,
    /// Ends of the paths of files that answer it, any of which will do.
    #[serde(default)]
    pub sources: Vec<String>,
    /// What must stand in the quotes, letter by letter but for white space, all of it.
    #[serde(default)]
    pub evidence: Vec<String>,
    /// False if the documents do not answer it.
    #[serde(default = "yes")]
    pub answerable: bool,
}

fn yes() -> bool {
    true
}

/// Reads questions, one JSON object a line.
///
/// # Errors
///
/// If the file cannot be read, a line cannot be understood, or there is none.
pub fn judged_questions(path: &Path) -> Result<Vec<JudgedQuestion>> {
    let text = fs::read_to_string(path).map_err(|source| Error::io(path, source))?;
    let refused = |reason| ErrorKind::JudgedSet {
        path: path.to_owned(),
        reason,
    };
    let lines = (1..).zip(text.lines());
    let lines = lines.filter(|(_, line)| !line.trim().is_empty());
    let questions = lines.map(|(number, line)| {
        serde_json::from_str(line).map_err(|error| refused(format!("line {number}: {error}")))
    });
    let questions: Vec<JudgedQuestion> = questions.collect::<Result<_, _>>()?;
    match questions.is_empty() {
        true => Err(refused("no questions".into()).into()),
        false => Ok(questions),
    }
}

/// What one question got.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct QuestionResult {
    /// The question's name.
    pub id: String,
    /// Whether the documents answer it.
    pub answerable: bool,
    /// Whether they were judged to.
    pub support: Support,
    /// See [`Evidence::coverage`].
    pub coverage: Option<f32>,
    /// See [`Evidence::margin`].
    pub margin: f32,
    /// A right file is among the passages.
    pub is_file_found: bool,
    /// All that answers stands in the quotes.
    pub is_quoted: bool,
    /// All that answers stands in the passages.
    pub is_retrieved: bool,
    /// Characters of all quotes.
    pub quoted_characters: usize,
    /// Seconds until the evidence was there.
    pub seconds: f64,
    /// The answer, if one was wanted: whether the evidence stands in it, and who phrased it.
    pub answer: Option<AnswerResult>,
}

/// What an answer is worth.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct AnswerResult {
    /// Who phrased it.
    pub answered_by: AnsweredBy,
    /// How far the passages carry it.
    pub support: Support,
    /// The answer.
    pub text: String,
    /// Claims left out.
    pub num_left_out: usize,
}

/// Asks each of `questions`; `with_answers` lets the model phrase answers, too.
///
/// # Errors
///
/// As [`Rag::ask`].
pub fn evaluate(
    rag: &Rag,
    questions: &[JudgedQuestion],
    with_answers: bool,
) -> Result<Vec<QuestionResult>, RagError> {
    let ask = |judged: &JudgedQuestion| {
        let evidence = rag.evidence(&RagQuestion::from(judged.question.as_str()))?;
        let mut result = result(judged, &evidence);
        if with_answers {
            let goes_on = |_: crate::rag::RagEvent<'_>| std::ops::ControlFlow::Continue(());
            result.answer = Some(rag.answer(evidence, &mut { goes_on })?.into());
        }
        Ok(result)
    };
    questions.iter().map(ask).collect()
}

impl From<Answer> for AnswerResult {
    fn from(answer: Answer) -> Self {
        Self {
            answered_by: answer.answered_by,
            support: answer.support,
            text: answer.text,
            num_left_out: answer.num_left_out,
        }
    }
}

fn result(judged: &JudgedQuestion, evidence: &Evidence) -> QuestionResult {
    let quotes: Vec<&str> = evidence.quotes.iter().map(|quote| &*quote.text).collect();
    let passages = evidence.passages.iter();
    let texts: Vec<&str> = passages.clone().map(|passage| &*passage.text).collect();
    let stands_in = |texts: &[&str]| {
        let texts: Vec<String> = texts.iter().map(|text| on_one_line(text)).collect();
        let stands = |wanted: &String| {
            let wanted = on_one_line(wanted);
            texts.iter().any(|text| text.contains(&wanted))
        };
        judged.evidence.iter().all(stands)
    };
    QuestionResult {
        id: judged.id.clone(),
        answerable: judged.answerable,
        support: evidence.support,
        coverage: evidence.coverage,
        margin: evidence.margin,
        is_file_found: passages.clone().any(|passage| {
            let ends = |source: &String| passage.path.ends_with(source);
            judged.sources.iter().any(ends)
        }),
        is_quoted: stands_in(&quotes),
        is_retrieved: stands_in(&texts),
        quoted_characters: quotes.iter().map(|text| text.chars().count()).sum(),
        seconds: evidence.seconds,
        answer: None,
    }
}

/// The text with single blanks for all white space: where a line ends says nothing.
fn on_one_line(text: &str) -> String {
    text.split_whitespace().collect::<Vec<_>>().join(" ")
}

/// The figures over all questions.
#[derive(Clone, Debug, Default, PartialEq, Serialize)]
pub struct QaSummary {
    /// Questions that the documents answer.
    pub answerable: usize,
    /// Of these: a right file was among the passages.
    pub files_found: usize,
    /// Of these: all that answers stood in the passages.
    pub retrieved: usize,
    /// Of these: all that answers stood in the quotes.
    pub quoted: usize,
    /// Of these: judged `strong`, `weak` and `none`.
    pub judged_answerable: [usize; 3],
    /// Questions that the documents do not answer.
    pub unanswerable: usize,
    /// Of these: judged `strong`, `weak` and `none`.
    pub judged_unanswerable: [usize; 3],
    /// Characters quoted for an answerable question, on average.
    pub quoted_characters: usize,
}

impl QaSummary {
    /// The figures of `results`.
    #[must_use]
    pub fn of(results: &[QuestionResult]) -> Self {
        let mut summary = Self::default();
        for result in results {
            let place = match result.support {
                Support::Strong => 0,
                Support::Weak => 1,
                Support::None => 2,
            };
            if !result.answerable {
                summary.unanswerable += 1;
                summary.judged_unanswerable[place] += 1;
                continue;
            }
            summary.answerable += 1;
            summary.judged_answerable[place] += 1;
            summary.files_found += usize::from(result.is_file_found);
            summary.retrieved += usize::from(result.is_retrieved);
            summary.quoted += usize::from(result.is_quoted);
            summary.quoted_characters += result.quoted_characters;
        }
        summary.quoted_characters /= summary.answerable.max(1);
        summary
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn lines_that_are_no_questions_are_named() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("qa.jsonl");
        let line = r#"{"id": "1", "question": "Which port?", "evidence": ["8000"]}"#;
        fs::write(&path, format!("{line}\n\n")).unwrap();
        let questions = judged_questions(&path).unwrap();
        assert!(questions[0].answerable);
        assert_eq!(questions[0].evidence, ["8000"]);
        fs::write(&path, format!("{line}\n{{\"id\": 1}}\n")).unwrap();
        let error = judged_questions(&path).unwrap_err();
        assert!(error.to_string().contains("line 2"), "{error}");
        fs::write(&path, "").unwrap();
        assert!(judged_questions(&path).unwrap_err().is_user_error());
    }
}
