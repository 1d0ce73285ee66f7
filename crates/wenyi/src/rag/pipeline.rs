//! From a question to its answer: look up, weigh, let the model phrase it, check what it says.

use std::ops::ControlFlow;
use std::sync::Arc;
use std::time::Instant;

use wenyi_store::Collection;

use super::answer::{Answer, AnsweredBy, Claim, RagEvent, RagQuestion};
use super::check::Checker;
use super::claims::{Said, Splitter};
use super::error::RagError;
use super::evidence::{Evidence, Support, asked, weigh};
use super::follow_up::{FollowUp, leans_on_what_was_said, rewritten, with_recent_turns};
use super::language::Language;
use super::prompt::{CitingPrompt, PassageText, RagPrompt};
use super::retriever::{CollectionRetriever, EvidenceOptions, PassageRetriever};
use crate::chat::{
    ChatModel, ChatOptions, ChatRequest, Message, MessageRole, ReplyBuilder, without_circles,
};
use crate::embed::Embedder;

/// How to answer.
#[derive(Clone, Debug)]
pub struct RagOptions {
    /// Where to look, and for how much.
    pub evidence: EvidenceOptions,
    /// How a follow-up becomes a question that stands alone.
    pub follow_up: FollowUp,
    /// What becomes of claims that the passages do not support.
    pub unsupported: Unsupported,
    /// How the model speaks.
    pub chat: ChatOptions,
}

impl Default for RagOptions {
    fn default() -> Self {
        Self {
            evidence: EvidenceOptions::default(),
            follow_up: FollowUp::default(),
            unsupported: Unsupported::default(),
            chat: ChatOptions {
                temperature: Some(0.0),
                max_tokens: Some(400),
                ..ChatOptions::default()
            },
        }
    }
}

/// What becomes of a claim that the passages do not support.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Unsupported {
    /// It is said, and its [`Claim::support`] is `none`.
    #[default]
    Flag,
    /// It is not said, but counted: for small models, which invent.
    LeaveOut,
}

/// Answers questions from passages.
#[derive(Clone)]
pub struct Rag {
    embedder: Arc<dyn Embedder>,
    retriever: Arc<dyn PassageRetriever>,
    chat: Option<Arc<dyn ChatModel>>,
    prompt: Arc<dyn RagPrompt>,
    options: RagOptions,
}

impl std::fmt::Debug for Rag {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Rag")
            .field(
                "chat",
                &self.chat.as_ref().map(|chat| chat.name().to_owned()),
            )
            .field("options", &self.options)
            .finish_non_exhaustive()
    }
}

impl Rag {
    /// Answers from what `retriever` finds; `embedder` compares sentences with question and answer.
    #[must_use]
    pub fn new(embedder: Arc<dyn Embedder>, retriever: Arc<dyn PassageRetriever>) -> Self {
        Self {
            embedder,
            retriever,
            chat: None,
            prompt: Arc::new(CitingPrompt::default()),
            options: RagOptions::default(),
        }
    }

    /// Answers from `collection`, with the model that made it.
    #[must_use]
    pub fn over(embedder: Arc<dyn Embedder>, collection: Arc<Collection>) -> Self {
        let retriever = CollectionRetriever::new(embedder.clone(), collection);
        Self::new(embedder, Arc::new(retriever))
    }

    /// Lets `chat` phrase the answers; without one they are the documents' own words.
    #[must_use]
    pub fn with_chat_model(mut self, chat: Arc<dyn ChatModel>) -> Self {
        self.chat = Some(chat);
        self
    }

    /// As [`Self::with_chat_model`], for a model that loses its way in long prompts, and invents: it reads
    /// the quotes alone, and what the passages do not support is left out.
    #[must_use]
    pub fn with_small_chat_model(mut self, chat: Arc<dyn ChatModel>) -> Self {
        self.chat = Some(chat);
        self.prompt = Arc::new(CitingPrompt {
            passages: PassageText::Quotes,
        });
        self.options.unsupported = Unsupported::LeaveOut;
        self
    }

    /// True if a chat model phrases the answers.
    #[must_use]
    pub fn has_chat_model(&self) -> bool {
        self.chat.is_some()
    }

    /// Another prompt.
    #[must_use]
    pub fn with_prompt(mut self, prompt: Arc<dyn RagPrompt>) -> Self {
        self.prompt = prompt;
        self
    }

    /// Other options.
    #[must_use]
    pub fn with_options(mut self, options: RagOptions) -> Self {
        self.options = options;
        self
    }

    /// What the documents say to a question, without asking a chat model for an answer.
    ///
    /// # Errors
    ///
    /// If nothing can be looked up, or the chat model fails to say a follow-up anew.
    pub fn evidence(&self, question: &RagQuestion) -> Result<Evidence, RagError> {
        let started = Instant::now();
        let mut evidence = self.look_up(question)?;
        evidence.seconds = started.elapsed().as_secs_f64();
        Ok(evidence)
    }

    /// The whole answer.
    ///
    /// # Errors
    ///
    /// As [`Self::evidence`]; or if the chat model fails.
    pub fn ask(&self, question: &RagQuestion) -> Result<Answer, RagError> {
        self.stream(question, &mut |_| ControlFlow::Continue(()))
    }

    /// The answer as it grows: the evidence first, then claim by claim, each checked before it is
    /// given out. `on_event` may end the work, and then has the answer so far.
    ///
    /// # Errors
    ///
    /// As [`Self::ask`].
    pub fn stream(
        &self,
        question: &RagQuestion,
        on_event: &mut dyn FnMut(RagEvent<'_>) -> ControlFlow<()>,
    ) -> Result<Answer, RagError> {
        let evidence = self.evidence(question)?;
        if on_event(RagEvent::Evidence(&evidence)).is_break() {
            return Ok(Answer::begin(evidence));
        }
        self.answer(evidence, on_event)
    }

    /// The answer to the question of `evidence`: what [`Self::stream`] does once it has found that.
    ///
    /// # Errors
    ///
    /// If the chat model fails.
    pub fn answer(
        &self,
        evidence: Evidence,
        on_event: &mut dyn FnMut(RagEvent<'_>) -> ControlFlow<()>,
    ) -> Result<Answer, RagError> {
        let answer = Answer::begin(evidence);
        match &self.chat {
            _ if answer.evidence.support == Support::None => Ok(answer.by_nobody(on_event)),
            None => Ok(answer.by_quotes(on_event)),
            Some(chat) => self.phrase(chat.as_ref(), answer, on_event),
        }
    }

    /// Evidence for the question or, for a follow-up, for what it means.
    fn look_up(&self, question: &RagQuestion) -> Result<Evidence, RagError> {
        let asked = asked(&question.question)?;
        let history = &question.history;
        // Instructions are nothing that a question could lean on.
        let is_spoken =
            |message: &Message| matches!(message.role, MessageRole::User | MessageRole::Assistant);
        if !history.iter().any(is_spoken) || self.options.follow_up == FollowUp::AsItIs {
            return self.find(asked);
        }
        if let (FollowUp::Rewrite, Some(chat)) = (self.options.follow_up, &self.chat) {
            return self.find(&rewritten(chat.as_ref(), history, asked)?);
        }
        match leans_on_what_was_said(asked) {
            true => self.find(&with_recent_turns(history, asked)),
            false => self.find(asked),
        }
    }

    fn find(&self, question: &str) -> Result<Evidence, RagError> {
        let vector = self.embedder.embed_query(question)?;
        let found = self
            .retriever
            .retrieve(question, &vector, &self.options.evidence)?;
        Ok(weigh(self.embedder.as_ref(), question, &vector, found)?)
    }

    /// Lets the model speak, and checks what it says.
    fn phrase(
        &self,
        chat: &dyn ChatModel,
        mut answer: Answer,
        on_event: &mut dyn FnMut(RagEvent<'_>) -> ControlFlow<()>,
    ) -> Result<Answer, RagError> {
        answer.answered_by = AnsweredBy::Model;
        answer.model = Some(chat.name().to_owned());
        let evidence = &answer.evidence;
        let request = ChatRequest {
            messages: self.prompt.messages(&evidence.question, evidence),
            // Whatever passages say, nothing can be called.
            tools: Vec::new(),
            options: self.options.chat.clone(),
            ..ChatRequest::default()
        };
        let checker = Checker::new(self.embedder.as_ref(), evidence)?;
        let mut writing = Writing {
            checker: &checker,
            unsupported: self.options.unsupported,
            text: String::new(),
            claims: Vec::new(),
            num_left_out: 0,
            has_refused: false,
        };
        let (mut splitter, mut reply) = (Splitter::default(), ReplyBuilder::default());
        let mut goes_on = true;
        for delta in without_circles(chat.stream(&request)?) {
            let delta = delta?;
            reply.push(&delta);
            splitter.push(&delta.content);
            while let (true, Some(said)) = (goes_on, splitter.next(false)) {
                goes_on = writing.write(&said, on_event)?;
            }
            if !goes_on {
                break;
            }
        }
        while let (true, Some(said)) = (goes_on, splitter.next(true)) {
            goes_on = writing.write(&said, on_event)?;
        }
        let Writing {
            text,
            claims,
            num_left_out,
            has_refused,
            ..
        } = writing;
        if has_refused && claims.is_empty() {
            answer.answered_by = AnsweredBy::Nobody;
        }
        let reply = reply.finish();
        answer.finish_reason = reply.finish_reason;
        answer.usage = reply.usage;
        answer.num_left_out = num_left_out;
        answer.text = text;
        answer.claims = claims;
        Ok(answer.judged(on_event))
    }
}

/// An answer on its way from the model to the caller.
struct Writing<'a> {
    checker: &'a Checker<'a>,
    unsupported: Unsupported,
    text: String,
    claims: Vec<Claim>,
    num_left_out: usize,
    has_refused: bool,
}

impl Writing<'_> {
    /// Checks what was said and gives it out; false if the model need not go on.
    fn write(
        &mut self,
        said: &Said,
        on_event: &mut dyn FnMut(RagEvent<'_>) -> ControlFlow<()>,
    ) -> Result<bool, RagError> {
        /// A model that goes on inventing has nothing to say.
        const MOST_UNSUPPORTED: usize = 3;
        if said.text.is_empty() || self.claims.iter().any(|claim| claim.text == said.text) {
            return Ok(true);
        }
        if is_refusal(&said.text) {
            return Ok(self.refuse(said, on_event));
        }
        let checked = self.checker.check(&said.text, &said.marks)?;
        if checked.support == Support::None && self.unsupported == Unsupported::LeaveOut {
            self.num_left_out += 1;
            return Ok(self.num_left_out < MOST_UNSUPPORTED);
        }
        let lead = if self.text.is_empty() { "" } else { &said.lead };
        let start = self.text.len() + lead.len();
        let marks = checked.citations.iter().map(|number| format!("[{number}]"));
        let marks: String = marks.collect();
        let gap = if marks.is_empty() || said.text.ends_with(['。', '！', '？']) {
            ""
        } else {
            " "
        };
        let piece = format!("{lead}{}{gap}{marks}", said.text);
        self.text.push_str(&piece);
        let dropped = said.marks.iter().copied();
        let claim = Claim {
            text: said.text.clone(),
            span: start..self.text.len(),
            support: checked.support,
            dropped: dropped
                .filter(|number| !checked.citations.contains(number))
                .collect(),
            citations: checked.citations,
        };
        let flow = on_event(RagEvent::Text {
            text: &piece,
            claim: Some(&claim),
            by: AnsweredBy::Model,
        });
        self.claims.push(claim);
        Ok(flow.is_continue())
    }
}

impl Writing<'_> {
    /// The model says that the passages do not answer. Small ones say so whatever the passages say.
    fn refuse(
        &mut self,
        said: &Said,
        on_event: &mut dyn FnMut(RagEvent<'_>) -> ControlFlow<()>,
    ) -> bool {
        if self.unsupported == Unsupported::LeaveOut {
            return true;
        }
        self.has_refused = true;
        let lead = if self.text.is_empty() { "" } else { &said.lead };
        let text = format!("{lead}{}", said.text);
        self.text.push_str(&text);
        let flow = on_event(RagEvent::Text {
            text: &text,
            claim: None,
            by: AnsweredBy::Model,
        });
        flow.is_continue()
    }
}

/// True if the sentence is what the prompt asks for where passages do not answer.
fn is_refusal(text: &str) -> bool {
    /// Characters beyond the words asked for, such as "The answer is".
    const MARGIN: usize = 24;
    let said = text.to_lowercase();
    [Language::English, Language::Chinese]
        .iter()
        .any(|language| {
            let refusal = language.not_in_these_documents();
            said.contains(refusal) && said.chars().count() < refusal.chars().count() + MARGIN
        })
}

impl Answer {
    fn begin(evidence: Evidence) -> Self {
        Self {
            question: evidence.question.clone(),
            text: String::new(),
            answered_by: AnsweredBy::Nobody,
            support: Support::None,
            claims: Vec::new(),
            num_left_out: 0,
            evidence,
            model: None,
            finish_reason: None,
            usage: None,
        }
    }

    /// Says that the documents do not answer.
    fn by_nobody(mut self, on_event: &mut dyn FnMut(RagEvent<'_>) -> ControlFlow<()>) -> Self {
        let text = Language::of(&self.question).not_in_these_documents();
        self.answered_by = AnsweredBy::Nobody;
        self.support = Support::None;
        self.text = text.to_owned();
        self.claims.clear();
        // The answer is whole; there is nothing left to end.
        let _ = on_event(RagEvent::Text {
            text,
            claim: None,
            by: AnsweredBy::Nobody,
        });
        self
    }

    /// Answers with the quotes.
    fn by_quotes(mut self, on_event: &mut dyn FnMut(RagEvent<'_>) -> ControlFlow<()>) -> Self {
        self.answered_by = AnsweredBy::Quotes;
        self.support = self.evidence.support;
        for quote in &self.evidence.quotes {
            let lead = if self.text.is_empty() { "" } else { "\n\n" };
            let start = self.text.len() + lead.len();
            let piece = format!("{lead}{} [{}]", quote.text.trim(), quote.number);
            self.text.push_str(&piece);
            let claim = Claim {
                text: quote.text.trim().to_owned(),
                span: start..self.text.len(),
                support: self.evidence.support,
                citations: vec![quote.number],
                dropped: Vec::new(),
            };
            let flow = on_event(RagEvent::Text {
                text: &piece,
                claim: Some(&claim),
                by: AnsweredBy::Quotes,
            });
            self.claims.push(claim);
            if flow.is_break() {
                break;
            }
        }
        self
    }

    /// What the model's claims come to.
    fn judged(self, on_event: &mut dyn FnMut(RagEvent<'_>) -> ControlFlow<()>) -> Self {
        if self.claims.is_empty() && self.text.is_empty() {
            return self.by_quotes(on_event);
        }
        let count = |support| {
            self.claims
                .iter()
                .filter(|claim| claim.support == support)
                .count()
        };
        let (strong, weak, none) = (
            count(Support::Strong),
            count(Support::Weak),
            count(Support::None),
        );
        let support = match () {
            () if strong + weak == 0 => Support::None,
            () if none == 0 && strong >= weak => Support::Strong,
            () => Support::Weak,
        };
        Self { support, ..self }
    }
}

#[cfg(test)]
mod tests;
