//! Answers with their sources, whole and as server-sent events.

use std::time::{Duration, SystemTime, UNIX_EPOCH};

use axum::response::Response;
use bytes::Bytes;
use serde_json::{Value, json};
use tokio::sync::mpsc::Sender;
use tokio::time::timeout;
use wenyi::chat::Usage;
use wenyi::rag::{Answer, Claim, Evidence};

use super::super::openai;
use super::{Piece, Pieces};
use crate::http::streamed;
use crate::problem::Problem;

/// What every part of an answer begins with.
pub(super) struct Head {
    id: String,
    created: u64,
    collection: String,
}

impl Head {
    pub(super) fn new(collection: &str) -> Self {
        let since = SystemTime::now().duration_since(UNIX_EPOCH);
        Self {
            id: format!("ask-{}", uuid::Uuid::new_v4().simple()),
            created: since.map_or(0, |time| time.as_secs()),
            collection: collection.to_owned(),
        }
    }

    /// What the documents say, before the answer.
    pub(super) fn evidence(&self, evidence: &Evidence) -> Value {
        json!({"id": self.id, "object": "answer.evidence", "created": self.created,
            "collection": self.collection, "question": evidence.question,
            "support": evidence.support, "sources": sources(evidence)})
    }

    /// The next part of the answer's text.
    pub(super) fn text(&self, text: &str, claim: Option<&Claim>) -> Value {
        json!({"id": self.id, "object": "answer.text", "text": text, "claim": claim})
    }

    /// Everything.
    pub(super) fn answer(&self, answer: &Answer) -> Value {
        let finish_reason = answer.finish_reason.as_ref().map(|reason| reason.as_str());
        json!({"id": self.id, "object": "answer", "created": self.created,
            "collection": self.collection, "question": answer.question,
            "answer": answer.text, "answered_by": answer.answered_by, "support": answer.support,
            "claims": answer.claims, "num_left_out": answer.num_left_out,
            "evidence_support": answer.evidence.support, "sources": sources(&answer.evidence),
            "model": answer.model, "finish_reason": finish_reason,
            "usage": answer.usage.as_ref().map(Usage::to_json)})
    }
}

/// The passages, each with what is quoted from it.
fn sources(evidence: &Evidence) -> Vec<Value> {
    let passages = (1..).zip(&evidence.passages);
    let source = passages.map(|(number, passage)| {
        let quotes = evidence
            .quotes
            .iter()
            .filter(|quote| quote.number == number);
        let quotes = quotes.map(|quote| {
            json!({"text": quote.text, "span": quote.span, "first_line": quote.first_line,
                "last_line": quote.last_line, "score": quote.score})
        });
        json!({"number": number, "path": passage.path, "first_line": passage.first_line,
            "last_line": passage.last_line, "bytes": passage.bytes,
            "heading_path": passage.heading_path, "score": passage.score, "text": passage.text,
            "quotes": quotes.collect::<Vec<_>>()})
    });
    source.collect()
}

/// The answer as it grows; whoever goes away ends it.
pub(super) fn stream(first: Piece, pieces: Pieces, limit: Duration) -> Response {
    let (sender, response) = streamed("text/event-stream; charset=utf-8");
    tokio::spawn(async move {
        if let Some(problem) = run(&sender, first, pieces, limit).await {
            let _ = send(&sender, &openai::error(&problem)).await;
        }
    });
    response
}

/// Sends everything; a problem if it did not come to the end.
async fn run(
    sender: &Sender<Bytes>,
    first: Piece,
    mut pieces: Pieces,
    limit: Duration,
) -> Option<Problem> {
    let mut next = Some(Ok(first));
    while let Some(piece) = next {
        let (value, is_last) = match piece {
            Ok(Piece::Evidence(value) | Piece::Text(value)) => (value, false),
            Ok(Piece::Answer(value)) => (value, true),
            Err(problem) => return Some(problem),
        };
        send(sender, &value).await.ok()?;
        if is_last {
            let done = Bytes::from_static(b"data: [DONE]\n\n");
            sender.send(done).await.ok()?;
            return None;
        }
        next = tokio::select! {
            next = timeout(limit, pieces.recv()) => match next {
                Ok(next) => next,
                Err(_) => return Some(Problem::Deadline(limit)),
            },
            () = sender.closed() => return None,
        };
    }
    let reason = "the answer broke off".into();
    Some(Problem::Internal { reason })
}

/// The client went away.
struct Gone;

async fn send(sender: &Sender<Bytes>, value: &impl serde::Serialize) -> Result<(), Gone> {
    let text = serde_json::to_string(value).unwrap_or_default();
    let event = Bytes::from(format!("data: {text}\n\n"));
    sender.send(event).await.map_err(|_| Gone)
}
