//! From `--model` to something that embeds.

use wenyi::embed::Embedder;
use wenyi::progress::Progress;

use crate::arguments::ModelArguments;
use crate::exit::UserError;

/// Opens the model, fetching it first if it is not on this machine.
pub(crate) fn open(
    arguments: &ModelArguments,
    _progress: &dyn Progress,
) -> anyhow::Result<Box<dyn Embedder>> {
    let name = arguments.model.as_deref().unwrap_or("the default model");
    Err(UserError::new(format!("this build cannot open `{name}`: it has no engine")).into())
}
