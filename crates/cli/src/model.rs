//! From `--model` to something that embeds.

use wenyi::config::Config;
use wenyi::embed::{Embedder, EncoderOptions, LocalEmbedder, init_embeddings_with};
use wenyi::hub::{DEFAULT_MODEL, Hub};
use wenyi::progress::Progress;
use wenyi::providers::ModelName;

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
    // A name that says nothing of a provider is the hub's to judge.
    let resolved = ModelName::resolve(name, &config).ok();
    if let Some(remote) = resolved.as_ref().filter(|resolved| !resolved.is_local()) {
        if arguments.offline {
            let error = UserError::new(format!("`{remote}` is not on this machine"));
            return Err(error
                .with_hint("leave out `--offline`, or name a local model")
                .into());
        }
        return Ok(init_embeddings_with(name, &config)?);
    }
    let name = resolved.map_or_else(|| name.to_owned(), |resolved| resolved.model);
    let local = hub(arguments.offline)?.resolve(&name, progress)?;
    let options = EncoderOptions {
        precision: arguments.precision,
        threads: arguments.threads,
        name: Some(local.id),
        ..EncoderOptions::default()
    };
    Ok(Box::new(LocalEmbedder::open(&local.path, &options)?))
}

/// True if `name` leads to a model behind an API.
pub(crate) fn is_remote(name: &str) -> bool {
    let config = Config::load().ok();
    let resolved = config.and_then(|config| ModelName::resolve(name, &config).ok());
    resolved.is_some_and(|resolved| !resolved.is_local())
}
