//! Models behind an API: the same traits, whoever answers. Plays the provider itself, on this
//! machine, so it needs neither network nor key.
//!
//! `cargo run --release -p wenyi --example 03_providers`

#![expect(clippy::print_stdout, reason = "an example shows what it found")]

use std::error::Error;
use std::io::{BufRead, BufReader, Read, Write};
use std::net::{TcpListener, TcpStream};

use wenyi::chat::{ChatRequest, init_chat_model_with};
use wenyi::config::Config;
use wenyi::embed::init_embeddings_with;
use wenyi::providers::ModelName;

fn main() -> Result<(), Box<dyn Error>> {
    let listener = TcpListener::bind("127.0.0.1:0")?;
    let url = format!("http://{}/v1", listener.local_addr()?);
    std::thread::spawn(move || {
        for stream in listener.incoming().flatten() {
            // A client that hangs up is no reason to stop.
            let _ = answer(&stream);
        }
    });

    // In a program of yours: `Config::load()`, which reads the environment, `.env` and `wenyi.toml`.
    let toml = format!("[providers.here]\nbase_url = \"{url}\"\n[aliases]\nfast = \"here:parrot\"");
    let config = Config::from_lookup(|_| None).with_toml(&toml)?;

    for name in ["qwen-plus", "text-embedding-3-small", "bge-m3", "fast"] {
        println!("{name} is {}", ModelName::resolve(name, &config)?);
    }

    let embedder = init_embeddings_with("here:letters", &config)?;
    let vector = embedder.embed_query("密钥")?;
    println!("{} numbers a text, of length 1: {vector:?}", vector.len());

    let chat = init_chat_model_with("fast", &config)?;
    let mut said = String::new();
    for piece in chat.stream(&ChatRequest::ask("早上好"))? {
        said.push_str(&piece?.content);
    }
    println!("{} says: {said}", chat.name());
    assert_eq!(said, "早上好", "a parrot repeats");
    Ok(())
}

/// Answers one request as an OpenAI-compatible service would.
fn answer(mut stream: &TcpStream) -> Result<(), Box<dyn Error>> {
    let mut reader = BufReader::new(stream);
    let (mut line, mut path, mut length) = (String::new(), String::new(), 0);
    while reader.read_line(&mut line)? > 2 {
        if path.is_empty() {
            path.clone_from(&line);
        }
        if let Some(value) = line.to_lowercase().strip_prefix("content-length:") {
            length = value.trim().parse()?;
        }
        line.clear();
    }
    let mut body = vec![0; length];
    reader.read_exact(&mut body)?;
    let body: serde_json::Value = serde_json::from_slice(&body)?;
    let (kind, text) = if path.contains("/embeddings") {
        let texts = body["input"].as_array().map_or(1, Vec::len);
        let data: Vec<_> = (0..texts)
            .map(|index| serde_json::json!({"index": index, "embedding": [3.0, 4.0]}))
            .collect();
        (
            "application/json",
            serde_json::json!({"data": data}).to_string(),
        )
    } else {
        let said = body["messages"][0]["content"].as_str().unwrap_or_default();
        let mut events = String::new();
        for c in said.chars() {
            let piece = serde_json::json!({"choices": [{"delta": {"content": c}}]});
            events.push_str(&format!("data: {piece}\n\n"));
        }
        ("text/event-stream", events + "data: [DONE]\n\n")
    };
    let size = text.len();
    write!(
        stream,
        "HTTP/1.1 200 OK\r\ncontent-type: {kind}\r\ncontent-length: {size}\r\nconnection: close\r\n\r\n{text}"
    )?;
    Ok(())
}
