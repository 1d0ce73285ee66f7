//! Problems in `DashScope`'s words: all fields on top in its native interface, in OpenAI's shape in
//! its compatible mode.
//!
//! Its clients retry every status but 200, 400 and 401, so what cannot get better is a 400.

use std::borrow::Cow;

use axum::http::StatusCode;
use axum::response::Response;
use serde::Serialize;

use super::{json, openai};
use crate::http::RequestId;
use crate::problem::Problem;

#[derive(Serialize)]
struct NativeBody<'a> {
    code: Cow<'a, str>,
    message: String,
    request_id: &'a str,
}

#[derive(Serialize)]
struct CompatibleBody<'a> {
    error: CompatibleError<'a>,
    request_id: &'a str,
}

#[derive(Serialize)]
struct CompatibleError<'a> {
    message: String,
    #[serde(rename = "type")]
    kind: &'a str,
    param: Option<&'a str>,
    code: &'a str,
}

/// `problem` as the native interface tells it.
pub(crate) fn native(problem: &Problem, id: &RequestId) -> Response {
    let (status, code) = class(problem);
    let (message, request_id) = (message(problem), &*id.0);
    let body = NativeBody {
        code,
        message,
        request_id,
    };
    json(status, &body)
}

/// `problem` as the compatible mode tells it: its clients are OpenAI's, and know OpenAI's statuses
/// and messages.
pub(crate) fn compatible(problem: &Problem, id: &RequestId) -> Response {
    let (_, code) = class(problem);
    let error = CompatibleError {
        message: openai::message(problem),
        kind: &code,
        param: None,
        code: &code,
    };
    let request_id = &*id.0;
    json(problem.status(), &CompatibleBody { error, request_id })
}

fn message(problem: &Problem) -> String {
    match problem {
        Problem::Key { given: true } => "Invalid API-key provided.".into(),
        Problem::Key { given: false } => "No API-key provided.".into(),
        Problem::TooManyInputs { field, limit, .. } => format!(
            "batch size is invalid, it should not be larger than {limit}.: payload.input.{field}"
        ),
        Problem::Field {
            field: "contents",
            reason,
        } => {
            format!("{reason}: payload.input.contents")
        }
        // The field is in the singular here.
        _ => problem.to_string().replace("`dimensions`", "`dimension`"),
    }
}

fn class(problem: &Problem) -> (StatusCode, Cow<'_, str>) {
    let (status, code) = match problem {
        Problem::Provider { status, code, .. } => return provider(*status, code.as_deref()),
        Problem::Key { .. } => (StatusCode::UNAUTHORIZED, "InvalidApiKey"),
        Problem::Host { .. } => (StatusCode::FORBIDDEN, "AccessDenied"),
        // A 404 would be asked for again and again.
        Problem::NoModel { .. } => (StatusCode::BAD_REQUEST, "ModelNotFound"),
        Problem::NoRoute { .. } | Problem::NoMethod { .. } => {
            (StatusCode::BAD_REQUEST, "InvalidURL")
        }
        Problem::BodyTooLarge { .. } => (StatusCode::PAYLOAD_TOO_LARGE, "BadRequest.TooLarge"),
        Problem::Busy { .. } => (StatusCode::TOO_MANY_REQUESTS, "Throttling"),
        Problem::SlowClient(_) | Problem::Deadline(_) => {
            (StatusCode::REQUEST_TIMEOUT, "RequestTimeOut")
        }
        _ if problem.status().is_server_error() => (problem.status(), "InternalError"),
        _ => (StatusCode::BAD_REQUEST, "InvalidParameter"),
    };
    (status, code.into())
}

/// What a provider's failure is called: in its own word if that is one of `DashScope`'s.
fn provider(status: StatusCode, code: Option<&str>) -> (StatusCode, Cow<'_, str>) {
    let own = code.filter(|code| is_ours(code));
    let named = |usual: &'static str| own.map_or(Cow::Borrowed(usual), Cow::Borrowed);
    match status {
        // Waiting brings no money.
        _ if matches!(code, Some("insufficient_quota" | "Arrearage")) => {
            (StatusCode::BAD_REQUEST, "Arrearage".into())
        }
        StatusCode::PAYMENT_REQUIRED => (StatusCode::BAD_REQUEST, "Arrearage".into()),
        StatusCode::TOO_MANY_REQUESTS => match own {
            Some(code) if code.starts_with("Throttling") => (status, code.into()),
            _ => (status, "Throttling".into()),
        },
        StatusCode::REQUEST_TIMEOUT | StatusCode::GATEWAY_TIMEOUT => {
            (StatusCode::REQUEST_TIMEOUT, "RequestTimeOut".into())
        }
        StatusCode::NOT_FOUND => (StatusCode::BAD_REQUEST, named("ModelNotFound")),
        StatusCode::PAYLOAD_TOO_LARGE => (status, named("BadRequest.TooLarge")),
        // Also a refused key: it is the server's, and the client must not look for its own.
        _ if status.is_server_error() => match own {
            Some(code) if code.starts_with("InternalError") => (status, code.into()),
            _ => (status, "InternalError".into()),
        },
        _ => (StatusCode::BAD_REQUEST, named("InvalidParameter")),
    }
}

/// True for codes such as `Throttling.RateQuota`; other providers write theirs in small letters.
fn is_ours(code: &str) -> bool {
    let is_part = |byte: u8| byte.is_ascii_alphanumeric() || byte == b'.';
    code.starts_with(|first: char| first.is_ascii_uppercase()) && code.bytes().all(is_part)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_providers_failures_keep_their_names_and_chances() {
        for (status, code, expected) in [
            (
                429,
                Some("Throttling.RateQuota"),
                (429, "Throttling.RateQuota"),
            ),
            (429, Some("rate_limit_exceeded"), (429, "Throttling")),
            (429, Some("insufficient_quota"), (400, "Arrearage")),
            (400, Some("Arrearage"), (400, "Arrearage")),
            (402, None, (400, "Arrearage")),
            (404, Some("ModelNotFound"), (400, "ModelNotFound")),
            (404, Some("model_not_found"), (400, "ModelNotFound")),
            (
                400,
                Some("DataInspectionFailed"),
                (400, "DataInspectionFailed"),
            ),
            (422, Some("validation_error"), (400, "InvalidParameter")),
            (500, Some("InternalError.Algo"), (500, "InternalError.Algo")),
            (502, Some("InvalidApiKey"), (502, "InternalError")),
            (504, None, (408, "RequestTimeOut")),
        ] {
            let status = StatusCode::from_u16(status).unwrap();
            let (status, named) = provider(status, code);
            assert_eq!((status.as_u16(), &*named), expected, "{code:?}");
        }
    }
}
