//! What `search` and `ask` share: from a path and a question to a collection that is in step with
//! the documents, and the model that made it.

use std::path::{Path, PathBuf};

use clap::Args;
use wenyi::embed::Embedder;
use wenyi::progress::Progress;
use wenyi::retrieve::open_to_search;
use wenyi_store::Collection;

use crate::arguments::ModelArguments;
use crate::collection::{Target, remembered_model};
use crate::commands::index::{Indexed, IndexingArguments};
use crate::exit::UserError;
use crate::model;
use crate::output::place::from_here;
use crate::output::quantity;
use crate::progress::Terminal;

/// Where to look and what for.
#[derive(Args, Debug)]
pub(crate) struct QuestionArguments {
    /// Folder or file to search, or a collection made by `wenyi index --collection`
    #[arg(value_name = "PATH|COLLECTION.db")]
    path: PathBuf,

    /// The question
    #[arg(required = true, value_name = "QUESTION")]
    question: Vec<String>,

    /// Search what is indexed already, without looking at the folder
    #[arg(long, conflicts_with = "reindex")]
    no_index: bool,

    #[command(flatten)]
    indexing: IndexingArguments,
}

/// A collection to ask, with its model.
pub(crate) struct Opened {
    pub(crate) embedder: Box<dyn Embedder>,
    pub(crate) collection: Collection,
    /// Where the collection is.
    pub(crate) file: PathBuf,
    /// None if nothing was indexed.
    pub(crate) indexed: Option<Indexed>,
}

impl QuestionArguments {
    /// The question, its words joined.
    pub(crate) fn question(&self) -> String {
        self.question.join(" ")
    }

    /// Indexes what is new, then opens the collection; `model` is the one that embeds.
    pub(crate) fn open(
        &self,
        model: &ModelArguments,
        progress: &Terminal,
    ) -> anyhow::Result<Opened> {
        self.documents().open(model, progress)
    }

    /// The collection as it is, if nothing is to be indexed first: to compare words, no model is
    /// needed then. Gives the file as well.
    pub(crate) fn open_as_it_is(
        &self,
        model: &ModelArguments,
    ) -> anyhow::Result<Option<(Collection, PathBuf)>> {
        let hub = model::hub(model.compute.offline)?;
        let target = Target::new(&self.path, self.indexing.collection.as_deref(), &hub);
        if !self.no_index && matches!(target, Target::Documents { .. }) {
            return Ok(None);
        }
        self.documents().expect_something(&target)?;
        let file = target.collection().to_owned();
        let collection = Collection::open_read_only(&file).map_err(wenyi::retrieve::Error::from)?;
        Ok(Some((collection, file)))
    }

    fn documents(&self) -> Documents<'_> {
        Documents {
            path: &self.path,
            no_index: self.no_index,
            indexing: &self.indexing,
        }
    }
}

/// Documents, or a collection of them.
#[derive(Clone, Copy)]
pub(crate) struct Documents<'a> {
    pub(crate) path: &'a Path,
    pub(crate) no_index: bool,
    pub(crate) indexing: &'a IndexingArguments,
}

impl Documents<'_> {
    /// Indexes what is new, then opens the collection; `model` is the one that embeds.
    pub(crate) fn open(
        self,
        model: &ModelArguments,
        progress: &Terminal,
    ) -> anyhow::Result<Opened> {
        let hub = model::hub(model.compute.offline)?;
        let target = Target::new(self.path, self.indexing.collection.as_deref(), &hub);
        self.expect_something(&target)?;
        let keeps_model = model.model.is_none() && !self.indexing.reindex;
        let remembered = keeps_model
            .then(|| remembered_model(target.collection(), &hub))
            .flatten();
        let embedder = model::open(model, remembered.as_deref(), progress)?;
        let indexed = self.index(&target, embedder.as_ref(), progress)?;
        let collection = open_to_search(target.collection(), embedder.as_ref())?;
        Ok(Opened {
            embedder,
            collection,
            file: target.collection().to_owned(),
            indexed,
        })
    }

    /// Says at once that there is nothing at the path, before a model is fetched.
    fn expect_something(self, target: &Target) -> anyhow::Result<()> {
        let Target::Documents { root, collection } = target else {
            return Ok(());
        };
        let (message, hint) = match self.no_index {
            false if !root.exists() => (
                format!("there is no `{}`", root.display()),
                "give a folder, a file or a collection that exists",
            ),
            true if !collection.exists() => (
                format!("`{}` is not indexed", root.display()),
                "leave out `--no-index`",
            ),
            _ => return Ok(()),
        };
        Err(UserError::new(message).with_hint(hint).into())
    }

    /// Indexes what changed, if there is anything to look at and the collection can be written.
    fn index(
        self,
        target: &Target,
        embedder: &dyn Embedder,
        progress: &Terminal,
    ) -> anyhow::Result<Option<Indexed>> {
        let Target::Documents { root, collection } = target else {
            return Ok(None);
        };
        if self.no_index {
            return Ok(None);
        }
        let roots = std::slice::from_ref(root);
        match self
            .indexing
            .bring_in_step(collection, roots, false, embedder, progress)
        {
            Err(error) if is_read_only(&error) && collection.exists() => {
                progress.note("the collection is read-only: searching it as it is");
                Ok(None)
            }
            other => {
                let indexed = other?;
                note_failures(&indexed, root, progress);
                Ok(Some(indexed))
            }
        }
    }
}

/// Says that some documents cannot be found because they could not be read.
fn note_failures(indexed: &Indexed, root: &Path, progress: &Terminal) {
    /// More are counted: `wenyi index` lists them.
    const MOST_NAMED: usize = 2;
    let failures: Vec<_> = indexed.report.failures().collect();
    if failures.len() > MOST_NAMED {
        let files = quantity::counted(failures.len() as u64, "file");
        let root = root.display();
        progress.note(&format!(
            "{files} could not be read; `wenyi index {root}` says which and why"
        ));
        return;
    }
    for skip in failures {
        let (path, reason) = (from_here(&skip.path).display(), &skip.reason);
        progress.note(&format!("`{path}` could not be read: {reason}"));
    }
}

fn is_read_only(error: &anyhow::Error) -> bool {
    use wenyi::retrieve::ErrorKind;
    let Some(error) = error.downcast_ref::<wenyi::retrieve::Error>() else {
        return false;
    };
    match error.kind() {
        ErrorKind::Store(error) => {
            matches!(error.kind(), wenyi_store::ErrorKind::ReadOnly { .. })
        }
        _ => false,
    }
}
