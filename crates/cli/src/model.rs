//! From `--model` to something that embeds.

use wenyi::embed::{Embedder, EncoderOptions, LocalEmbedder};
use wenyi::hub::{DEFAULT_MODEL, Hub};
use wenyi::progress::Progress;

use crate::arguments::ModelArguments;

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
    let name = arguments
        .model
        .as_deref()
        .or(remembered)
        .unwrap_or(DEFAULT_MODEL);
    let local = hub(arguments.offline)?.resolve(name, progress)?;
    let options = EncoderOptions {
        precision: arguments.precision,
        threads: arguments.threads,
        name: Some(local.id),
        ..EncoderOptions::default()
    };
    Ok(Box::new(LocalEmbedder::open(&local.path, &options)?))
}
