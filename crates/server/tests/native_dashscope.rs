//! What DashScope's interfaces and rerank take beside texts, and what is counted.

#![allow(clippy::unwrap_used, reason = "tests")]

mod support;

use std::net::TcpStream;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use serde_json::{Value, json};
use support::provider::{Provider, Seen, begin_stream, reply, reply_json};
use support::{Running, fixture, options};
use wenyi::config::Config;
use wenyi_server::{ServedModel, ServerOptions};

const EMBED: &str = "/api/v1/services/embeddings/text-embedding/text-embedding";
const RERANK: &str = "/api/v1/services/rerank/text-rerank/text-rerank";
const FLAT_RERANK: &str = "/compatible-api/v1/reranks";

fn remote(provider: &Provider) -> ServerOptions {
    let address = provider.address;
    let toml = format!(
        "[providers.imitation]\nbase_url = \"http://{address}/v1\"\nrerank = \"cohere\"\n\
         [providers.imitation.models.emb]\ndimensions = 3\n\
         [providers.dashscope]\nbase_url = \"http://{address}/api/v1\"\nmax_retries = 1\n"
    );
    let model = |name: &str, source: &str| ServedModel {
        name: name.into(),
        source: source.into(),
    };
    ServerOptions {
        models: vec![
            fixture("bert"),
            fixture("cross_encoder"),
            model("v4", "dashscope:text-embedding-v4"),
            model("qwen-rerank", "dashscope:qwen3-rerank"),
            model("emb", "imitation:emb"),
            model("judge", "imitation:rerank-1"),
        ],
        chat_models: vec![
            model("gpt-4o", "imitation:speaker"),
            ServedModel {
                name: "chat".into(),
                ..fixture("decoders/llama")
            },
        ],
        config: Arc::new(Config::from_lookup(|_| None).with_toml(&toml).unwrap()),
        ..options()
    }
}

/// Every service of a provider, as far as these tests need it.
fn answers(seen: &Seen, stream: &mut TcpStream) {
    let usage = json!({"prompt_tokens": 4, "completion_tokens": 3, "total_tokens": 7});
    if seen.path == EMBED {
        let wanted = seen.body["parameters"]["output_type"]
            .as_str()
            .unwrap_or("dense");
        let texts = seen.body["input"]["texts"].as_array().unwrap().len();
        let items = (0..texts).map(|index| {
            let mut item = json!({"text_index": index});
            if wanted.contains("dense") {
                item["embedding"] = json!(vec![1.0; 1024]);
            }
            if wanted.contains("sparse") {
                item["sparse_embedding"] = json!([{"index": 7, "value": 0.5, "token": "词"}]);
            }
            item
        });
        let items: Vec<Value> = items.collect();
        return reply_json(stream, 200, &json!({"output": {"embeddings": items}}));
    }
    let results =
        json!([{"index": 1, "relevance_score": 0.9}, {"index": 0, "relevance_score": 0.1}]);
    match &*seen.path {
        RERANK => reply_json(
            stream,
            200,
            &json!({"output": {"results": results}, "usage": usage}),
        ),
        "/v2/rerank" => reply_json(stream, 200, &json!({"results": results, "usage": usage})),
        "/v1/embeddings" => {
            let data = json!([{"index": 0, "embedding": [1.0, 0.0, 0.0]}]);
            reply_json(stream, 200, &json!({"data": data}));
        }
        _ if seen.body["stream"] == true => {
            begin_stream(stream);
            let end = json!({"choices": [{"delta": {"content": "a"}, "finish_reason": "stop"}]});
            let last = json!({"choices": [], "usage": usage});
            let events = format!("data: {end}\n\ndata: {last}\n\ndata: [DONE]\n\n");
            let _ = std::io::Write::write_all(stream, events.as_bytes());
        }
        _ => {
            let message = json!({"role": "assistant", "content": "a"});
            let choice = json!({"message": message, "text": "a", "finish_reason": "stop"});
            reply_json(stream, 200, &json!({"choices": [choice], "usage": usage}));
        }
    }
}

fn native(texts: usize, parameters: &Value) -> String {
    let texts: Vec<String> = (0..texts).map(|index| format!("text {index}")).collect();
    json!({"model": "v4", "input": {"texts": texts}, "parameters": parameters}).to_string()
}

#[test]
fn what_only_the_provider_gives_keeps_to_its_limits() {
    let is_first = AtomicBool::new(true);
    let provider = Provider::start(move |seen, stream| {
        if is_first.swap(false, Ordering::Relaxed) {
            let headers = "retry-after-ms: 1\r\ncontent-type: application/json\r\n";
            return reply(
                stream,
                429,
                headers,
                r#"{"code":"Throttling","message":"wait"}"#,
            );
        }
        answers(seen, stream);
    });
    let server = Running::start(remote(&provider));
    let parameters =
        json!({"output_type": "dense&sparse", "text_type": "query", "instruct": "find"});
    let reply = server.post(EMBED, native(11, &parameters));
    assert_eq!(reply.status, 200, "{reply:?}");
    assert_eq!(reply.header("x-wenyi-model"), Some("v4"));
    let answer = reply.json();
    let embeddings = answer["output"]["embeddings"].as_array().unwrap();
    assert_eq!(embeddings.len(), 11);
    assert_eq!(embeddings[10]["text_index"], 10);
    assert_eq!(embeddings[10]["embedding"].as_array().unwrap().len(), 1024);
    let word = json!([{"index": 7, "value": 0.5, "token": "词"}]);
    assert_eq!(embeddings[10]["sparse_embedding"], word);
    let seen = provider.seen();
    let count = |seen: &Seen| seen.body["input"]["texts"].as_array().unwrap().len();
    let mut sizes: Vec<usize> = seen.iter().map(count).collect();
    sizes.sort_unstable();
    // One of both was refused and came again.
    assert_eq!(
        sizes.iter().sum::<usize>() - 11,
        if sizes[1] == 1 { 1 } else { 10 }
    );
    assert!(
        seen.iter()
            .all(|seen| seen.body["parameters"] == parameters)
    );
    // Weights alone.
    let sparse = server
        .post(EMBED, native(1, &json!({"output_type": "sparse"})))
        .json();
    let embedding = &sparse["output"]["embeddings"][0];
    assert_eq!(embedding["sparse_embedding"], word);
    assert!(embedding.get("embedding").is_none(), "{embedding}");
}

#[test]
fn vectors_for_a_task_are_remembered_for_this_task() {
    let provider = Provider::start(answers);
    let server = Running::start(remote(&provider));
    let ask = |task: Value| {
        let reply = server.post(EMBED, native(11, &json!({"instruct": task})));
        assert_eq!(reply.status, 200, "{reply:?}");
        provider.seen().len()
    };
    assert_eq!(ask(json!("find")), 2);
    assert_eq!(ask(json!("find")), 2);
    assert_eq!(ask(json!("sort")), 4);
    assert_eq!(ask(json!(null)), 6);
    assert_eq!(provider.seen()[0].body["parameters"]["instruct"], "find");
}

#[test]
fn a_providers_haste_and_its_own_words_reach_the_client() {
    let provider = Provider::start(|seen, stream| {
        let word = seen.body.to_string();
        let (status, code) = match () {
            () if word.contains("hurry") => (429, "Throttling.RateQuota"),
            () if word.contains("money") => (400, "Arrearage"),
            () => (404, "ModelNotFound"),
        };
        let headers = "retry-after: 200\r\ncontent-type: application/json\r\n";
        let body = json!({"code": code, "message": "no", "request_id": "x"}).to_string();
        reply(stream, status, headers, &body);
    });
    let server = Running::start(remote(&provider));
    for (word, status, code) in [
        ("hurry", 429, "Throttling.RateQuota"),
        ("money", 400, "Arrearage"),
        ("nobody", 400, "ModelNotFound"),
    ] {
        let embed = json!({"model": "v4", "input": {"texts": [word]}});
        let input = json!({"query": word, "documents": ["a", "b"]});
        let flat = json!({"model": "qwen-rerank", "query": word, "documents": ["a", "b"]});
        for (path, body) in [
            (EMBED, embed),
            (RERANK, json!({"model": "qwen-rerank", "input": input})),
            (FLAT_RERANK, flat),
        ] {
            let reply = server.post(path, body.to_string());
            assert_eq!(reply.status, status, "{path} {word}: {reply:?}");
            assert_eq!(reply.json()["code"], code, "{path} {word}");
            let waits = (status == 429).then_some("200");
            assert_eq!(reply.header("retry-after").filter(|_| status == 429), waits);
        }
    }
}

#[test]
fn everything_is_counted_under_its_model() {
    let provider = Provider::start(answers);
    let server = Running::start(remote(&provider));
    let talk = |model: &str, stream: bool| {
        json!({"model": model, "stream": stream, "max_tokens": 2, "prompt": "a",
            "options": {"num_predict": 2}, "messages": [{"role": "user", "content": "a"}]})
    };
    let routes = [
        "/v1/chat/completions",
        "/v1/completions",
        "/api/chat",
        "/api/generate",
    ];
    for model in ["gpt-4o", "chat"] {
        for path in routes {
            for stream in [false, true] {
                let reply = server.post(path, talk(model, stream).to_string());
                assert_eq!(reply.status, 200, "{path}: {reply:?}");
                assert_eq!(reply.header("x-wenyi-model"), Some(model), "{path}");
            }
        }
    }
    let rerank = json!({"model": "judge", "query": "q", "documents": ["a", "b"]});
    assert_eq!(server.post("/v2/rerank", rerank.to_string()).status, 200);
    let embed = json!({"model": "emb", "input": "hello world"});
    assert_eq!(server.post("/v1/embeddings", embed.to_string()).status, 200);
    let sparse = json!({"output_type": "sparse"});
    assert_eq!(server.post(EMBED, native(1, &sparse)).status, 200);
    support::wait_until("all is counted", || {
        let metrics = String::from_utf8(server.get("/metrics").body).unwrap();
        let tokens = |model: &str| {
            let start = format!("wenyi_tokens_total{{model=\"{model}\"}} ");
            let line = metrics.lines().find_map(|line| line.strip_prefix(&*start));
            line.map_or(0, |tokens| tokens.parse::<u64>().unwrap())
        };
        let answered = |path: &str, model: &str| {
            let labels = format!("{{route=\"{path}\",model=\"{model}\"}} 2");
            metrics.contains(&format!("wenyi_request_duration_seconds_count{labels}"))
        };
        let pairs = routes
            .iter()
            .flat_map(|path| [(path, "gpt-4o"), (path, "chat")]);
        tokens("gpt-4o") == 8 * 7
            && tokens("judge") == 7
            && ["chat", "emb", "v4"].iter().all(|model| tokens(model) > 0)
            && pairs.into_iter().all(|(path, model)| answered(path, model))
    });
}

#[test]
fn the_compatible_mode_numbers_its_answers_and_speaks_dashscopes_words() {
    let provider = Provider::start(answers);
    let server = Running::start(remote(&provider));
    let path = "/compatible-mode/v1/embeddings";
    let good = json!({"model": "bert", "input": "a"}).to_string();
    let reply = server.post(path, &good);
    assert_eq!(reply.json()["id"].as_str(), reply.header("x-request-id"));
    assert!(
        server
            .post("/v1/embeddings", &good)
            .json()
            .get("id")
            .is_none()
    );
    let wrong = json!({"model": "bert", "input": {}}).to_string();
    for (path, body, status, code) in [
        (path, &*wrong, 400, "InvalidParameter"),
        (
            path,
            r#"{"model":"nobody","input":"a"}"#,
            404,
            "ModelNotFound",
        ),
        ("/compatible-mode/v1/nothing", "{}", 404, "InvalidURL"),
    ] {
        let reply = server.post(path, body);
        let error = reply.json();
        assert_eq!(reply.status, status, "{error}");
        assert_eq!(error["request_id"].as_str(), reply.header("x-request-id"));
        assert_eq!(
            (&error["error"]["type"], &error["error"]["code"]),
            (&json!(code), &json!(code))
        );
        assert!(error["error"]["message"].is_string());
        assert!(error["error"].get("param").is_some_and(Value::is_null));
    }
}

#[test]
fn options_of_rerank_reach_the_model_or_are_refused() {
    let provider = Provider::start(answers);
    let server = Running::start(remote(&provider));
    let ask = |path: &str, model: &str, extra: &Value| {
        let mut body = json!({"model": model, "query": "q", "documents": ["a b c d e f g h", "b"]});
        if path == RERANK {
            body = json!({"model": model, "input": body, "parameters": extra});
        }
        for (name, value) in extra.as_object().unwrap() {
            body[name] = value.clone();
        }
        server.post(path, body.to_string())
    };
    let task = json!({"instruct": "find"});
    for path in [RERANK, FLAT_RERANK] {
        assert_eq!(ask(path, "qwen-rerank", &task).status, 200);
        let seen = provider.seen().pop().unwrap();
        assert_eq!(seen.body["parameters"]["instruct"], "find");
        let refused = ask(path, "cross_encoder", &task);
        assert_eq!(refused.status, 400, "{refused:?}");
        assert!(
            refused.json()["message"]
                .as_str()
                .unwrap()
                .contains("instruct")
        );
    }
    let limits = json!({"max_tokens_per_doc": 3, "priority": 5});
    assert_eq!(ask("/v2/rerank", "judge", &limits).status, 200);
    let seen = provider.seen().pop().unwrap();
    assert_eq!(
        (&seen.body["max_tokens_per_doc"], &seen.body["priority"]),
        (&json!(3), &json!(5))
    );
    let here = ask("/v2/rerank", "cross_encoder", &limits);
    assert_eq!(here.header("x-wenyi-truncated"), Some("0"), "{here:?}");
    assert_eq!(ask("/v2/rerank", "qwen-rerank", &limits).status, 400);
    for wrong in [
        json!({"max_tokens_per_doc": "abc"}),
        json!({"max_tokens_per_doc": 0}),
        json!({"priority": "high"}),
        json!({"priority": 1000}),
    ] {
        for path in ["/v1/rerank", "/v2/rerank"] {
            assert_eq!(ask(path, "cross_encoder", &wrong).status, 400, "{wrong}");
        }
    }
}

#[test]
fn dashscopes_clients_are_told_what_is_permanent_in_its_words() {
    let provider = Provider::start(answers);
    let server = Running::start(remote(&provider));
    for reply in [
        server.post("/api/v1/services/nothing", "{}"),
        server.get(EMBED),
    ] {
        assert_eq!(
            (reply.status, &reply.json()["code"]),
            (400, &json!("InvalidURL"))
        );
    }
    for model in ["bert", "v4"] {
        let body = json!({"model": model, "input": {"texts": ["a"]},
            "parameters": {"dimension": 100_000}});
        let reply = server.post(EMBED, body.to_string());
        let message = reply.json()["message"].as_str().unwrap().to_owned();
        assert_eq!(reply.status, 400);
        assert!(
            message.contains("`dimension`") && !message.contains("dimensions`"),
            "{message}"
        );
    }
}
