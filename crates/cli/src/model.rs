//! From `--model` to something that embeds.

use std::path::Path;
use std::sync::Arc;

use wenyi::chat::{
    ChatModel, DEFAULT_CHAT_MODEL, DecoderOptions, LocalChatModel, init_chat_model_with,
};
use wenyi::config::Config;
use wenyi::embed::{Embedder, EncoderOptions, LocalEmbedder, init_embeddings_with};
use wenyi::hub::{DEFAULT_MODEL, Hub, ModelKind};
use wenyi::progress::Progress;
use wenyi::providers::{ErrorKind, ModelName, init_reranker_with};
use wenyi::rerank::{LocalReranker, Reranker};

use crate::arguments::ModelArguments;
use crate::exit::UserError;

/// The hub as the environment and `--offline` say.
pub(crate) fn hub(offline: bool) -> anyhow::Result<Hub> {
    let hub = Hub::from_env()?;
    Ok(if offline { hub.offline(true) } else { hub })
}

/// Opens the model that the user named, else the one `remembered`, else the default one; fetches it
/// first if it is not on this machine.
pub(crate) fn open(
    arguments: &ModelArguments,
    remembered: Option<&str>,
    progress: &dyn Progress,
) -> anyhow::Result<Box<dyn Embedder>> {
    let config = Config::load()?;
    for note in config.notes() {
        progress.note(note);
    }
    let name = (arguments.model.as_deref())
        .or(remembered)
        .or(config.defaults().embeddings.as_deref())
        .unwrap_or(DEFAULT_MODEL);
    let resolved = resolved(name, &config)?;
    if let Some(remote) = resolved.as_ref().filter(|resolved| !resolved.is_local()) {
        expect_online(arguments, remote)?;
        return Ok(init_embeddings_with(name, &config)?);
    }
    let name = resolved.map_or_else(|| name.to_owned(), |resolved| resolved.model);
    let local = hub(arguments.compute.offline)?.resolve(&name, progress)?;
    let options = encoder_options(arguments, local.id);
    Ok(Box::new(LocalEmbedder::open(&local.path, &options)?))
}

/// Opens the reranker called `name`, which computes as the embedding model does; fetches it first if
/// it is not on this machine.
pub(crate) fn open_reranker(
    name: &str,
    arguments: &ModelArguments,
    progress: &dyn Progress,
) -> anyhow::Result<Box<dyn Reranker>> {
    let config = Config::load()?;
    let resolved = resolved(name, &config)?;
    if let Some(remote) = resolved.as_ref().filter(|resolved| !resolved.is_local()) {
        expect_online(arguments, remote)?;
        return Ok(init_reranker_with(name, &config)?);
    }
    let name = resolved.map_or_else(|| name.to_owned(), |resolved| resolved.model);
    let local = hub(arguments.compute.offline)?.resolve(&name, progress)?;
    let options = encoder_options(arguments, local.id);
    Ok(Box::new(LocalReranker::open(&local.path, &options)?))
}

/// Whose model `name` is; a name that says nothing of a provider is the hub's to judge.
fn resolved(name: &str, config: &Config) -> anyhow::Result<Option<ModelName>> {
    match ModelName::resolve(name, config) {
        Err(error) if matches!(error.kind(), ErrorKind::CannotInfer { .. }) => Ok(None),
        resolved => Ok(Some(resolved?)),
    }
}

fn expect_online(arguments: &ModelArguments, remote: &ModelName) -> anyhow::Result<()> {
    if !arguments.compute.offline {
        return Ok(());
    }
    let error = UserError::new(format!("`{remote}` is not on this machine"));
    let error = error.with_hint("leave out `--offline`, or name a local model");
    Err(error.into())
}

fn encoder_options(arguments: &ModelArguments, id: String) -> EncoderOptions {
    EncoderOptions {
        precision: arguments.compute.precision,
        threads: arguments.compute.threads,
        name: Some(id),
        ..EncoderOptions::default()
    }
}

/// A chat model, and what to expect of it.
pub(crate) struct OpenedChat {
    pub(crate) chat: Arc<dyn ChatModel>,
    /// The same one, if it is on this machine.
    pub(crate) local: Option<LocalChatModel>,
    /// It loses its way in long prompts, and invents.
    pub(crate) is_small: bool,
}

/// The name of the chat model to use: the one `given`, else that of `wenyi.toml`, else the default.
pub(crate) fn chat_model_name(given: Option<&str>) -> anyhow::Result<String> {
    if let Some(name) = given {
        return Ok(name.to_owned());
    }
    let configured = Config::load()?.defaults().chat.clone();
    Ok(configured.unwrap_or_else(|| DEFAULT_CHAT_MODEL.to_owned()))
}

/// False if the catalog says that the model does not know the language with this code.
pub(crate) fn speaks(name: &str, language: &str, offline: bool) -> anyhow::Result<bool> {
    let hub = hub(offline)?;
    let entry = hub.catalog().find(name);
    Ok(entry.is_none_or(|entry| entry.knows(language)))
}

/// Opens the chat model called `name`, here or behind an API; fetches it first if it is not on this
/// machine, with the precision and threads of `arguments` and what else `keeping` says.
pub(crate) fn open_chat(
    arguments: &ModelArguments,
    name: &str,
    keeping: DecoderOptions,
    progress: &dyn Progress,
) -> anyhow::Result<OpenedChat> {
    /// Weights of less than this, 4-bit ones of about a billion parameters, are those of a small model.
    const SMALL: u64 = 700_000_000;
    let config = Config::load()?;
    let resolved = ModelName::resolve(name, &config).ok();
    if let Some(remote) = resolved.as_ref().filter(|resolved| !resolved.is_local()) {
        if arguments.compute.offline {
            let error = UserError::new(format!("`{remote}` is not on this machine"));
            return Err(error
                .with_hint("leave out `--offline`, or name a local model")
                .into());
        }
        return Ok(OpenedChat {
            chat: Arc::from(init_chat_model_with(name, &config)?),
            local: None,
            is_small: false,
        });
    }
    let name = resolved.map_or_else(|| name.to_owned(), |resolved| resolved.model);
    let hub = hub(arguments.compute.offline)?;
    let entry = hub.catalog().find(&name);
    if let Some(entry) = entry.filter(|entry| entry.kind != ModelKind::Chat) {
        let message = format!("`{name}` is no chat model but one for {}", entry.kind);
        return Err(UserError::new(message)
            .with_hint("`wenyi models list` shows the chat models")
            .into());
    }
    let size = entry.map(|entry| entry.size);
    let local = hub.resolve(&name, progress)?;
    let options = DecoderOptions {
        precision: arguments.compute.precision,
        threads: arguments.compute.threads,
        ..keeping
    };
    let chat = LocalChatModel::open(&local.path, &local.id, &options)?;
    Ok(OpenedChat {
        chat: Arc::new(chat.clone()),
        local: Some(chat),
        is_small: size.unwrap_or_else(|| weights(&local.path)) < SMALL,
    })
}

/// Bytes of a model's file or of the files in its folder.
fn weights(path: &Path) -> u64 {
    let size = |path: &Path| std::fs::metadata(path).map_or(0, |file| file.len());
    match std::fs::read_dir(path) {
        Ok(files) => files.flatten().map(|file| size(&file.path())).sum(),
        Err(_) => size(path),
    }
}

/// True if `name` leads to a model behind an API.
pub(crate) fn is_remote(name: &str) -> bool {
    let config = Config::load().ok();
    let resolved = config.and_then(|config| ModelName::resolve(name, &config).ok());
    resolved.is_some_and(|resolved| !resolved.is_local())
}
