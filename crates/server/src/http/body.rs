//! Bodies, within a size and a time.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use axum::extract::{FromRequest, Request};
use axum::http::header::CONTENT_LENGTH;
use bytes::{Bytes, BytesMut};
use http_body_util::BodyExt;
use tokio::time::timeout;

use super::App;
use crate::problem::Problem;

/// Whether a request's body is still on its way: whose fault it is that there is no answer yet.
#[derive(Clone, Debug, Default)]
pub(super) struct Receiving(Arc<AtomicBool>);

impl Receiving {
    pub(super) fn is_so(&self) -> bool {
        self.0.load(Ordering::Relaxed)
    }

    fn set(&self, is_so: bool) {
        self.0.store(is_so, Ordering::Relaxed);
    }
}

/// A whole body.
#[derive(Debug)]
pub(crate) struct Payload(Bytes);

impl Payload {
    pub(crate) fn bytes(&self) -> &[u8] {
        &self.0
    }

    pub(crate) fn into_bytes(self) -> Bytes {
        self.0
    }
}

impl FromRequest<Arc<App>> for Payload {
    type Rejection = Problem;

    async fn from_request(request: Request, app: &Arc<App>) -> Result<Self, Problem> {
        let limit = app.options.max_body;
        let declared = request.headers().get(CONTENT_LENGTH);
        let declared = declared.and_then(|length| length.to_str().ok()?.parse::<usize>().ok());
        if declared.is_some_and(|length| length > limit) {
            return Err(Problem::BodyTooLarge { limit });
        }
        let pause = app.options.read_timeout;
        let receiving = request.extensions().get::<Receiving>().cloned();
        let receiving = receiving.unwrap_or_default();
        receiving.set(true);
        let mut body = request.into_body();
        // Not all that is declared: a client may declare much and send little.
        let mut bytes = BytesMut::with_capacity(declared.unwrap_or(0).min(1 << 16));
        loop {
            let frame = timeout(pause, body.frame()).await;
            let Some(frame) = frame.map_err(|_| Problem::SlowClient(pause))? else {
                receiving.set(false);
                return Ok(Self(bytes.freeze()));
            };
            let frame = frame.map_err(|error| Problem::BrokenBody {
                reason: error.to_string(),
            })?;
            let Some(data) = frame.data_ref() else {
                continue;
            };
            if bytes.len() + data.len() > limit {
                return Err(Problem::BodyTooLarge { limit });
            }
            bytes.extend_from_slice(data);
        }
    }
}
