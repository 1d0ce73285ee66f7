//! Ollama's conversations: `/api/chat` and `/api/generate`, a JSON object a line.

mod parse;
mod answer;
mod time;

use std::sync::Arc;

use axum::extract::State;
use axum::response::Response;
use wenyi::chat::{ChatRequest, Message, Tool};

use self::answer::Answer;
use self::parse::{Context, Told, raw, request};
use super::fields::Fields;
use crate::http::{App, Payload};
use crate::problem::Problem;

/// Which of the two routes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Form {
    Chat,
    Generate,
}

/// What Ollama calls the fields that a model finds at fault.
const NAMES: &[(&str, &str)] = &[
    ("max_tokens", "options.num_predict"),
    ("response_format", "format"),
];

/// The problem in Ollama's words.
fn theirs(problem: Problem, context: Context) -> Problem {
    match (problem, context.asked) {
        (Problem::ContextLength { tokens, .. }, Some(asked)) if tokens > 0 => {
            let reason =
                format!("is {asked}, expected more than the {tokens} tokens of the prompt");
            Problem::field("options.num_ctx", reason)
        }
        (problem, _) => problem.renamed(NAMES),
    }
}

/// `POST /api/chat`.
pub(crate) async fn chat(State(app): State<Arc<App>>, body: Payload) -> Result<Response, Problem> {
    let fields = Fields::parse(body.bytes())?;
    let told: Option<Vec<Told>> = fields.optional("messages")?;
    let messages = told.unwrap_or_default().into_iter().map(Told::message);
    let messages: Vec<Message> = messages.collect();
    let answer = Answer::begin(&app, &fields, Form::Chat).await?;
    if messages.is_empty() {
        return Ok(answer.loaded());
    }
    let request = ChatRequest {
        tools: fields.optional::<Vec<Tool>>("tools")?.unwrap_or_default(),
        ..request(&fields, messages, answer.context.asked)?
    };
    let receiver = answer.speaker.speak(vec![request], &answer.speaker)?;
    let context = answer.context;
    let sent = answer.send(&app, receiver).await;
    sent.map_err(|problem| theirs(problem, context))
}

/// `POST /api/generate`.
pub(crate) async fn generate(
    State(app): State<Arc<App>>,
    body: Payload,
) -> Result<Response, Problem> {
    let fields = Fields::parse(body.bytes())?;
    let prompt: String = fields.optional("prompt")?.unwrap_or_default();
    let system: Option<String> = fields.optional("system")?;
    let is_raw: bool = fields.optional("raw")?.unwrap_or(false);
    for name in ["suffix", "template"] {
        if fields
            .optional::<String>(name)?
            .is_some_and(|text| !text.is_empty())
        {
            return Err(Problem::field(name, "is not taken here"));
        }
    }
    let images: Option<Vec<String>> = fields.optional("images")?;
    let answer = Answer::begin(&app, &fields, Form::Generate).await?;
    if prompt.is_empty() {
        return Ok(answer.loaded());
    }
    let receiver = if is_raw {
        let prompt = raw(&fields, prompt, &answer);
        let prompt = prompt.map_err(|problem| theirs(problem, answer.context))?;
        answer.speaker.complete(vec![prompt], &answer.speaker)?
    } else {
        let system = system.filter(|text| !text.is_empty()).map(Message::system);
        let question = Told::by_user(prompt, images.unwrap_or_default());
        let messages = system.into_iter().chain([question.message()]).collect();
        let request = request(&fields, messages, answer.context.asked)?;
        answer.speaker.speak(vec![request], &answer.speaker)?
    };
    let context = answer.context;
    let sent = answer.send(&app, receiver).await;
    sent.map_err(|problem| theirs(problem, context))
}
