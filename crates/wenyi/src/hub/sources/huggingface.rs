//! Hugging Face and its mirrors: the listing of a revision, then its files at that very commit.

use serde::Deserialize;

use super::repository::{self, Listed, Listing};
use super::{Delivery, Job};
use crate::hub::catalog::Repository;
use crate::hub::error::Result;
use crate::hub::http::{Client, Request, encode_path};

/// The answer of `/api/models/<repository>/revision/<revision>?blobs=true`.
#[derive(Deserialize)]
struct Revision {
    sha: Option<String>,
    siblings: Vec<Sibling>,
}

#[derive(Deserialize)]
struct Sibling {
    rfilename: String,
    size: Option<u64>,
    lfs: Option<LargeFile>,
}

#[derive(Deserialize)]
struct LargeFile {
    sha256: Option<String>,
    size: Option<u64>,
}

pub(crate) fn fetch(repository: &Repository, job: &Job<'_>) -> Result<Delivery> {
    let client = Client::new(job.settings)?;
    let endpoint = &job.settings.huggingface_endpoint;
    let token = job.settings.huggingface_token.as_deref();
    let name = &repository.repository;
    let revision = repository.revision.as_deref().unwrap_or("main");
    // A revision such as `refs/pr/4` is one part of the path here.
    let part = encode_path(revision).replace('/', "%2F");
    let request = Request {
        url: format!("{endpoint}/api/models/{name}/revision/{part}?blobs=true"),
        token: token.map(String::from),
        ..Request::default()
    };
    let answer: Revision = client.get_json(&request, job.progress)?;
    let commit = answer.sha.clone();
    // At the commit rather than the branch, so that all files are of one state.
    let at = commit
        .as_deref()
        .map_or(part, |commit| encode_path(commit).replace('/', "%2F"));
    let listing = Listing {
        commit,
        files: answer.siblings.into_iter().map(listed).collect(),
    };
    let base = format!("{endpoint}/{name}/resolve/{at}");
    repository::fetch(repository, &listing, &base, token, &client, job)
}

fn listed(sibling: Sibling) -> Listed {
    let large = sibling.lfs;
    Listed {
        path: sibling.rfilename,
        size: sibling.size.or(large.as_ref().and_then(|file| file.size)),
        sha256: large.and_then(|file| file.sha256),
    }
}
