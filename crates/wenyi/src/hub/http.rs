//! Requests to model hubs, and every way that they fail told apart.
//!
//! Redirects are followed here rather than by the client: the hash that a hub announces stands on
//! the redirect, and the token must not travel to another server.

use std::io::Read;
use std::time::{Duration, Instant};

use ureq::http::{HeaderMap, Uri};
use ureq::tls::{PemItem, RootCerts, TlsConfig, parse_pem};
use ureq::{Agent, Proxy, Timeout};

use super::cache::check_cancelled;
use super::error::{Error, ErrorKind, Result};
use super::settings::{Patience, Settings};
use crate::progress::Progress;

/// More redirects than any hub makes.
const MAX_REDIRECTS: usize = 8;

/// A listing of a repository's files; the largest known are far below.
const MAX_LISTING_BYTES: u64 = 32 << 20;

/// How often a pause looks whether the user wants to stop.
const PAUSE_STEP: Duration = Duration::from_millis(50);

/// A client that knows the proxy, the certificates and how long to wait.
pub(crate) struct Client {
    agent: Agent,
    proxy: Option<Proxy>,
    patience: Patience,
}

/// What to ask for.
#[derive(Clone, Debug, Default)]
pub(crate) struct Request {
    pub(crate) url: String,
    /// Sent to the server of `url` alone.
    pub(crate) token: Option<String>,
    /// Continue at this byte.
    pub(crate) start: u64,
    /// Continue only if the file is still this one.
    pub(crate) etag: Option<String>,
}

/// A successful answer: status 200, 206 or 416, and not a web page by its header.
pub(crate) struct Answer {
    pub(crate) status: u16,
    pub(crate) headers: HeaderMap,
    /// What the hub announced on its redirect, or here.
    pub(crate) announced: Announced,
    pub(crate) body: Box<dyn Read>,
}

/// What a hub says of a file beforehand.
#[derive(Clone, Debug, Default)]
pub(crate) struct Announced {
    pub(crate) sha256: Option<String>,
    pub(crate) size: Option<u64>,
}

impl Client {
    pub(crate) fn new(settings: &Settings) -> Result<Self> {
        let patience = settings.patience;
        let proxy = settings
            .proxy
            .as_deref()
            .map(|url| proxy(url, &settings.no_proxy))
            .transpose()?;
        let mut config = Agent::config_builder()
            .http_status_as_error(false)
            .max_redirects(0)
            .max_redirects_will_error(false)
            .user_agent(concat!("wenyi/", env!("CARGO_PKG_VERSION")))
            .timeout_resolve(Some(patience.connect))
            .timeout_connect(Some(patience.connect))
            .timeout_recv_response(Some(patience.silence))
            .timeout_per_read(Some(patience.silence))
            .proxy(proxy.clone());
        if let Some(path) = &settings.certificates {
            let pem = std::fs::read(path).map_err(|error| Error::io(path, error))?;
            let certificates = parse_pem(&pem).filter_map(|item| match item {
                Ok(PemItem::Certificate(certificate)) => Some(certificate),
                _ => None,
            });
            let certificates: Vec<_> = certificates.collect();
            if !certificates.is_empty() {
                let roots = RootCerts::new_with_certs(&certificates);
                config = config.tls_config(TlsConfig::builder().root_certs(roots).build());
            }
        }
        Ok(Self {
            agent: config.build().into(),
            proxy,
            patience,
        })
    }

    pub(crate) fn patience(&self) -> &Patience {
        &self.patience
    }

    /// One exchange, redirects followed; any status that is no file is an error.
    pub(crate) fn get(&self, request: &Request) -> Result<Answer> {
        let origin = origin(&request.url);
        let mut announced = Announced::default();
        let mut url = request.url.clone();
        for _ in 0..=MAX_REDIRECTS {
            let token = request
                .token
                .as_deref()
                .filter(|_| self::origin(&url) == origin);
            let answer = self.exchange(&url, token, request)?;
            announced.read(&answer.headers);
            match answer.status {
                301 | 302 | 303 | 307 | 308 => {
                    let Some(location) = header(&answer.headers, "location") else {
                        let reason = "a redirect to nowhere".into();
                        return Err(ErrorKind::Answer { url, reason }.into());
                    };
                    url = join(&url, location);
                }
                200 | 206 | 416 if is_html(&answer.headers) && !request.url.ends_with(".html") => {
                    let title = html_title(&beginning(answer.body)).unwrap_or_default();
                    return Err(ErrorKind::HtmlPage {
                        url: request.url.clone(),
                        title,
                    }
                    .into());
                }
                200 | 206 | 416 => {
                    return Ok(Answer {
                        announced,
                        ..answer
                    });
                }
                status => {
                    let retry_after = retry_after(&answer.headers);
                    return Err(status_error(request, status, token.is_some(), retry_after));
                }
            }
        }
        let reason = format!("more than {MAX_REDIRECTS} redirects");
        Err(ErrorKind::Answer {
            url: request.url.clone(),
            reason,
        }
        .into())
    }

    /// A JSON answer, tried again while that may help.
    pub(crate) fn get_json<T: serde::de::DeserializeOwned>(
        &self,
        request: &Request,
        progress: &dyn Progress,
    ) -> Result<T> {
        let mut backoff = Backoff::new(self.patience);
        loop {
            match self
                .get(request)
                .and_then(|answer| self.read_all(answer, &request.url))
            {
                Ok(bytes) => {
                    return serde_json::from_slice(&bytes).map_err(|error| {
                        let (url, reason) = (request.url.clone(), error.to_string());
                        ErrorKind::Answer { url, reason }.into()
                    });
                }
                Err(error) => backoff.pause(error, progress)?,
            }
        }
    }

    /// Tells what an error while reading a body means.
    pub(crate) fn read_error(&self, url: &str, received: u64, error: std::io::Error) -> Error {
        match ureq::Error::from(error) {
            ureq::Error::Timeout(_) => ErrorKind::Timeout {
                url: url.into(),
                after: self.patience.silence,
            }
            .into(),
            error => {
                let reason = error.to_string();
                ErrorKind::Interrupted {
                    url: url.into(),
                    received,
                    reason,
                }
                .into()
            }
        }
    }

    fn read_all(&self, answer: Answer, url: &str) -> Result<Vec<u8>> {
        let mut bytes = Vec::new();
        (answer.body.take(MAX_LISTING_BYTES).read_to_end(&mut bytes))
            .map_err(|error| self.read_error(url, bytes.len() as u64, error))?;
        if let Some(title) = html_title(&bytes) {
            return Err(ErrorKind::HtmlPage {
                url: url.into(),
                title,
            }
            .into());
        }
        Ok(bytes)
    }

    fn exchange(&self, url: &str, token: Option<&str>, request: &Request) -> Result<Answer> {
        let mut call = self.agent.get(url).header("accept-encoding", "identity");
        if let Some(token) = token {
            call = call.header("authorization", format!("Bearer {token}"));
        }
        if request.start > 0 {
            call = call.header("range", format!("bytes={}-", request.start));
            if let Some(etag) = &request.etag {
                call = call.header("if-range", etag);
            }
        }
        let response = call.call().map_err(|error| self.call_error(url, error))?;
        let (parts, body) = response.into_parts();
        Ok(Answer {
            status: parts.status.as_u16(),
            headers: parts.headers,
            announced: Announced::default(),
            body: Box::new(body.into_reader()),
        })
    }

    /// Tells what a failed exchange means; before an answer, the fault is the proxy's if we use one.
    fn call_error(&self, url: &str, error: ureq::Error) -> Error {
        let through = self
            .proxy
            .as_ref()
            .filter(|proxy| url.parse::<Uri>().is_ok_and(|uri| !proxy.is_no_proxy(&uri)));
        let url = url.to_string();
        let reason = error.to_string();
        let reached = |error: &ureq::Error| match error {
            // Once connected, a broken or silent line may well be better in a moment.
            ureq::Error::Io(error) => !matches!(
                error.kind(),
                std::io::ErrorKind::ConnectionRefused
                    | std::io::ErrorKind::HostUnreachable
                    | std::io::ErrorKind::NetworkUnreachable
                    | std::io::ErrorKind::AddrNotAvailable
                    | std::io::ErrorKind::PermissionDenied
            ),
            ureq::Error::Timeout(kind) => !matches!(kind, Timeout::Connect | Timeout::Resolve),
            ureq::Error::Protocol(_) => true,
            _ => false,
        };
        let kind = match (&error, through) {
            (ureq::Error::Timeout(_), _) if reached(&error) => ErrorKind::Timeout {
                url,
                after: self.patience.silence,
            },
            (_, None) if reached(&error) => ErrorKind::Interrupted {
                url,
                received: 0,
                reason,
            },
            (_, Some(proxy)) => {
                let proxy = format!("{}:{}", proxy.host(), proxy.port());
                ErrorKind::Proxy {
                    proxy,
                    url,
                    reason: connect_reason(&error, &self.patience),
                }
            }
            (_, None) => ErrorKind::Connect {
                url,
                reason: connect_reason(&error, &self.patience),
            },
        };
        kind.into()
    }
}

/// Pauses between attempts, longer each time, within a budget.
pub(crate) struct Backoff {
    patience: Patience,
    fruitless: u32,
    paused: Duration,
}

impl Backoff {
    pub(crate) fn new(patience: Patience) -> Self {
        Self {
            patience,
            fruitless: 0,
            paused: Duration::ZERO,
        }
    }

    /// The last attempt brought something, so the line works.
    pub(crate) fn reset(&mut self) {
        self.fruitless = 0;
    }

    /// Waits until it makes sense to try again after `error`, or gives it back.
    pub(crate) fn pause(&mut self, error: Error, progress: &dyn Progress) -> Result<()> {
        self.fruitless += 1;
        if !error.is_transient() || self.fruitless >= self.patience.attempts {
            return Err(error);
        }
        let asked = match error.kind() {
            ErrorKind::RateLimited { retry_after, .. } | ErrorKind::Server { retry_after, .. } => {
                *retry_after
            }
            _ => None,
        };
        let pause = asked.unwrap_or(self.patience.pause * 2u32.pow(self.fruitless.min(8) - 1));
        if self.paused + pause > self.patience.budget {
            return Err(error);
        }
        self.paused += pause;
        if pause >= Duration::from_secs(2) {
            progress.note(&format!("{error}; trying again in {} s", pause.as_secs()));
        }
        let end = Instant::now() + pause;
        while let Some(rest) = end
            .checked_duration_since(Instant::now())
            .filter(|d| !d.is_zero())
        {
            check_cancelled(progress)?;
            std::thread::sleep(rest.min(PAUSE_STEP));
        }
        check_cancelled(progress)
    }
}

impl Announced {
    /// Reads what this hop says; an earlier hop, nearer the hub, has the word.
    fn read(&mut self, headers: &HeaderMap) {
        let sha256 = header(headers, "x-linked-etag").and_then(sha256_in);
        let size = header(headers, "x-linked-size").and_then(|size| size.parse().ok());
        self.sha256 = self.sha256.take().or(sha256);
        self.size = self.size.or(size);
    }
}

pub(crate) fn header<'a>(headers: &'a HeaderMap, name: &str) -> Option<&'a str> {
    headers.get(name).and_then(|value| value.to_str().ok())
}

/// The title of a web page, if `bytes` begin one.
pub(crate) fn html_title(bytes: &[u8]) -> Option<String> {
    let text = String::from_utf8_lossy(&bytes[..bytes.len().min(4096)]);
    let lower = text
        .trim_start_matches('\u{feff}')
        .trim_start()
        .to_ascii_lowercase();
    if !lower.starts_with("<!doctype html") && !lower.starts_with("<html") {
        return None;
    }
    let title = lower.find("<title>").and_then(|start| {
        let start = start + "<title>".len();
        // `lower` and its source differ in ASCII case only, from the trimmed start on.
        let source = &text[text.len() - lower.len()..];
        lower[start..]
            .find('<')
            .map(|end| source[start..start + end].trim().to_string())
    });
    Some(title.unwrap_or_default())
}

/// The error for a web page that came instead of the file; `None` if `body` begins no page.
pub(crate) fn page_error(body: Box<dyn Read>, url: &str) -> Option<Error> {
    let title = html_title(&beginning(body))?;
    Some(
        ErrorKind::HtmlPage {
            url: url.into(),
            title,
        }
        .into(),
    )
}

fn beginning(body: Box<dyn Read>) -> Vec<u8> {
    let mut bytes = Vec::new();
    // What breaks off is a beginning all the same.
    let _ = body.take(4096).read_to_end(&mut bytes);
    bytes
}

fn is_html(headers: &HeaderMap) -> bool {
    header(headers, "content-type").is_some_and(|kind| kind.trim_start().starts_with("text/html"))
}

/// A SHA-256 in an entity tag: 64 hex digits; a git hash has 40.
fn sha256_in(etag: &str) -> Option<String> {
    let tag = etag.trim_start_matches("W/").trim_matches('"');
    (tag.len() == 64 && tag.bytes().all(|byte| byte.is_ascii_hexdigit()))
        .then(|| tag.to_ascii_lowercase())
}

fn retry_after(headers: &HeaderMap) -> Option<Duration> {
    header(headers, "retry-after")?
        .trim()
        .parse()
        .ok()
        .map(Duration::from_secs)
}

fn status_error(
    request: &Request,
    status: u16,
    token_sent: bool,
    retry_after: Option<Duration>,
) -> Error {
    let url = request.url.clone();
    match status {
        401 => ErrorKind::Unauthorized { url, token_sent },
        403 => ErrorKind::Forbidden { url, token_sent },
        404 | 410 => ErrorKind::NotFound { url },
        407 => {
            let reason = "it wants a name and password (407)".into();
            ErrorKind::Proxy {
                proxy: "on the way".into(),
                url,
                reason,
            }
        }
        429 => ErrorKind::RateLimited { url, retry_after },
        500..=599 => ErrorKind::Server {
            url,
            status,
            retry_after,
        },
        _ => ErrorKind::Status { url, status },
    }
    .into()
}

fn connect_reason(error: &ureq::Error, patience: &Patience) -> String {
    match error {
        ureq::Error::Timeout(_) => {
            format!("no connection within {} s", patience.connect.as_secs_f32())
        }
        ureq::Error::HostNotFound => "no server of that name is known".into(),
        ureq::Error::Io(error) => error.to_string(),
        error => error.to_string(),
    }
}

/// The proxy at `url`, passed over for the servers in `no_proxy`.
pub(crate) fn proxy(url: &str, no_proxy: &[String]) -> Result<Proxy> {
    let refuse = |_| ErrorKind::Setting {
        name: "HTTPS_PROXY",
        value: url.into(),
        expected: "`http://host:port` or `socks5://host:port`",
    };
    let plain = Proxy::new(url).map_err(refuse)?;
    let mut builder = Proxy::builder(plain.protocol())
        .host(plain.host())
        .port(plain.port());
    if let Some(name) = plain.username() {
        builder = builder.username(name);
    }
    if let Some(password) = plain.password() {
        builder = builder.password(password);
    }
    for host in no_proxy.iter().filter(|host| !host.is_empty()) {
        builder = builder.no_proxy(host);
    }
    builder.build().map_err(refuse).map_err(Error::from)
}

/// Scheme, host and port.
fn origin(url: &str) -> &str {
    let start = url.find("://").map_or(0, |at| at + 3);
    url[start..]
        .find('/')
        .map_or(url, |end| &url[..start + end])
}

/// Where a redirect from `base` leads.
fn join(base: &str, location: &str) -> String {
    if location.contains("://") {
        location.into()
    } else if location.starts_with("//") {
        format!("{}:{location}", base.split(':').next().unwrap_or("https"))
    } else if location.starts_with('/') {
        format!("{}{location}", origin(base))
    } else {
        let folder = base.rsplit_once('/').map_or(base, |(folder, _)| folder);
        format!("{folder}/{location}")
    }
}

/// A path for a URL: every part percent-encoded, the slashes kept.
pub(crate) fn encode_path(path: &str) -> String {
    let mut encoded = String::with_capacity(path.len());
    for byte in path.bytes() {
        match byte {
            b'A'..=b'Z' | b'a'..=b'z' | b'0'..=b'9' | b'-' | b'.' | b'_' | b'~' | b'/' => {
                encoded.push(char::from(byte));
            }
            _ => encoded.push_str(&format!("%{byte:02X}")),
        }
    }
    encoded
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn redirects_lead_where_browsers_go() {
        let base = "https://hub.example/a/b";
        assert_eq!(
            join(base, "https://other.example/x"),
            "https://other.example/x"
        );
        assert_eq!(join(base, "//other.example/x"), "https://other.example/x");
        assert_eq!(join(base, "/x?y=1"), "https://hub.example/x?y=1");
        assert_eq!(join(base, "c"), "https://hub.example/a/c");
        assert_ne!(
            origin("https://hub.example/a"),
            origin("https://hub.example:8443/a")
        );
    }

    #[test]
    fn pages_are_known_by_their_beginning() {
        let page = "\u{feff} <!DOCTYPE html><HTML><head><Title> 校园网登录 </title>".as_bytes();
        assert_eq!(html_title(page).as_deref(), Some("校园网登录"));
        assert_eq!(html_title(b"<html>").as_deref(), Some(""));
        assert_eq!(html_title(b"{\"html\": 1}"), None);
        assert_eq!(html_title(b"<s>\n<pad>\n"), None);
    }

    #[test]
    fn only_a_sha256_is_taken_from_an_entity_tag() {
        let hash = "AB".repeat(32);
        assert_eq!(sha256_in(&format!("\"{hash}\"")), Some("ab".repeat(32)));
        assert_eq!(sha256_in(&format!("\"{}\"", "ab".repeat(20))), None);
    }

    #[test]
    fn paths_are_encoded_part_by_part() {
        assert_eq!(
            encode_path("1_Pooling/配置 a.json"),
            "1_Pooling/%E9%85%8D%E7%BD%AE%20a.json"
        );
    }
}
