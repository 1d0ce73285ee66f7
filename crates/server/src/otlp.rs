//! A span for every request, sent to a collector by OpenTelemetry's protocol: OTLP over HTTP, in JSON.
//!
//! Names follow the semantic conventions for HTTP servers. Requests never wait: spans go through a
//! bounded channel to a thread of their own, which drops and counts what a slow collector leaves over.

use std::fmt;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::mpsc::{Receiver, RecvTimeoutError, SyncSender, sync_channel};
use std::sync::{Arc, Mutex, PoisonError};
use std::thread::{self, JoinHandle};
use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

use axum::http::HeaderMap;
use serde_json::{Value, json};
use wenyi::config::{Config, Secret};

/// Spans that wait to be sent.
const WAITING: usize = 4096;
/// Spans of one message.
const BATCH: usize = 512;
/// How often to send.
const INTERVAL: Duration = Duration::from_secs(2);
/// Longest time for the collector to answer.
const PATIENCE: Duration = Duration::from_secs(10);

/// Where spans go.
#[derive(Clone, PartialEq, Eq)]
pub struct OtlpOptions {
    /// The collector's address for traces, such as `http://localhost:4318/v1/traces`.
    pub url: String,
    /// More headers, such as a key.
    pub headers: Vec<(String, Secret)>,
    /// How this server is called in the traces.
    pub service_name: String,
}

/// Shows no header's value, and no name and password of the URL.
impl fmt::Debug for OtlpOptions {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let host = self.url.rsplit('@').next().unwrap_or_default();
        f.debug_struct("OtlpOptions")
            .field("url", &host)
            .field("headers", &self.headers)
            .field("service_name", &self.service_name)
            .finish()
    }
}

impl OtlpOptions {
    /// What OpenTelemetry's own variables say: `OTEL_EXPORTER_OTLP_TRACES_ENDPOINT`,
    /// `OTEL_EXPORTER_OTLP_ENDPOINT`, the same with `HEADERS` and `PROTOCOL`, `OTEL_SERVICE_NAME`,
    /// `OTEL_SDK_DISABLED`; `None` if there is no collector.
    ///
    /// # Errors
    ///
    /// If they ask for what is not spoken here.
    pub fn from_config(config: &Config) -> Result<Option<Self>, String> {
        let disabled = config.variable("OTEL_SDK_DISABLED");
        if disabled.is_some_and(|word| word.eq_ignore_ascii_case("true")) {
            return Ok(None);
        }
        let special = config.variable("OTEL_EXPORTER_OTLP_TRACES_ENDPOINT");
        let general = config.variable("OTEL_EXPORTER_OTLP_ENDPOINT");
        let general = general.map(|base| format!("{}/v1/traces", base.trim_end_matches('/')));
        let Some(url) = special.or(general) else {
            return Ok(None);
        };
        if !url.starts_with("http://") && !url.starts_with("https://") {
            return Err(format!(
                "the OTLP endpoint is `{url}`, expected `http://…` or `https://…`"
            ));
        }
        let either = |name: &str| {
            config
                .variable(&format!("OTEL_EXPORTER_OTLP_TRACES_{name}"))
                .or_else(|| config.variable(&format!("OTEL_EXPORTER_OTLP_{name}")))
        };
        if let Some(protocol) = either("PROTOCOL").filter(|protocol| protocol != "http/json") {
            return Err(format!(
                "the OTLP protocol is `{protocol}`, only `http/json` is spoken; collectors take it at \
                 the same port as `http/protobuf`"
            ));
        }
        let headers = either("HEADERS").unwrap_or_default();
        let service_name = config.variable("OTEL_SERVICE_NAME");
        Ok(Some(Self {
            url,
            headers: headers.split(',').filter_map(header).collect(),
            service_name: service_name.unwrap_or_else(|| "wenyi".into()),
        }))
    }
}

/// `name=value`, percent-encoded.
fn header(pair: &str) -> Option<(String, Secret)> {
    let (name, value) = pair.split_once('=')?;
    Some((name.trim().to_owned(), decoded(value.trim()).into()))
}

fn decoded(value: &str) -> String {
    let mut bytes = Vec::with_capacity(value.len());
    let mut rest = value.as_bytes();
    while let Some((first, after)) = rest.split_first() {
        let code = after.get(..2).filter(|_| *first == b'%');
        let code = code.and_then(|two| std::str::from_utf8(two).ok());
        match code.and_then(|two| u8::from_str_radix(two, 16).ok()) {
            Some(byte) => {
                bytes.push(byte);
                rest = &after[2..];
            }
            None => {
                bytes.push(*first);
                rest = after;
            }
        }
    }
    String::from_utf8_lossy(&bytes).into_owned()
}

/// A trace that a request belongs to, and its place in it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Context {
    trace_id: String,
    parent_id: Option<String>,
    span_id: String,
    is_sampled: bool,
}

impl Context {
    /// From the header `traceparent` (W3C Trace Context), or a trace of its own.
    pub(crate) fn of(headers: &HeaderMap) -> Self {
        let span_id = random_id()[..16].to_owned();
        let told = headers.get("traceparent");
        let told = told.and_then(|value| value.to_str().ok());
        match told.and_then(parent) {
            Some((trace_id, parent_id, is_sampled)) => Self {
                trace_id: trace_id.to_owned(),
                parent_id: Some(parent_id.to_owned()),
                span_id,
                is_sampled,
            },
            None => Self {
                trace_id: random_id(),
                parent_id: None,
                span_id,
                is_sampled: true,
            },
        }
    }
}

/// Trace, span, and whether it is kept, of `00-TRACE-SPAN-FLAGS`.
fn parent(value: &str) -> Option<(&str, &str, bool)> {
    let is_hex = |text: &str, length: usize| {
        let lower = |byte: u8| byte.is_ascii_digit() || (b'a'..=b'f').contains(&byte);
        text.len() == length && text.bytes().all(lower) && text.bytes().any(|byte| byte != b'0')
    };
    let mut parts = value.split('-');
    let version = parts.next().filter(|version| version.len() == 2)?;
    let (trace, span, flags) = (parts.next()?, parts.next()?, parts.next()?);
    // Later versions may have more parts; `ff` is none.
    let is_known = version == "00" && parts.next().is_none();
    let is_later = version != "00" && version != "ff";
    let flags = u8::from_str_radix(flags.get(..2)?, 16).ok()?;
    ((is_known || is_later) && is_hex(trace, 32) && is_hex(span, 16)).then_some((
        trace,
        span,
        flags & 1 == 1,
    ))
}

/// 32 hexadecimal digits.
fn random_id() -> String {
    uuid::Uuid::new_v4().simple().to_string()
}

/// A request that is over.
#[derive(Clone, Debug)]
pub(crate) struct Span {
    pub(crate) context: Context,
    pub(crate) request_id: String,
    pub(crate) method: String,
    pub(crate) route: String,
    pub(crate) path: String,
    pub(crate) status: u16,
    /// Empty if none answered.
    pub(crate) model: String,
    /// The problem's name and words, if there was one.
    pub(crate) problem: Option<(&'static str, String)>,
    pub(crate) took: Duration,
}

/// The thread that sends, and the way to it.
#[derive(Debug)]
pub(crate) struct Exporter {
    sender: Mutex<Option<SyncSender<(Span, SystemTime)>>>,
    thread: Mutex<Option<JoinHandle<()>>>,
    dropped: Arc<AtomicU64>,
}

impl Exporter {
    pub(crate) fn start(options: OtlpOptions) -> std::io::Result<Self> {
        let (sender, receiver) = sync_channel(WAITING);
        let dropped = Arc::new(AtomicU64::new(0));
        let counter = dropped.clone();
        let thread = thread::Builder::new()
            .name("wenyi-otlp".into())
            .spawn(move || Sender::new(options, counter).run(&receiver))?;
        Ok(Self {
            sender: Mutex::new(Some(sender)),
            thread: Mutex::new(Some(thread)),
            dropped,
        })
    }

    /// Hands over a span; never waits.
    pub(crate) fn export(&self, span: Span) {
        if !span.context.is_sampled {
            return;
        }
        let sender = lock(&self.sender);
        let is_sent = match sender.as_ref() {
            Some(sender) => sender.try_send((span, SystemTime::now())).is_ok(),
            None => false,
        };
        if !is_sent {
            self.dropped.fetch_add(1, Ordering::Relaxed);
        }
    }

    /// Sends what is left; blocks for as long as the collector may take.
    pub(crate) fn close(&self) {
        drop(lock(&self.sender).take());
        if let Some(thread) = lock(&self.thread).take() {
            let _ = thread.join();
        }
    }
}

fn lock<T>(mutex: &Mutex<T>) -> std::sync::MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

struct Sender {
    options: OtlpOptions,
    agent: ureq::Agent,
    dropped: Arc<AtomicU64>,
    has_failed: bool,
}

impl Sender {
    fn new(options: OtlpOptions, dropped: Arc<AtomicU64>) -> Self {
        let agent = ureq::Agent::config_builder()
            .timeout_global(Some(PATIENCE))
            .max_redirects(0)
            .build()
            .into();
        Self {
            options,
            agent,
            dropped,
            has_failed: false,
        }
    }

    /// Gathers spans and sends them until the other end is closed.
    fn run(mut self, receiver: &Receiver<(Span, SystemTime)>) {
        let mut spans = Vec::new();
        let mut due = Instant::now() + INTERVAL;
        loop {
            let rest = due.saturating_duration_since(Instant::now());
            let is_over = match receiver.recv_timeout(rest) {
                Ok(span) => {
                    spans.push(span);
                    false
                }
                Err(RecvTimeoutError::Timeout) => false,
                Err(RecvTimeoutError::Disconnected) => true,
            };
            if is_over || spans.len() >= BATCH || Instant::now() >= due {
                if !spans.is_empty() {
                    self.send(&std::mem::take(&mut spans));
                }
                due = Instant::now() + INTERVAL;
            }
            if is_over {
                return;
            }
        }
    }

    fn send(&mut self, spans: &[(Span, SystemTime)]) {
        let body = message(&self.options.service_name, spans).to_string();
        let mut call = self.agent.post(&self.options.url);
        for (name, value) in &self.options.headers {
            call = call.header(name, value.expose());
        }
        let sent = call.content_type("application/json").send(body.as_bytes());
        let dropped = self.dropped.swap(0, Ordering::Relaxed);
        match sent {
            Ok(_) if dropped > 0 => {
                tracing::warn!(dropped, "spans came faster than they could be sent");
            }
            Ok(_) => self.has_failed = false,
            // Once, and again only after it has worked in between: the log is not the collector's.
            Err(error) if !self.has_failed => {
                self.has_failed = true;
                let lost = spans.len();
                tracing::warn!(%error, lost, "the collector does not take spans");
            }
            Err(_) => {}
        }
    }
}

/// An `ExportTraceServiceRequest` in JSON.
fn message(service_name: &str, spans: &[(Span, SystemTime)]) -> Value {
    let resource = [
        text("service.name", service_name),
        text("service.version", env!("CARGO_PKG_VERSION")),
    ];
    let spans: Vec<_> = spans
        .iter()
        .map(|(span, end)| described(span, *end))
        .collect();
    let scope = json!({"name": "wenyi-server", "version": env!("CARGO_PKG_VERSION")});
    json!({"resourceSpans": [{
        "resource": {"attributes": resource},
        "scopeSpans": [{"scope": scope, "spans": spans}],
    }]})
}

fn described(span: &Span, end: SystemTime) -> Value {
    /// `SPAN_KIND_SERVER`.
    const SERVER: u8 = 2;
    /// `STATUS_CODE_ERROR`.
    const ERROR: u8 = 2;
    let end = end.duration_since(UNIX_EPOCH).unwrap_or_default();
    let nanoseconds = |time: Duration| time.as_nanos().to_string();
    let mut attributes = vec![
        text("http.request.method", &span.method),
        text("http.route", &span.route),
        text("url.path", &span.path),
        json!({"key": "http.response.status_code", "value": {"intValue": span.status.to_string()}}),
        text("wenyi.request_id", &span.request_id),
    ];
    if !span.model.is_empty() {
        attributes.push(text("gen_ai.response.model", &span.model));
    }
    if let Some((name, _)) = &span.problem {
        attributes.push(text("error.type", name));
    }
    let mut described = json!({
        "traceId": span.context.trace_id,
        "spanId": span.context.span_id,
        "name": format!("{} {}", span.method, span.route),
        "kind": SERVER,
        "startTimeUnixNano": nanoseconds(end.saturating_sub(span.took)),
        "endTimeUnixNano": nanoseconds(end),
        "attributes": attributes,
    });
    if let Some(parent) = &span.context.parent_id {
        described["parentSpanId"] = json!(parent);
    }
    // What the client did wrong is no error of the server.
    if span.status >= 500 {
        let message = span.problem.as_ref().map_or("", |(_, message)| message);
        described["status"] = json!({"code": ERROR, "message": message});
    }
    described
}

fn text(key: &str, value: &str) -> Value {
    json!({"key": key, "value": {"stringValue": value}})
}

#[cfg(test)]
mod tests {
    use super::*;

    fn options(pairs: &[(&str, &str)]) -> Result<Option<OtlpOptions>, String> {
        let pairs = pairs
            .iter()
            .map(|(name, value)| ((*name).to_owned(), (*value).to_owned()));
        let pairs: std::collections::BTreeMap<String, String> = pairs.collect();
        OtlpOptions::from_config(&Config::from_lookup(move |name| pairs.get(name).cloned()))
    }

    #[test]
    fn opentelemetrys_variables_are_understood() {
        assert_eq!(options(&[]).unwrap(), None);
        let base = ("OTEL_EXPORTER_OTLP_ENDPOINT", "http://collector:4318/");
        let found = options(&[base]).unwrap().unwrap();
        assert_eq!(found.url, "http://collector:4318/v1/traces");
        assert_eq!(found.service_name, "wenyi");
        let own = ("OTEL_EXPORTER_OTLP_TRACES_ENDPOINT", "https://other/x");
        let key = ("OTEL_EXPORTER_OTLP_HEADERS", "api-key=a%20b%2C,x = y,");
        let found = options(&[base, own, key]).unwrap().unwrap();
        assert_eq!(found.url, "https://other/x");
        let headers = [("api-key", "a b,"), ("x", "y")].map(|(a, b)| (a.into(), b.into()));
        assert_eq!(found.headers, headers);
        assert_eq!(
            options(&[base, ("OTEL_SDK_DISABLED", "true")]).unwrap(),
            None
        );
        assert!(options(&[base, ("OTEL_EXPORTER_OTLP_PROTOCOL", "grpc")]).is_err());
        assert!(options(&[("OTEL_EXPORTER_OTLP_ENDPOINT", "collector:4317")]).is_err());
    }

    #[test]
    fn a_trace_goes_on_if_the_client_has_one() {
        let context = |value: &str| {
            let headers = [("traceparent", value)].map(|(name, value)| {
                (
                    axum::http::HeaderName::from_static(name),
                    value.parse().unwrap(),
                )
            });
            Context::of(&headers.into_iter().collect())
        };
        let (trace, span) = ("4bf92f3577b34da6a3ce929d0e0e4736", "00f067aa0ba902b7");
        let told = context(&format!("00-{trace}-{span}-01"));
        assert_eq!(
            (&*told.trace_id, told.parent_id.as_deref()),
            (trace, Some(span))
        );
        assert!(told.is_sampled);
        assert!(!context(&format!("00-{trace}-{span}-00")).is_sampled);
        for wrong in [
            "",
            "文",
            "00-0-0-01",
            &format!("00-{}-{span}-01", "0".repeat(32)),
            &format!("ff-{trace}-{span}-01"),
            &format!("00-{trace}-{span}-01-x"),
            &format!("00-{trace}-{span}-文字"),
        ] {
            let own = context(wrong);
            assert_eq!((own.parent_id, own.trace_id.len()), (None, 32), "{wrong}");
        }
    }
}
