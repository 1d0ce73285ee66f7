use std::time::{Duration, SystemTime};

use serde_json::json;

use super::server::{Reply, Server};
use super::{KEY, cassette, endpoint, endpoint_with};
use crate::config::Config;
use crate::embed::{EmbedOptions, Embedder};
use crate::providers::{Endpoint, Error, ErrorKind, RemoteEmbedder, Service};

fn ok() -> Reply {
    Reply::json(
        200,
        &json!({"data": [{"index": 0, "embedding": vec![1.0; 1536]}]}),
    )
}

/// Embeds one text and tells how that ended and how many requests it took.
fn embed(server: &Server) -> (Result<(), Error>, usize) {
    let endpoint = endpoint("openai", &server.url).unwrap();
    let embedder = RemoteEmbedder::open(endpoint, "text-embedding-3-small").unwrap();
    let result = embedder.embed(&["一"], &EmbedOptions::default());
    let result = result.map(|_| ()).map_err(|error| match error {
        crate::embed::EmbedError::Remote(error) => error,
        other => panic!("{other}"),
    });
    (result, server.requests().len())
}

/// Fails so with the first request and succeeds from then on.
fn once(failure: Reply) -> Server {
    Server::start(move |seen| {
        if seen.before == 0 {
            failure.clone()
        } else {
            ok()
        }
    })
}

#[test]
fn permanent_errors_are_not_sent_again_and_every_shape_is_read() {
    let cases = [
        (
            "openai_key",
            "401 (invalid_api_key): Incorrect API key provided: [redacted].",
        ),
        ("openai_quota", "429 (insufficient_quota): You exceeded"),
        (
            "openai_context",
            "400 (invalid_request_error): This model's maximum",
        ),
        (
            "dashscope_key",
            "401 (InvalidApiKey): Invalid API-key provided.",
        ),
        (
            "dashscope_parameter",
            "400 (InvalidParameter): contents is neither",
        ),
        (
            "deepseek_balance",
            "402 (invalid_request_error): Insufficient Balance",
        ),
        ("deepseek_not_found", "404: Not Found. Please check"),
        ("deepseek_waf", "418: Requested Resource Not Found"),
        ("tei", "422 (Validation): `inputs` cannot be empty"),
        ("fastapi", "422: [{\"msg\":\"field required\"}]"),
        ("cohere", "400: invalid request: model not found"),
        ("error_as_success", "200 (server_error): 上游出错"),
    ];
    for (name, expected) in cases {
        let (status, body) = cassette(name);
        let server = Server::start(move |_| Reply::json(status, &body));
        let (result, requests) = embed(&server);
        let error = result.unwrap_err();
        assert!(error.to_string().contains(expected), "{name}: {error}");
        assert!(!format!("{error:?}").contains(KEY), "{name}: {error:?}");
        assert_eq!(requests, 1, "{name}");
    }
}

#[test]
fn what_may_pass_is_sent_again() {
    let date = httpdate::fmt_http_date(SystemTime::now() - Duration::from_secs(5));
    let body = json!({"error": {"message": "slow down"}});
    let cases = [
        Reply::json(429, &body),
        Reply::json(429, &body).with("retry-after", "0"),
        Reply::json(429, &body).with("retry-after-ms", "3"),
        Reply::json(503, &body).with("retry-after", &date),
        Reply::json(500, &body),
        Reply::json(408, &body),
        Reply::json(400, &body).with("x-should-retry", "true"),
        ok().cut_at(10),
    ];
    for failure in cases {
        let name = format!("{failure:?}");
        let server = once(failure);
        let (result, requests) = embed(&server);
        result.unwrap_or_else(|error| panic!("{name}: {error}"));
        assert_eq!(requests, 2, "{name}");
    }
}

#[test]
fn patience_ends() {
    let server = Server::start(|_| Reply::json(503, &json!({})));
    let (result, requests) = embed(&server);
    assert_eq!((result.unwrap_err().status(), requests), (Some(503), 4));
    let asks = |name, value: &'static str| {
        let server = Server::start(move |_| Reply::json(429, &json!({})).with(name, value));
        embed(&server).1
    };
    assert_eq!(asks("retry-after", "500"), 1, "longer than it is worth");
    assert_eq!(asks("x-should-retry", "false"), 1);
}

#[test]
fn web_pages_and_nonsense_are_told_from_answers() {
    let page = "<!DOCTYPE html><html><title>登录</title></html>";
    let cases = [
        (Reply::text(200, "text/html", page), "a web page `登录`"),
        (
            Reply::text(404, "text/html", page),
            "404: a web page `登录`",
        ),
        (
            Reply::text(200, "application/json", "{\"data\": ["),
            "malformed",
        ),
        (
            Reply::text(302, "text/plain", "").with("location", "http://127.0.0.1:1/"),
            "302",
        ),
    ];
    for (reply, expected) in cases {
        let server = Server::start(move |_| reply.clone());
        let (result, requests) = embed(&server);
        let error = result.unwrap_err();
        assert!(error.to_string().contains(expected), "{error}");
        assert_eq!(requests, 1);
    }
}

#[test]
fn blank_lines_before_the_answer_are_no_answer() {
    let body = format!("\n\n  \n{}", String::from_utf8(ok().body).unwrap());
    let server = Server::start(move |_| Reply::text(200, "application/json", &body));
    embed(&server).0.unwrap();
}

#[test]
fn settings_that_are_missing_are_named() {
    let config = Config::from_lookup(|_| None);
    let open = |name: &str| Endpoint::open(name, &config).unwrap_err();
    let error = open("openai");
    assert!(
        matches!(error.kind(), ErrorKind::MissingKey { variable, .. } if variable == "OPENAI_API_KEY")
    );
    assert!(error.hint().unwrap().contains(".env"));
    assert!(open("nobody").hint().unwrap().contains("dashscope"));
    assert!(
        open("openai-compatible")
            .to_string()
            .contains("OPENAI_API_BASE")
    );
    let toml = "[providers.x]\nbase_url = \"localhost:8000\"";
    let config = Config::from_lookup(|_| None).with_toml(toml).unwrap();
    let error = Endpoint::open("x", &config).unwrap_err();
    assert!(error.to_string().contains("http://"), "{error}");
}

#[test]
fn deepseek_has_no_embeddings_and_retired_models_are_named() {
    let endpoint = endpoint("deepseek", "http://127.0.0.1:1").unwrap();
    let error = RemoteEmbedder::open(endpoint.clone(), "deepseek-embedding").unwrap_err();
    assert!(matches!(error.kind(), ErrorKind::NoSuchService { .. }) && error.is_user_error());
    assert!(
        error
            .hint()
            .unwrap()
            .contains("local:multilingual-e5-small")
    );
    let error = crate::providers::RemoteChat::open(endpoint, "deepseek-chat").unwrap_err();
    assert!(error.to_string().contains("2026-07-24"), "{error}");
    assert!(error.hint().unwrap().contains("deepseek-v4-flash"));
}

#[test]
fn what_a_provider_repeats_of_our_headers_is_not_shown() {
    let server = Server::start(|seen| {
        let body = json!({"error": {"message": seen.headers, "code": "Bearer sk-of-a-header"}});
        Reply::json(400, &body)
    });
    let toml = format!(
        "[providers.x]\nbase_url = \"{}/v1\"\n[providers.x.headers]\n\
         Authorization = \"Bearer sk-of-a-header\"\nx-token = \"tok-of-a-header\"\n\
         [providers.x.models.m]\ndimensions = 3",
        server.url
    );
    let endpoint = endpoint_with("x", "http://127.0.0.1:1", &toml).unwrap();
    let embedder = RemoteEmbedder::open(endpoint, "m").unwrap();
    let error = embedder.embed(&["一"], &EmbedOptions::default());
    let error = error.unwrap_err();
    let text = format!("{error} {error:?}");
    assert!(text.contains("[redacted]"), "{text}");
    assert!(!text.contains("of-a-header"), "{text}");
}

#[test]
fn the_password_in_a_base_url_is_sent_and_not_shown() {
    let server =
        Server::start(|seen| Reply::json(400, &json!({"error": {"message": seen.headers}})));
    let host = server.url.trim_start_matches("http://").to_owned();
    let open = |host: &str| {
        let toml = format!(
            "[providers.x]\nbase_url = \"http://user:sekret-pass@{host}/v1\"\nmax_retries = 0\n\
             [providers.x.models.m]\ndimensions = 3"
        );
        let config = Config::from_lookup(|_| None).with_toml(&toml).unwrap();
        assert!(!format!("{config:?}").contains("sekret"), "{config:?}");
        let endpoint = Endpoint::open("x", &config).unwrap();
        assert!(!format!("{endpoint:?}").contains("sekret"), "{endpoint:?}");
        assert_eq!(endpoint.base_url(), format!("http://{host}/v1"));
        let embedder = RemoteEmbedder::open(endpoint, "m").unwrap();
        let error = embedder.embed(&["一"], &EmbedOptions::default());
        let error = error.unwrap_err();
        format!("{error} {error:?}")
    };
    // `user:sekret-pass`.
    let basic = "dXNlcjpzZWtyZXQtcGFzcw==";
    for text in [open(&host), open("127.0.0.1:1")] {
        assert!(!text.contains("sekret") && !text.contains(basic), "{text}");
        assert!(
            text.contains("127.0.0.1") || text.contains("[redacted]"),
            "{text}"
        );
    }
    assert!(server.requests()[0].headers.contains(basic));
    let config = Config::from_lookup(|name| {
        (name == "OPENAI_BASE_URL").then(|| "user:sekret-pass@host".to_owned())
    });
    let error = Endpoint::open("openai", &config).unwrap_err();
    assert!(!format!("{error} {error:?}").contains("sekret"), "{error}");
}

#[test]
fn errors_that_came_as_a_success_are_known_in_every_shape() {
    let endpoint = endpoint("dashscope", "http://127.0.0.1:1").unwrap();
    let told = |value: serde_json::Value| endpoint.failure_in(&value).map(|e| e.to_string());
    let key = json!({"code": "InvalidApiKey", "message": format!("bad key Bearer {KEY}")});
    let error = told(key).unwrap();
    assert!(
        error.contains("InvalidApiKey") && !error.contains(KEY),
        "{error}"
    );
    assert!(told(json!({"error": {"message": "m"}})).is_some());
    assert!(told(json!({"code": 401, "message": "m", "data": null})).is_some());
    for answer in [
        json!({"code": "", "message": "", "output": {"embeddings": []}}),
        json!({"code": "200", "output": {}}),
        json!({"code": 0, "data": []}),
        json!({"choices": [], "error": null}),
    ] {
        assert_eq!(told(answer.clone()), None, "{answer}");
    }
}

#[test]
fn dashscopes_own_variables_are_heeded() {
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("key");
    let path = file.to_str().unwrap().to_owned();
    let open = || {
        let path = path.clone();
        let config = Config::from_lookup(move |name| match name {
            "DASHSCOPE_API_KEY_FILE_PATH" => Some(path.clone()),
            "DASHSCOPE_COMPATIBLE_BASE_URL" => Some("http://127.0.0.1:2/other/v1/".into()),
            "DASHSCOPE_WORKSPACE_ID" => Some("ws-1".into()),
            _ => None,
        });
        Endpoint::open("dashscope", &config)
    };
    let error = open().unwrap_err();
    assert!(
        error.to_string().contains("DASHSCOPE_API_KEY_FILE_PATH"),
        "{error}"
    );
    std::fs::write(&file, format!("{KEY}\n")).unwrap();
    let endpoint = open().unwrap();
    let has = |name: &str, value: &str| {
        let pair = (name.to_owned(), value.to_owned());
        endpoint.headers().contains(&pair)
    };
    assert!(has("authorization", &format!("Bearer {KEY}")));
    assert!(has("x-dashscope-workspace", "ws-1"));
    let url = |service| endpoint.url(service).unwrap();
    assert_eq!(
        url(Service::Chat),
        "http://127.0.0.1:2/other/v1/chat/completions"
    );
    assert!(url(Service::Embeddings).starts_with("https://dashscope.aliyuncs.com/api/v1/"));
}

#[test]
fn a_key_is_shown_nowhere() {
    let toml = "[providers.openai]\nheaders = { \"x-org\" = \"密\" }";
    let endpoint = endpoint_with("openai", "http://127.0.0.1:1", "").unwrap();
    assert!(!format!("{endpoint:?}").contains(KEY));
    assert!(endpoint_with("openai", "http://127.0.0.1:1", toml).is_ok());
    let config =
        Config::from_lookup(|name| (name == "OPENAI_API_KEY").then(|| "sk-two\nlines".to_owned()));
    let error = Endpoint::open("openai", &config).unwrap_err();
    assert!(!format!("{error} {error:?}").contains("sk-two"), "{error}");
}
