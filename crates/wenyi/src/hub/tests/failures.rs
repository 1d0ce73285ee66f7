//! Each way that a hub, a network or a disk fails has its own error, and leaves nothing half done.

use std::net::TcpListener;
use std::time::Instant;

use super::server::Reply;
use super::*;

const WEIGHTS: &str = "model.safetensors";

/// What pulling gives if the server answers requests for the weights so.
fn pull_with(
    reply: impl Fn(usize) -> Option<Reply> + Send + Sync + 'static,
) -> (Bench, Server, Error) {
    let server = Server::start(files(), move |seen| {
        if seen.path.ends_with(WEIGHTS) {
            reply(seen.before)
        } else {
            None
        }
    });
    let bench = Bench::new(&server.url);
    let error = bench.pull().expect_err("the server misbehaves");
    assert!(
        !bench.folder("test--model/main").exists(),
        "nothing may be installed after {error}"
    );
    assert!(bench.hub.path(MODEL).is_err());
    (bench, server, error)
}

#[test]
fn a_wrong_hash_installs_nothing_and_leaves_no_trace_of_the_file() {
    let mut wrong = files()[WEIGHTS].clone();
    wrong[1234] ^= 1;
    let (bench, server, error) = pull_with(move |_| Some(Reply::Full(200, vec![], wrong.clone())));
    assert!(
        matches!(error.kind(), ErrorKind::WrongHash { .. }),
        "{error}"
    );
    assert!(
        error
            .hint()
            .expect("a hint")
            .contains("nothing was installed")
    );
    assert_eq!(
        server.requests_for(WEIGHTS).len(),
        1,
        "asking again would bring the same"
    );
    let left = std::fs::read_dir(bench.staging()).expect("kept").flatten();
    assert!(
        left.into_iter()
            .all(|e| !e.file_name().to_string_lossy().starts_with(WEIGHTS))
    );
}

#[test]
fn a_hash_announced_on_a_redirect_is_held_to() {
    let server = Server::start(files(), |seen| {
        if seen.path == "/store" {
            return Some(Reply::Full(200, vec![], b"[]".to_vec()));
        }
        let hash = server::sha256(b"another");
        let headers = vec![
            ("location", "/store".into()),
            ("x-linked-etag", format!("\"{hash}\"")),
        ];
        seen.path
            .ends_with("resolve/c0ffee/tokenizer.json")
            .then(|| Reply::Full(302, headers, vec![]))
    });
    let error = Bench::new(&server.url)
        .pull()
        .expect_err("another file came");
    assert!(
        matches!(error.kind(), ErrorKind::WrongHash { .. }),
        "{error}"
    );
}

#[test]
fn a_wrong_length_is_refused_before_the_file_is_fetched() {
    let (_, _, error) = pull_with(|_| Some(Reply::Full(200, vec![], vec![7; 299_999])));
    match error.kind() {
        ErrorKind::WrongSize {
            expected, received, ..
        } => {
            assert_eq!((*expected, *received), (300_000, 299_999));
        }
        other => panic!("{other}"),
    }
}

#[test]
fn a_login_page_is_named_by_its_title() {
    let page = "<!DOCTYPE html><html><head><title>校园网登录</title></head>".as_bytes();
    for headers in [
        vec![("content-type", "text/html; charset=utf-8".to_string())],
        vec![],
    ] {
        for listing in [true, false] {
            let headers = headers.clone();
            let server = Server::start(files(), move |seen| {
                let hit = seen.path.starts_with("/api/") == listing;
                hit.then(|| Reply::Full(200, headers.clone(), page.to_vec()))
            });
            let bench = Bench::new(&server.url);
            let error = bench.pull().expect_err("a page");
            match error.kind() {
                ErrorKind::HtmlPage { title, .. } => assert_eq!(title, "校园网登录"),
                other => panic!("{other}"),
            }
            assert!(!bench.folder("test--model/main").exists());
        }
    }
}

#[test]
fn a_page_in_place_of_a_file_of_unknown_length_is_known_by_its_first_bytes() {
    let page = b"\n<html><title>Sign in</title>";
    let server = Server::start(files(), move |seen| {
        let list =
            r#"{"siblings": [{"rfilename": "config.json"}, {"rfilename": "model.safetensors"}]}"#;
        let body = if seen.path.starts_with("/api/") {
            list.as_bytes()
        } else {
            page
        };
        Some(Reply::Full(
            200,
            vec![("content-type", "application/octet-stream".into())],
            body.to_vec(),
        ))
    });
    let error = Bench::new(&server.url).pull().expect_err("a page");
    assert!(error.to_string().contains("Sign in"), "{error}");
    assert!(error.hint().expect("a hint").contains("log in"));
}

#[test]
fn statuses_have_their_own_errors_and_are_asked_once() {
    type Check = fn(&ErrorKind) -> bool;
    let cases: [(u16, Check, &str); 5] = [
        (
            401,
            |kind| {
                matches!(
                    kind,
                    ErrorKind::Unauthorized {
                        token_sent: false,
                        ..
                    }
                )
            },
            "HF_TOKEN",
        ),
        (
            403,
            |kind| matches!(kind, ErrorKind::Forbidden { .. }),
            "terms",
        ),
        (
            404,
            |kind| matches!(kind, ErrorKind::NotFound { .. }),
            "revision",
        ),
        (
            407,
            |kind| matches!(kind, ErrorKind::Proxy { .. }),
            "HTTPS_PROXY",
        ),
        (
            418,
            |kind| matches!(kind, ErrorKind::Status { status: 418, .. }),
            "",
        ),
    ];
    for (status, check, hint) in cases {
        let (_, server, error) = pull_with(move |_| Some(Reply::status(status)));
        assert!(check(error.kind()), "{status}: {error}");
        assert!(
            error.hint().unwrap_or_default().contains(hint),
            "{status}: {:?}",
            error.hint()
        );
        assert_eq!(server.requests_for(WEIGHTS).len(), 1, "{status}");
    }
}

#[test]
fn a_refused_token_is_told_from_none() {
    let server = Server::start(files(), |_| Some(Reply::status(401)));
    let bench = Bench::with(&server.url, |s| s.huggingface_token = Some("old".into()));
    let error = bench.pull().expect_err("refused");
    assert!(
        error.to_string().contains("the token was refused"),
        "{error}"
    );
    assert!(error.is_user_error());
}

#[test]
fn too_many_requests_are_waited_out_as_long_as_the_server_asks() {
    let server = Server::start(files(), |seen| {
        let wait = vec![("retry-after", "1".to_string())];
        let busy = seen.path.ends_with(WEIGHTS) && seen.before == 0;
        busy.then(|| Reply::Full(429, wait, vec![]))
    });
    let begin = Instant::now();
    Bench::new(&server.url).pull().expect("pulled");
    assert!(begin.elapsed() >= Duration::from_secs(1), "it must wait");
}

#[test]
fn a_server_that_asks_for_an_hour_is_not_waited_for() {
    let (_, server, error) = pull_with(|_| {
        Some(Reply::Full(
            429,
            vec![("retry-after", "3600".to_string())],
            vec![],
        ))
    });
    assert!(
        matches!(error.kind(), ErrorKind::RateLimited { .. }),
        "{error}"
    );
    assert!(error.to_string().contains("3600 s"), "{error}");
    assert_eq!(server.requests_for(WEIGHTS).len(), 1);
}

#[test]
fn a_failing_server_is_asked_again_and_then_given_up() {
    let server = Server::start(files(), |seen| {
        (seen.path.ends_with(WEIGHTS) && seen.before < 2).then(|| Reply::status(503))
    });
    Bench::new(&server.url)
        .pull()
        .expect("the third attempt works");

    let (_, server, error) = pull_with(|_| Some(Reply::status(500)));
    assert!(
        matches!(error.kind(), ErrorKind::Server { status: 500, .. }),
        "{error}"
    );
    assert!(!error.is_user_error());
    assert_eq!(server.requests_for(WEIGHTS).len(), 3, "three attempts");
}

#[test]
fn a_silent_server_is_given_up_after_a_while() {
    let server = Server::start(files(), |_| Some(Reply::Silence(Duration::from_secs(3))));
    let bench = Bench::with(&server.url, |settings| {
        settings.patience.silence = Duration::from_millis(200);
        settings.patience.attempts = 2;
    });
    let error = bench.pull().expect_err("silence");
    assert!(matches!(error.kind(), ErrorKind::Timeout { .. }), "{error}");
    assert_eq!(server.requests().len(), 2);
}

#[test]
fn a_line_that_always_breaks_at_once_is_given_up() {
    let (_, server, error) =
        pull_with(|_| Some(Reply::Cut(200, vec![], files()[WEIGHTS].clone(), 0)));
    assert!(
        matches!(error.kind(), ErrorKind::Interrupted { .. }),
        "{error}"
    );
    assert_eq!(server.requests_for(WEIGHTS).len(), 3);
}

#[test]
fn a_refused_connection_and_a_dead_proxy_are_told_apart() {
    let closed = {
        let listener = TcpListener::bind("127.0.0.1:0").expect("a port");
        listener.local_addr().expect("an address")
    };
    let error = Bench::new(&format!("http://{closed}"))
        .pull()
        .expect_err("refused");
    assert!(matches!(error.kind(), ErrorKind::Connect { .. }), "{error}");

    let server = Server::start(files(), |_| None);
    let proxy = format!("http://user:secret@{closed}");
    let bench = Bench::with(&server.url, |settings| settings.proxy = Some(proxy.clone()));
    let error = bench.pull().expect_err("the proxy is dead");
    assert!(matches!(error.kind(), ErrorKind::Proxy { .. }), "{error}");
    assert!(
        error.to_string().contains(&closed.to_string()) && !error.to_string().contains("secret")
    );
    assert!(
        server.requests().is_empty(),
        "nothing may go past the proxy"
    );

    let bench = Bench::with(&server.url, |settings| {
        settings.proxy = Some(proxy);
        settings.no_proxy = vec!["127.0.0.1".into()];
    });
    bench.pull().expect("`NO_PROXY` goes past it");
}

#[test]
fn a_proxy_that_refuses_is_named() {
    let proxy = Server::start(files(), |_| Some(Reply::status(403)));
    let bench = Bench::with("http://hub.invalid", |settings| {
        settings.proxy = Some(proxy.url.clone());
    });
    let error = bench.pull().expect_err("refused");
    assert!(matches!(error.kind(), ErrorKind::Proxy { .. }), "{error}");
    assert!(error.to_string().contains("403"), "{error}");
}

#[test]
fn a_proxy_address_that_is_none_is_a_setting_to_mend() {
    let bench = Bench::with("http://hub.invalid", |s| s.proxy = Some("ftp://x y".into()));
    let error = bench.pull().expect_err("nonsense");
    assert!(
        matches!(error.kind(), ErrorKind::Setting { .. }) && error.is_user_error(),
        "{error}"
    );
}

#[test]
fn every_source_that_failed_is_listed() {
    let server = Server::start(files(), |_| Some(Reply::status(404)));
    let error = Bench::new(&server.url)
        .hub
        .resolve(MODEL, &Silent)
        .expect_err("nowhere");
    let text = error.to_string();
    assert!(
        text.contains("huggingface test/model") && text.contains("modelscope test/model"),
        "{text}"
    );
    assert!(
        error.hint().is_some() && error.is_user_error(),
        "there is no such repository"
    );

    let server = Server::start(files(), |seen| {
        Some(Reply::status(if seen.path.starts_with("/api/v1/") {
            500
        } else {
            404
        }))
    });
    let error = Bench::new(&server.url)
        .hub
        .resolve(MODEL, &Silent)
        .expect_err("nowhere");
    assert!(
        !error.is_user_error(),
        "one of them may have it when it works again"
    );
}

#[test]
fn a_damaged_model_can_be_removed() {
    let server = Server::start(files(), |_| None);
    let bench = Bench::new(&server.url);
    let model = bench.pull().expect("pulled");
    std::fs::write(model.path.join("manifest.json"), "{").expect("written");
    let error = bench.hub.resolve(MODEL, &Silent).expect_err("damaged");
    assert!(
        error
            .hint()
            .expect("a hint")
            .contains("wenyi models remove"),
        "{error}"
    );
    assert!(bench.hub.remove(MODEL, &Silent).expect("removed") > 300_000);
    bench.pull().expect("pulled again");
}

#[test]
fn offline_opens_no_socket_and_runs_no_pip() {
    let listener = TcpListener::bind("127.0.0.1:0").expect("a port");
    listener.set_nonblocking(true).expect("set");
    let url = format!("http://{}", listener.local_addr().expect("an address"));
    let bench = Bench::with(&url, |settings| {
        settings.offline = true;
        settings.pip = Some("/nothing/that/could/run".into());
    });
    for model in [MODEL, "all-MiniLM-L6-v2", "bge-m3"] {
        for again in [true, false] {
            let options = PullOptions {
                again,
                ..PullOptions::default()
            };
            let error = bench
                .hub
                .pull(model, &options, &Silent)
                .expect_err("offline");
            assert!(matches!(error.kind(), ErrorKind::Offline { .. }), "{error}");
            assert!(error.hint().expect("a hint").contains("bundle"));
        }
        assert!(
            bench
                .hub
                .resolve(model, &Silent)
                .expect_err("offline")
                .is_user_error()
        );
    }
    let nobody = listener.accept().expect_err("no connection was made");
    assert_eq!(nobody.kind(), std::io::ErrorKind::WouldBlock);
}

#[test]
fn listings_that_make_no_sense_are_refused() {
    for (body, expected) in [
        ("{\"siblings\": [", "not understood"),
        ("[]", "not understood"),
        (r#"{"siblings": []}"#, "no `.safetensors`"),
        (
            r#"{"siblings": [{"rfilename": "../../x.gguf"}]}"#,
            "file name",
        ),
        (
            r#"{"siblings": [{"rfilename": "a\\..\\b.gguf"}]}"#,
            "file name",
        ),
    ] {
        let server = Server::start(files(), move |_| {
            Some(Reply::Full(200, vec![], body.into()))
        });
        let error = Bench::new(&server.url).pull().expect_err(body);
        assert!(error.to_string().contains(expected), "{body}: {error}");
    }
}

#[test]
fn redirects_in_a_circle_end() {
    let (_, server, error) = pull_with(|_| {
        Some(Reply::Full(
            302,
            vec![("location", "model.safetensors".into())],
            vec![],
        ))
    });
    assert!(matches!(error.kind(), ErrorKind::Answer { .. }), "{error}");
    assert!(server.requests_for(WEIGHTS).len() < 20);
}

#[cfg(target_os = "linux")]
#[test]
fn a_full_disk_is_told_and_another_source_not_tried() {
    let server = Server::start(files(), |_| None);
    let bench = Bench::new(&server.url);
    // A device that is always full, under the name that the download is written to.
    std::fs::create_dir_all(bench.staging()).expect("made");
    let partial = bench.staging().join("model.safetensors.partial");
    std::os::unix::fs::symlink("/dev/full", &partial).expect("linked");
    let error = bench.hub.resolve(MODEL, &Silent).expect_err("full");
    assert!(
        matches!(error.kind(), ErrorKind::DiskFull { .. }),
        "{error}"
    );
    assert!(error.hint().expect("a hint").contains("WENYI_CACHE"));
    assert!(
        server
            .requests()
            .iter()
            .all(|seen| !seen.path.contains("modelscope"))
    );
    assert!(!bench.folder("test--model/main").exists());

    std::fs::remove_file(&partial).expect("removed");
    bench.pull().expect("there is room now");
}

#[test]
fn a_cache_that_cannot_be_written_says_so() {
    let server = Server::start(files(), |_| None);
    let bench = Bench::new(&server.url);
    std::fs::write(bench.cache.path().join("models"), "a file, no folder").expect("written");
    let error = bench.pull().expect_err("no folder can be made");
    assert!(matches!(error.kind(), ErrorKind::Io { .. }), "{error}");
    assert!(error.to_string().contains("models"), "{error}");
}

#[test]
fn a_range_past_the_end_begins_anew() {
    let server = Server::start(files(), |seen| {
        let past = seen.path.ends_with("tokenizer.json") && seen.header("range").is_some();
        past.then(|| Reply::status(416))
    });
    let bench = Bench::new(&server.url);
    let url = format!("{}/{MODEL}/resolve/c0ffee/tokenizer.json", server.url);
    std::fs::create_dir_all(bench.staging()).expect("made");
    let partial = bench.staging().join("tokenizer.json.partial");
    std::fs::write(&partial, "{").expect("written");
    let continuation = format!(r#"{{"url": "{url}", "etag": "\"abc\""}}"#);
    std::fs::write(
        bench.staging().join("tokenizer.json.partial.json"),
        continuation,
    )
    .expect("written");
    let model = bench.pull().expect("pulled");
    assert_eq!(
        std::fs::read(model.path.join("tokenizer.json")).expect("read"),
        b"{}"
    );
}
