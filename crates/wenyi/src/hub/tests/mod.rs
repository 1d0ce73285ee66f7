//! The hub against servers, proxies, pips and disks that fail, each in its own way.

use std::collections::BTreeMap;
use std::path::PathBuf;
use std::sync::Mutex;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::Duration;

use super::settings::Settings;
use super::*;
use crate::progress::{Progress, Silent, Unit};

mod bundles;
mod failures;
mod server;
mod transfers;
mod wheels;

use server::Server;

/// A repository that no catalog knows.
const MODEL: &str = "test/model";

/// A hub with a cache of its own, which knows the server and has little patience.
struct Bench {
    cache: tempfile::TempDir,
    hub: Hub,
}

impl Bench {
    fn new(server: &str) -> Self {
        Self::with(server, |_| {})
    }

    fn with(server: &str, change: impl FnOnce(&mut Settings)) -> Self {
        let cache = tempfile::tempdir().expect("a folder");
        let hub = Hub::new(settings(cache.path().into(), server, change));
        Self { cache, hub }
    }

    fn pull(&self) -> Result<LocalModel> {
        self.hub.pull(MODEL, &from_huggingface(), &Silent)
    }

    fn folder(&self, name: &str) -> PathBuf {
        self.cache.path().join("models").join(name)
    }

    /// The files that lie about while the model is not finished.
    fn staging(&self) -> PathBuf {
        self.folder("test--model/.staging-main")
    }
}

fn settings(cache: PathBuf, server: &str, change: impl FnOnce(&mut Settings)) -> Settings {
    let home = cache.to_str().expect("text").to_string();
    let mut settings =
        Settings::from_lookup(|name| (name == "HOME").then(|| home.clone())).expect("settings");
    settings.cache = cache;
    settings.huggingface_endpoint = server.into();
    settings.modelscope_endpoint = server.into();
    settings.patience.silence = Duration::from_secs(5);
    settings.patience.attempts = 3;
    settings.patience.pause = Duration::from_millis(1);
    settings.patience.budget = Duration::from_secs(10);
    change(&mut settings);
    settings
}

fn from_huggingface() -> PullOptions {
    let origin = Some(Origin::Source(SourceKind::HuggingFace));
    PullOptions {
        origin,
        ..PullOptions::default()
    }
}

/// A model of some 300 KB, as a repository has it.
fn files() -> BTreeMap<String, Vec<u8>> {
    let weights: Vec<u8> = (0..300_000u32)
        .map(|i| (i.wrapping_mul(2_654_435_761) >> 13) as u8)
        .collect();
    [
        ("config.json", b"{\"model_type\": \"bert\"}".to_vec()),
        ("tokenizer.json", b"{}".to_vec()),
        ("1_Pooling/config.json", b"{}".to_vec()),
        ("README.md", b"not wanted".to_vec()),
        ("model.safetensors", weights),
    ]
    .map(|(path, body)| (path.to_string(), body))
    .into()
}

/// Remembers what it was told, and can ask to stop after so many bytes.
#[derive(Default)]
struct Recorder {
    total: Mutex<Option<u64>>,
    advanced: AtomicU64,
    notes: Mutex<Vec<String>>,
    stop_after: Option<u64>,
    stopped: AtomicBool,
}

impl Progress for Recorder {
    fn start(&self, _: &str, total: Option<u64>, _: Unit) {
        *self.total.lock().expect("unpoisoned") = total;
        self.advanced.store(0, Ordering::Relaxed);
    }

    fn advance(&self, amount: u64) {
        let now = self.advanced.fetch_add(amount, Ordering::Relaxed) + amount;
        if self.stop_after.is_some_and(|limit| now >= limit) {
            self.stopped.store(true, Ordering::Relaxed);
        }
    }

    fn finish(&self) {}

    fn note(&self, message: &str) {
        self.notes.lock().expect("unpoisoned").push(message.into());
    }

    fn is_cancelled(&self) -> bool {
        self.stopped.load(Ordering::Relaxed)
    }
}
