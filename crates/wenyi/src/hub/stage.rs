//! A stage of long work that ends however the work ends.

use crate::progress::{Progress, Unit};

/// A stage that counts bytes; over when dropped, so that an error leaves no bar standing.
pub(crate) struct Stage<'a>(&'a dyn Progress);

impl<'a> Stage<'a> {
    pub(crate) fn bytes(progress: &'a dyn Progress, name: &str, total: Option<u64>) -> Self {
        progress.start(name, total, Unit::Bytes);
        Self(progress)
    }
}

impl Drop for Stage<'_> {
    fn drop(&mut self) {
        self.0.finish();
    }
}
