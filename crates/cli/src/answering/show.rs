//! Evidence and answer as people read them.

use wenyi::chat::FinishReason;
use wenyi::rag::{Answer, AnsweredBy, Claim, Evidence, Language, Quote, Support};

use crate::output;
use crate::output::flow::Flow;
use crate::output::place::place;
use crate::output::printable::printable;
use crate::output::style::Style;
use crate::output::wrap::wrap;

/// Prints in the question's language: whoever asks in Chinese is told in Chinese.
#[derive(Clone, Copy)]
pub(crate) struct Show {
    style: Style,
    language: Language,
}

impl Show {
    pub(crate) fn new(style: Style, language: Language) -> Self {
        Self { style, language }
    }

    /// The quotes with their places, or that there are none.
    pub(crate) fn evidence(self, found: &Evidence) -> String {
        let mut text = String::new();
        match found.support {
            Support::None => text.push_str(&self.not_in_these_documents(found)),
            Support::Weak => {
                let line = self.say(
                    "the documents may not answer this; the nearest sentences:",
                    "文档可能没有回答这个问题；最接近的句子：",
                );
                text.push_str(&format!("{}\n\n", self.style.dim(line)));
            }
            Support::Strong => {}
        }
        for quote in &found.quotes {
            text.push_str(&self.quoted(quote));
        }
        text
    }

    fn quoted(self, quote: &Quote) -> String {
        let mut text = String::new();
        let mark = format!("[{}] ", quote.number);
        let width = output::width() - mark.len();
        for (index, line) in wrap(&quote.text, width).into_iter().enumerate() {
            let lead = if index == 0 {
                self.style.bold(&mark)
            } else {
                " ".repeat(mark.len())
            };
            let line = format!("{lead}{}", printable(&quote.text[line]));
            text.push_str(&format!("{}\n", line.trim_end()));
        }
        let lines = (quote.first_line, quote.last_line);
        let place = place(&quote.path, quote.location.as_ref(), lines);
        let lead = " ".repeat(mark.len());
        let headings = match quote.heading_path.join(" › ") {
            headings if headings.is_empty() => headings,
            headings => self.style.dim(&format!("  {}", printable(&headings))),
        };
        text.push_str(&format!(
            "{lead}{}{headings}\n\n",
            self.style.accent(&place)
        ));
        text
    }

    fn not_in_these_documents(self, found: &Evidence) -> String {
        let line = self.language.not_in_these_documents();
        let mut text = format!("{}\n", self.style.bold(line));
        if let Some(nearest) = found.passages.first() {
            let lines = (nearest.first_line, nearest.last_line);
            let nearest = place(&nearest.path, nearest.location.as_ref(), lines);
            let line = self.say("nearest passage:", "最接近的段落：");
            let line = self.style.dim(line);
            text.push_str(&format!("{line} {}\n", self.style.accent(&nearest)));
        }
        text
    }

    /// The next part of the answer, as far as it can be printed; what the passages do not support is
    /// marked.
    pub(crate) fn text(self, text: &str, claim: Option<&Claim>, flow: &mut Flow) -> String {
        const MARK: &str = "[?]";
        let mut ready = flow.push(&printable(text));
        if claim.is_some_and(|claim| claim.support == Support::None) {
            ready.push_str(&flow.push(" "));
            ready.push_str(&flow.painted(MARK, &self.style.error(MARK)));
        }
        ready
    }

    /// What is to be known of an answer, behind it.
    pub(crate) fn end(self, answer: &Answer) -> String {
        let mut lines = Vec::new();
        let is_unsupported = |claim: &Claim| claim.support == Support::None;
        if answer.answered_by == AnsweredBy::Model && answer.support == Support::None {
            lines.push(self.say(
                "the documents do not support this answer",
                "文档不支持这个回答",
            ));
        } else if answer.claims.iter().any(is_unsupported) {
            lines.push(self.say("[?] is not in the passages", "[?] 表示段落中没有依据"));
        }
        if answer.num_left_out > 0 {
            lines.push(match answer.answered_by {
                AnsweredBy::Model => self.say(
                    "the model said more, which the documents do not support; it is left out",
                    "模型还说了文档不支持的内容，已省略",
                ),
                _ => self.say(
                    "the documents do not support what the model said; the quotes above are the answer",
                    "文档不支持模型的回答；以上是文档的原文",
                ),
            });
        }
        if answer.answered_by == AnsweredBy::Quotes && lines.is_empty() {
            lines.push(self.say(
                "the model gave no answer of its own; the quotes above are the answer",
                "模型没有给出自己的回答；以上是文档的原文",
            ));
        }
        if answer.finish_reason == Some(FinishReason::Repetition) {
            lines.push(self.repeats());
        }
        let lines: Vec<String> = lines.into_iter().map(|line| self.style.dim(line)).collect();
        match lines.is_empty() {
            true => "\n".into(),
            false if answer.answered_by == AnsweredBy::Quotes => format!("{}\n", lines.join("\n")),
            false => format!("\n\n{}\n", lines.join("\n")),
        }
    }

    /// Why an answer ends where it does.
    pub(crate) fn repeats(self) -> &'static str {
        self.say(
            "the model only repeated itself from here on; the answer was ended",
            "模型从这里开始只是重复自己的话，回答到此为止",
        )
    }

    /// Why an answer ends in the middle.
    pub(crate) fn cut_off(self) -> &'static str {
        self.say(
            "the conversation is as long as it can be, and the answer cut off; --context makes room, /clear begins anew",
            "对话已达到最大长度，回答被截断；--context 可以放宽，/clear 重新开始",
        )
    }

    /// What a follow-up was taken to mean.
    pub(crate) fn looked_up(self, question: &str) -> String {
        let question = printable(question);
        format!("{} {question}", self.say("looked up:", "查找："))
    }

    /// Why no model phrases the answer.
    pub(crate) fn no_model(self, name: &str) -> String {
        match self.language {
            Language::English => {
                format!(
                    "`{name}` does not speak English: `--model` names one that phrases an answer"
                )
            }
            Language::Chinese => {
                format!("`{name}` 不会中文：用 `--model` 指定能组织回答的模型")
            }
        }
    }

    fn say(self, english: &'static str, chinese: &'static str) -> &'static str {
        match self.language {
            Language::English => english,
            Language::Chinese => chinese,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn controls_in_a_models_words_are_not_obeyed() {
        let show = Show::new(Style::PLAIN, Language::English);
        let text = show.text("It is \u{1b}[2Jred.", None, &mut Flow::new(None));
        assert_eq!(text, "It is ␛[2Jred.");
        assert_eq!(show.looked_up("a\u{7}b"), "looked up: a␇b");
    }

    #[test]
    fn a_model_that_says_nothing_of_its_own_is_mentioned() {
        let evidence = Evidence {
            question: "谁保管钥匙？".into(),
            model: "m".into(),
            support: Support::Strong,
            coverage: None,
            margin: 1.0,
            quotes: Vec::new(),
            passages: Vec::new(),
            seconds: 0.0,
        };
        let answer = Answer {
            question: evidence.question.clone(),
            text: String::new(),
            answered_by: AnsweredBy::Quotes,
            support: Support::Strong,
            claims: Vec::new(),
            num_left_out: 0,
            evidence,
            model: Some("qwen".into()),
            finish_reason: None,
            usage: None,
        };
        let show = |language| Show::new(Style::PLAIN, language).end(&answer);
        assert!(show(Language::Chinese).contains("模型没有给出自己的回答"));
        assert!(show(Language::English).contains("gave no answer of its own"));
    }
}
