//! ModelScope: the listing of a revision, then its files.

use serde::Deserialize;

use super::repository::{self, Listed, Listing};
use super::{Delivery, Job};
use crate::hub::catalog::Repository;
use crate::hub::error::{ErrorKind, Result};
use crate::hub::http::{Client, Request, encode_path};

/// The answer of `/api/v1/models/<repository>/repo/files`.
#[derive(Deserialize)]
#[serde(rename_all = "PascalCase")]
struct Answer {
    data: Option<Data>,
    message: Option<String>,
}

#[derive(Deserialize)]
#[serde(rename_all = "PascalCase")]
struct Data {
    files: Option<Vec<File>>,
}

#[derive(Deserialize)]
#[serde(rename_all = "PascalCase")]
struct File {
    path: String,
    #[serde(rename = "Type")]
    kind: Option<String>,
    size: Option<u64>,
    sha256: Option<String>,
}

pub(crate) fn fetch(repository: &Repository, job: &Job<'_>) -> Result<Delivery> {
    let client = Client::new(job.settings)?;
    let endpoint = &job.settings.modelscope_endpoint;
    let name = &repository.repository;
    let revision = encode_path(repository.revision.as_deref().unwrap_or("master"));
    let url =
        format!("{endpoint}/api/v1/models/{name}/repo/files?Revision={revision}&Recursive=true");
    let request = Request {
        url: url.clone(),
        ..Request::default()
    };
    let answer: Answer = client.get_json(&request, job.progress)?;
    let Some(files) = answer.data.and_then(|data| data.files) else {
        let reason = answer.message.unwrap_or_else(|| "it lists no files".into());
        return Err(ErrorKind::Answer { url, reason }.into());
    };
    let is_file = |file: &File| file.kind.as_deref() != Some("tree");
    let listing = Listing {
        commit: None,
        files: files.into_iter().filter(is_file).map(listed).collect(),
    };
    let base = format!("{endpoint}/models/{name}/resolve/{revision}");
    repository::fetch(repository, &listing, &base, None, &client, job)
}

fn listed(file: File) -> Listed {
    let sha256 = file
        .sha256
        .map(|hash| hash.to_ascii_lowercase())
        .filter(|hash| hash.len() == 64);
    Listed {
        path: file.path,
        size: file.size,
        sha256,
    }
}
