//! From `--model` to something that embeds.

use wenyi::embed::Embedder;
use wenyi::hub::{DEFAULT_MODEL, Hub};
use wenyi::progress::Progress;

use crate::arguments::ModelArguments;
use crate::exit::UserError;

/// The hub as the environment and `--offline` say.
pub(crate) fn hub(offline: bool) -> anyhow::Result<Hub> {
    let hub = Hub::from_env()?;
    Ok(if offline { hub.offline(true) } else { hub })
}

/// Opens the model, fetching it first if it is not on this machine.
pub(crate) fn open(
    arguments: &ModelArguments,
    progress: &dyn Progress,
) -> anyhow::Result<Box<dyn Embedder>> {
    let name = arguments.model.as_deref().unwrap_or(DEFAULT_MODEL);
    let local = hub(arguments.offline)?.resolve(name, progress)?;
    Err(UserError::new(format!(
        "`{}` is here, but this build has no engine",
        local.id
    ))
    .into())
}
