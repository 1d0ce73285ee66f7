//! A served model as an [`Embedder`], for work that needs more of it than vectors.

use std::sync::Arc;

use wenyi::embed::{EmbedError, EmbedOptions, Embedder, Embeddings, Fingerprint};
use wenyi_engine::encoder::Output;

use super::Models;
use super::registry::Choice;
use super::worker::Worker;
use crate::problem::Problem;

/// A model that gives vectors, and the name it is served under.
pub(crate) struct Served {
    pub(crate) name: String,
    pub(crate) embedder: Arc<dyn Embedder>,
}

impl Models {
    /// The model called `name`, or the first that gives vectors.
    pub(crate) async fn served(&self, name: Option<&str>) -> Result<Served, Problem> {
        Ok(match self.registry.choose(name, Output::Embedding).await? {
            Choice::Here(chosen) => Served {
                name: chosen.name,
                embedder: Arc::new(Here(chosen.worker)),
            },
            Choice::There(name, remote) => {
                let (embedder, _) = remote.ready_embedder().await?;
                Served { name, embedder }
            }
        })
    }
}

/// A model on this machine.
struct Here(Arc<Worker>);

impl Embedder for Here {
    fn fingerprint(&self) -> &Fingerprint {
        self.0.encoder().fingerprint()
    }

    fn dimensions(&self) -> usize {
        self.0.encoder().dimensions()
    }

    fn max_length(&self) -> usize {
        self.0.encoder().max_length()
    }

    fn count_tokens(&self, text: &str) -> Result<usize, EmbedError> {
        Ok(self.0.encoder().count_tokens(text)?)
    }

    /// Past the queue: requests go through [`Models::embed`].
    fn embed(&self, texts: &[&str], options: &EmbedOptions) -> Result<Embeddings, EmbedError> {
        Ok(self.0.encoder().embed(texts, options)?)
    }
}
