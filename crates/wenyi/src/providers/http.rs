//! One exchange with a provider, tried again where that may help.

use std::collections::hash_map::RandomState;
use std::hash::{BuildHasher, Hasher};
use std::io::Read;
use std::sync::Mutex;
use std::time::{Duration, Instant, SystemTime};

use serde_json::Value;
use ureq::Agent;
use ureq::http::HeaderMap;

use super::{Error, ErrorKind, Result, cancel};
use crate::config::{Config, Secret};
use crate::hub::http::{html_title, proxy};

/// The largest answer that is read into memory: 2,048 vectors of 3,072 numbers in decimal are below.
const MAX_ANSWER_BYTES: u64 = 256 << 20;

/// A longer wait than this is not worth it, as the OpenAI clients have it.
const LONGEST_RETRY_AFTER: Duration = Duration::from_secs(120);

/// The longest pause of our own choice.
const LONGEST_PAUSE: Duration = Duration::from_secs(8);

/// How long to wait and how often to try.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Patience {
    pub(crate) connect: Duration,
    /// For the first byte of an answer, and between any two reads.
    pub(crate) silence: Duration,
    pub(crate) attempts: u32,
    /// Before the second attempt; doubles from there.
    pub(crate) pause: Duration,
    /// Longest sum of pauses for one request.
    pub(crate) budget: Duration,
}

impl Default for Patience {
    fn default() -> Self {
        Self {
            connect: Duration::from_secs(15),
            // A reasoning model may think for minutes before it says a word.
            silence: Duration::from_secs(600),
            attempts: 5,
            pause: Duration::from_millis(500),
            budget: LONGEST_RETRY_AFTER,
        }
    }
}

/// An answer of any status.
pub struct Answer {
    /// The HTTP status.
    pub status: u16,
    /// Names in lower case, and values.
    pub headers: Vec<(String, String)>,
    /// The body, as it comes.
    pub body: Box<dyn Read + Send>,
}

impl std::fmt::Debug for Answer {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Answer")
            .field("status", &self.status)
            .finish_non_exhaustive()
    }
}

impl Answer {
    /// The first header of that name.
    #[must_use]
    pub fn header(&self, name: &str) -> Option<&str> {
        let found = self.headers.iter().find(|(known, _)| known == name);
        found.map(|(_, value)| value.as_str())
    }
}

/// A client of one provider.
pub(crate) struct Client {
    agent: Agent,
    provider: String,
    /// What no message may repeat, the longest first: one may be a part of another.
    secrets: Vec<Secret>,
    pub(crate) patience: Patience,
    /// Nobody sends before this: one request's `Retry-After` is heeded by all.
    not_before: Mutex<Option<Instant>>,
}

impl Client {
    pub(crate) fn new(
        provider: &str,
        mut secrets: Vec<Secret>,
        patience: Patience,
        config: &Config,
    ) -> Result<Self> {
        let first = |names: &[&str]| names.iter().find_map(|name| config.variable(name));
        let url = first(&["https_proxy", "HTTPS_PROXY", "all_proxy", "ALL_PROXY"]);
        let list = first(&["no_proxy", "NO_PROXY"]).unwrap_or_default();
        let mut no_proxy: Vec<String> = list.split(',').map(|host| host.trim().into()).collect();
        // A server on this machine is never behind a proxy.
        no_proxy.extend(["localhost", "127.0.0.1", "[::1]"].map(String::from));
        let proxy = url
            .map(|url| proxy(&url, &no_proxy))
            .transpose()
            .map_err(|_| {
                Error::from(ErrorKind::Setting {
                    name: "HTTPS_PROXY".into(),
                    value: "unusable".into(),
                    expected: "`http://host:port` or `socks5://host:port`".into(),
                })
            })?;
        let settings = Agent::config_builder()
            .http_status_as_error(false)
            // A redirect would carry key and texts elsewhere.
            .max_redirects(0)
            .max_redirects_will_error(false)
            .user_agent(concat!("wenyi/", env!("CARGO_PKG_VERSION")))
            .timeout_resolve(Some(patience.connect))
            .timeout_connect(Some(patience.connect))
            .timeout_recv_response(Some(patience.silence))
            .timeout_per_read(Some(patience.silence))
            .timeout_per_write(Some(patience.silence))
            .proxy(proxy)
            .build();
        secrets.sort_by_key(|secret| std::cmp::Reverse(secret.expose().len()));
        Ok(Self {
            agent: cancel::agent(settings),
            provider: provider.into(),
            secrets,
            patience,
            not_before: Mutex::default(),
        })
    }

    /// Sends once; whatever status comes is an answer.
    pub(crate) fn send(
        &self,
        url: &str,
        headers: &[(String, String)],
        body: &[u8],
    ) -> Result<Answer> {
        let mut call = self
            .agent
            .post(url)
            .header("content-type", "application/json")
            .header("accept-encoding", "identity");
        for (name, value) in headers {
            call = call.header(name, value);
        }
        let response = call
            .send(body)
            .map_err(|error| self.call_error(url, &error))?;
        let (parts, body) = response.into_parts();
        Ok(Answer {
            status: parts.status.as_u16(),
            headers: listed(&parts.headers),
            body: Box::new(body.into_reader()),
        })
    }

    /// Sends until it is answered with success, within the patience.
    pub(crate) fn send_until(
        &self,
        url: &str,
        headers: &[(String, String)],
        body: &[u8],
    ) -> Result<Answer> {
        self.persist(|| self.success(url, headers, body))
    }

    /// Sends and reads the whole answer, until one came whole.
    pub(crate) fn exchange(
        &self,
        url: &str,
        headers: &[(String, String)],
        body: &[u8],
    ) -> Result<Vec<u8>> {
        self.persist(|| {
            let answer = self.success(url, headers, body)?;
            let bytes = self.read_all(url, answer)?;
            if let Some(title) = html_title(&bytes) {
                return Err(self.malformed(format!("a web page `{title}` instead of JSON")));
            }
            Ok(bytes)
        })
    }

    pub(crate) fn provider(&self) -> &str {
        &self.provider
    }

    pub(crate) fn malformed(&self, reason: impl Into<String>) -> Error {
        let (provider, reason) = (self.provider.clone(), self.scrub(&reason.into()));
        ErrorKind::Malformed { provider, reason }.into()
    }

    /// The error that a JSON value tells of, which came with `status`.
    pub(crate) fn told_error(&self, status: u16, value: &Value) -> Error {
        let told = Told::read(value);
        ErrorKind::Status {
            provider: self.provider.clone(),
            status,
            code: told.code.map(|code| self.scrub(&code)),
            message: self.scrub(&told.message.unwrap_or_else(|| "no message".into())),
            request_id: told.request_id,
            retry_after: None,
            should_retry: None,
        }
        .into()
    }

    /// Tells what an error while reading a body means.
    pub(crate) fn read_error(&self, url: &str, received: u64, error: std::io::Error) -> Error {
        if cancel::is_cancelled() {
            return ErrorKind::Cancelled.into();
        }
        match ureq::Error::from(error) {
            ureq::Error::Timeout(_) => self.timeout(url, self.patience.silence),
            error => ErrorKind::Interrupted {
                provider: self.provider.clone(),
                received,
                reason: self.scrub(&error.to_string()),
            }
            .into(),
        }
    }

    fn success(&self, url: &str, headers: &[(String, String)], body: &[u8]) -> Result<Answer> {
        let answer = self.send(url, headers, body)?;
        if answer.status == 200 {
            return Ok(answer);
        }
        Err(self.status_error(url, answer))
    }

    pub(crate) fn status_error(&self, url: &str, answer: Answer) -> Error {
        let retry_after = retry_after(&answer);
        let should_retry = answer
            .header("x-should-retry")
            .and_then(|word| word.parse().ok());
        let status = answer.status;
        let bytes = self.read_all(url, answer).unwrap_or_default();
        let text = String::from_utf8_lossy(&bytes);
        let value: Option<Value> = serde_json::from_str(text.trim()).ok();
        let told = value.as_ref().map(Told::read).unwrap_or_default();
        let message = told.message.unwrap_or_else(|| match html_title(&bytes) {
            Some(title) => format!("a web page `{title}`"),
            None if text.trim().is_empty() => "no message".into(),
            None => text.trim().chars().take(300).collect(),
        });
        ErrorKind::Status {
            provider: self.provider.clone(),
            status,
            code: told.code.map(|code| self.scrub(&code)),
            message: self.scrub(&message),
            request_id: told.request_id,
            retry_after,
            should_retry,
        }
        .into()
    }

    fn read_all(&self, url: &str, answer: Answer) -> Result<Vec<u8>> {
        let mut bytes = Vec::new();
        let read = answer.body.take(MAX_ANSWER_BYTES).read_to_end(&mut bytes);
        read.map_err(|error| self.read_error(url, bytes.len() as u64, error))?;
        Ok(bytes)
    }

    /// Tries until success, a permanent error, or the end of the patience.
    fn persist<T>(&self, mut attempt: impl FnMut() -> Result<T>) -> Result<T> {
        let mut paused = Duration::ZERO;
        for number in 1.. {
            paused += self.wait_for_turn();
            if cancel::is_cancelled() {
                return Err(ErrorKind::Cancelled.into());
            }
            let error = match attempt() {
                Ok(answer) => return Ok(answer),
                Err(error) => error,
            };
            let pause = self.pause_after(&error, number);
            let worth_it = error.is_transient()
                && number < self.patience.attempts
                && pause <= LONGEST_RETRY_AFTER
                && paused + pause <= self.patience.budget;
            if !worth_it {
                return Err(error);
            }
            if error.retry_after().is_some() {
                self.hold_all(pause);
            } else {
                paused += pause;
                cancel::sleep(pause);
            }
        }
        unreachable!("the attempts are numbered")
    }

    fn pause_after(&self, error: &Error, number: u32) -> Duration {
        error.retry_after().unwrap_or_else(|| {
            let pause = self.patience.pause * 2_u32.pow(number.min(8) - 1);
            // Up to a quarter less, so that many clients do not come back at once.
            pause.min(LONGEST_PAUSE).mul_f64(1.0 - 0.25 * random())
        })
    }

    fn hold_all(&self, pause: Duration) {
        let until = Instant::now() + pause;
        let mut gate = self
            .not_before
            .lock()
            .unwrap_or_else(|poisoned| poisoned.into_inner());
        *gate = Some(gate.map_or(until, |earlier| earlier.max(until)));
    }

    /// Waits while another request's `Retry-After` lasts; returns how long.
    fn wait_for_turn(&self) -> Duration {
        let until = *self
            .not_before
            .lock()
            .unwrap_or_else(|poisoned| poisoned.into_inner());
        let rest = until.and_then(|until| until.checked_duration_since(Instant::now()));
        let rest = rest.unwrap_or_default();
        cancel::sleep(rest);
        rest
    }

    fn call_error(&self, url: &str, error: &ureq::Error) -> Error {
        if cancel::is_cancelled() {
            return ErrorKind::Cancelled.into();
        }
        let reason = match error {
            ureq::Error::Timeout(ureq::Timeout::Connect | ureq::Timeout::Resolve) => {
                format!(
                    "no connection within {} s",
                    self.patience.connect.as_secs_f32()
                )
            }
            ureq::Error::Timeout(_) => return self.timeout(url, self.patience.silence),
            ureq::Error::HostNotFound => "no server of that name is known".into(),
            error => error.to_string(),
        };
        let (provider, url) = (self.provider.clone(), url.into());
        ErrorKind::Connect {
            provider,
            url,
            reason: self.scrub(&reason),
        }
        .into()
    }

    fn timeout(&self, url: &str, after: Duration) -> Error {
        ErrorKind::Timeout {
            provider: self.provider.clone(),
            url: url.into(),
            after,
        }
        .into()
    }

    fn scrub(&self, text: &str) -> String {
        let scrubbed = |text: String, secret: &Secret| secret.scrub(&text);
        self.secrets.iter().fold(text.to_owned(), scrubbed)
    }
}

/// What an error's JSON says, in whichever of the shapes: `{"error": {…}}` (OpenAI), `{"error":
/// "…"}` (Ollama), `{"code", "message"}` (DashScope), `{"error_msg"}` (DeepSeek), `{"detail"}`
/// (FastAPI), `{"error", "error_type"}` (TEI).
#[derive(Default)]
struct Told {
    code: Option<String>,
    message: Option<String>,
    request_id: Option<String>,
}

impl Told {
    fn read(value: &Value) -> Self {
        let inner = value
            .get("error")
            .filter(|error| error.is_object())
            .unwrap_or(value);
        let first = |holder: &Value, names: &[&str]| {
            names.iter().find_map(|name| match holder.get(name)? {
                Value::String(text) if !text.is_empty() => Some(text.clone()),
                Value::Number(number) => Some(number.to_string()),
                Value::Array(list) if !list.is_empty() => {
                    Some(Value::from(list.clone()).to_string())
                }
                _ => None,
            })
        };
        Self {
            code: first(inner, &["code", "type", "error_type"]),
            message: first(inner, &["message", "msg", "error_msg", "error", "detail"]),
            request_id: first(value, &["request_id", "id"]),
        }
    }
}

fn listed(headers: &HeaderMap) -> Vec<(String, String)> {
    let pairs = headers.iter();
    pairs
        .filter_map(|(name, value)| {
            Some((name.as_str().to_owned(), value.to_str().ok()?.to_owned()))
        })
        .collect()
}

/// `retry-after-ms`, or `retry-after` in seconds or as a date.
fn retry_after(answer: &Answer) -> Option<Duration> {
    let number = |name: &str| answer.header(name)?.trim().parse::<f64>().ok();
    let finite = |seconds: f64| Duration::try_from_secs_f64(seconds).ok();
    if let Some(milliseconds) = number("retry-after-ms") {
        return finite(milliseconds / 1000.0);
    }
    if let Some(seconds) = number("retry-after") {
        return finite(seconds);
    }
    let date = httpdate::parse_http_date(answer.header("retry-after")?).ok()?;
    Some(date.duration_since(SystemTime::now()).unwrap_or_default())
}

/// Between 0 and 1, different each time: the standard library seeds its hash maps so.
fn random() -> f64 {
    f64::from(RandomState::new().build_hasher().finish() as u32) / f64::from(u32::MAX)
}
