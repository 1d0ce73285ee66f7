use serde_json::{Map, Value, json};

use super::endpoint;
use super::server::{Reply, Server};
use crate::chat::{
    ChatModel, ChatOptions, ChatRequest, FinishReason, Message, Thinking, Tool, ToolChoice,
};
use crate::config::Config;
use crate::providers::{Endpoint, RemoteChat, Service};

const STREAM: &str = "text/event-stream";

fn open(provider: &str, server: &Server, model: &str) -> RemoteChat {
    RemoteChat::open(endpoint(provider, &server.url).unwrap(), model).unwrap()
}

fn event(delta: &Value, finish: &Value) -> String {
    let chunk = json!({"id": "c1", "model": "m", "usage": null,
        "choices": [{"index": 0, "delta": delta, "finish_reason": finish}]});
    format!("data: {chunk}\n\n")
}

fn stream() -> String {
    let usage = json!({"choices": [], "usage": {"prompt_tokens": 3, "completion_tokens": 4,
        "total_tokens": 7, "prompt_cache_hit_tokens": 2}});
    [
        ": keep-alive\n\n".to_owned(),
        event(&json!({"role": "assistant", "content": ""}), &Value::Null),
        event(&json!({"reasoning_content": "想"}), &Value::Null),
        ": keep-alive\n\n".to_owned(),
        event(&json!({"content": "你"}), &Value::Null),
        event(&json!({"content": "好"}), &Value::Null),
        event(&json!({}), &json!("stop")),
        format!("data: {usage}\n\ndata: [DONE]\n\n"),
    ]
    .concat()
}

#[test]
fn a_stream_comes_in_pieces_with_its_thoughts_and_usage() {
    let server = Server::start(|_| Reply::text(200, STREAM, &stream()));
    let chat = open("deepseek", &server, "deepseek-v4-flash");
    let pieces: Vec<_> = chat
        .stream(&ChatRequest::ask("早"))
        .unwrap()
        .map(Result::unwrap)
        .collect();
    let said: Vec<&str> = pieces.iter().map(|piece| piece.content.as_str()).collect();
    assert_eq!(said.concat(), "你好");
    assert_eq!(pieces[1].reasoning_content, "想");
    assert_eq!(pieces.last().unwrap().usage.unwrap().cached_tokens, 2);
    let seen = &server.requests()[0];
    assert_eq!(seen.path, "/v1/chat/completions");
    assert_eq!(seen.body["stream_options"], json!({"include_usage": true}));
    assert_eq!(
        seen.body["messages"],
        json!([{"role": "user", "content": "早"}])
    );
    assert_eq!(chat.context_length(), Some(1_000_000));
}

#[test]
fn a_stream_that_is_cut_or_fails_says_so() {
    let whole = stream();
    let cut = whole.find("好").unwrap();
    let cases = [
        (Reply::text(200, STREAM, &whole).cut_at(cut), "broke off"),
        (
            Reply::text(200, STREAM, &whole[..whole.find("data").unwrap()]),
            "broke off",
        ),
        (
            Reply::text(200, STREAM, "data: {\"error\":{\"message\":\"太忙\"}}\n\n"),
            "太忙",
        ),
        (Reply::text(200, STREAM, "data: {oops\n\n"), "malformed"),
    ];
    for (reply, expected) in cases {
        let server = Server::start(move |_| reply.clone());
        let chat = open("deepseek", &server, "deepseek-v4-flash");
        let error = chat
            .stream(&ChatRequest::ask("早"))
            .unwrap()
            .last()
            .unwrap()
            .unwrap_err();
        assert!(error.to_string().contains(expected), "{error}");
    }
    // Some servers leave `[DONE]` out; a reason to stop is an end too.
    let body = whole
        .split("data: {\"choices\":[],")
        .next()
        .unwrap()
        .to_owned();
    let server = Server::start(move |_| Reply::text(200, STREAM, &body));
    let chat = open("deepseek", &server, "deepseek-v4-flash");
    assert!(
        chat.stream(&ChatRequest::ask("早"))
            .unwrap()
            .all(|piece| piece.is_ok())
    );
}

fn whole() -> Value {
    json!({"id": "c1", "model": "m", "choices": [{"index": 0, "finish_reason": "tool_calls",
        "message": {"role": "assistant", "content": null, "reasoning_content": "查",
            "tool_calls": [{"id": "call_1", "type": "function",
                "function": {"name": "f", "arguments": "{}"}}]}}],
        "usage": {"prompt_tokens": 1, "completion_tokens": 2, "total_tokens": 3}})
}

#[test]
fn tools_are_called_and_answered_with_the_thoughts_sent_back() {
    // DeepSeek sends blank lines while it is busy.
    let body = format!("\n\n\n{}", whole());
    let server = Server::start(move |_| Reply::text(200, "application/json", &body));
    let chat = open("deepseek", &server, "deepseek-v4-flash");
    let mut request = ChatRequest::ask("天气？");
    request.tools = vec![Tool::function("f", "weather", json!({"type": "object"}))];
    request.tool_choice = Some(ToolChoice::Required);
    let reply = chat.invoke(&request).unwrap();
    assert_eq!(reply.finish_reason, Some(FinishReason::ToolCalls));
    assert_eq!(reply.usage.unwrap().total_tokens, 3);
    request
        .messages
        .extend([reply.message, Message::tool("call_1", "晴")]);
    chat.invoke(&request).unwrap();
    let seen = server.requests();
    assert_eq!(seen[0].body["tool_choice"], "required");
    let history = &seen[1].body["messages"];
    assert_eq!(history[1]["reasoning_content"], "查");
    assert_eq!(
        history[2],
        json!({"role": "tool", "content": "晴", "tool_call_id": "call_1"})
    );
}

#[test]
fn each_provider_gets_its_own_parameters() {
    let body_for = |provider: &str, model: &str, thinking: Option<Thinking>| {
        let server = Server::start(|seen| match seen.body["stream"].as_bool() {
            Some(true) => Reply::text(200, STREAM, &stream()),
            _ => Reply::json(200, &whole()),
        });
        let mut options = ChatOptions {
            max_tokens: Some(5),
            thinking,
            ..ChatOptions::default()
        };
        options.temperature = Some(0.1);
        let messages = vec![Message::system("s"), Message::user("u")];
        let request = ChatRequest::new(messages).with_options(options);
        open(provider, &server, model).invoke(&request).unwrap();
        let seen = server.requests().remove(0);
        (seen.path, seen.body)
    };
    let (_, openai) = body_for("openai", "o3-mini", Some(Thinking::Effort("high".into())));
    assert_eq!(
        (&openai["max_completion_tokens"], openai.get("max_tokens")),
        (&json!(5), None)
    );
    assert_eq!(openai["messages"][0]["role"], "developer");
    assert_eq!(openai["reasoning_effort"], "high");
    assert_eq!(openai["temperature"], json!(0.1));
    let (_, deepseek) = body_for("deepseek", "deepseek-v4-pro", Some(Thinking::Off));
    assert_eq!(
        (&deepseek["max_tokens"], &deepseek["stream"]),
        (&json!(5), &json!(false))
    );
    assert_eq!(deepseek["thinking"], json!({"type": "disabled"}));
    let (path, qwen) = body_for("dashscope", "qwen-plus", Some(Thinking::Budget(50)));
    assert_eq!(path, "/compatible-mode/v1/chat/completions");
    assert_eq!(
        (&qwen["enable_thinking"], &qwen["thinking_budget"]),
        (&json!(true), &json!(50))
    );
    assert_eq!(qwen["stream"], true, "thoughts come in a stream only");
    let (_, open_source) = body_for("dashscope", "qwen3-8b", None);
    assert_eq!(open_source["stream"], true);
    let (_, plain) = body_for("dashscope", "qwen-plus", None);
    assert_eq!(plain["stream"], false);
}

#[test]
fn a_server_passes_requests_on_and_sees_everything() {
    let server = Server::start(|_| {
        Reply::json(429, &json!({"error": {"message": "m"}})).with("retry-after", "7")
    });
    let endpoint = endpoint("openai", &server.url).unwrap();
    let mut body = Map::from_iter([
        ("model".to_owned(), json!("gpt-4o")),
        ("max_tokens".to_owned(), json!(1)),
        ("messages".to_owned(), json!([{"role": "assistant"}])),
    ]);
    endpoint.adapt_chat(&mut body).unwrap();
    assert_eq!(
        Value::Object(body.clone()),
        json!({"model": "gpt-4o",
        "max_completion_tokens": 1, "messages": [{"role": "assistant"}]})
    );
    let bytes = Value::Object(body).to_string();
    let mut answer = endpoint.forward(Service::Chat, bytes.as_bytes()).unwrap();
    assert_eq!(
        (answer.status, answer.header("retry-after")),
        (429, Some("7"))
    );
    let mut text = String::new();
    answer.body.read_to_string(&mut text).unwrap();
    assert_eq!(text, "{\"error\":{\"message\":\"m\"}}");
}

#[test]
fn thoughts_in_the_history_go_to_all_that_take_them() {
    let thoughts = |endpoint: Endpoint| {
        let messages = json!([{"role": "assistant", "content": "a", "reasoning_content": "想"}]);
        let mut body = Map::from_iter([("messages".to_owned(), messages)]);
        endpoint.adapt_chat(&mut body).unwrap();
        body["messages"][0].get("reasoning_content").is_some()
    };
    for provider in ["dashscope", "deepseek", "openai-compatible", "openai"] {
        assert!(
            thoughts(endpoint(provider, "http://127.0.0.1:1").unwrap()),
            "{provider}"
        );
    }
    let key = |name: &str| (name == "OPENAI_API_KEY").then(|| "sk-key".to_owned());
    let at_home = Endpoint::open("openai", &Config::from_lookup(key)).unwrap();
    assert!(
        !thoughts(at_home),
        "OpenAI itself refuses fields that it does not know"
    );
}

#[test]
fn deepseek_completes_texts_beside_its_other_routes() {
    let url = |base: &str| {
        let base = base.to_owned();
        let config = Config::from_lookup(move |name| match name {
            "DEEPSEEK_API_BASE" => Some(base.clone()),
            "DEEPSEEK_API_KEY" => Some("sk-key".into()),
            _ => None,
        });
        let endpoint = Endpoint::open("deepseek", &config).unwrap();
        endpoint.url(Service::Completions).unwrap()
    };
    for base in ["http://h/v1", "http://h", "http://h/beta"] {
        assert_eq!(url(base), "http://h/beta/completions", "{base}");
    }
}

#[test]
fn what_a_provider_does_not_know_is_refused() {
    let endpoint = endpoint("openai", "http://127.0.0.1:1").unwrap();
    let chat = RemoteChat::open(endpoint, "gpt-4o").unwrap();
    let options = ChatOptions {
        top_k: Some(3),
        ..ChatOptions::default()
    };
    let error = chat
        .invoke(&ChatRequest::ask("x").with_options(options))
        .unwrap_err();
    assert!(
        error.is_user_error() && error.to_string().contains("top_k"),
        "{error}"
    );
}
