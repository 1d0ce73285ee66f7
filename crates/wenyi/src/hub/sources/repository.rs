//! Repositories of model hubs: which of their files a model consists of, and fetching those.

use super::{Delivery, Job, check_paths};
use crate::hub::cache::Trust;
use crate::hub::catalog::{PinnedFile, Repository};
use crate::hub::download::Download;
use crate::hub::error::{ErrorKind, Result};
use crate::hub::http::{Client, encode_path};
use crate::hub::stage::Stage;

/// Files of the model's own folder that tell what it is, how it reads text and how it speaks.
const FACTS: [&str; 15] = [
    "config.json",
    "modules.json",
    "sentence_bert_config.json",
    "config_sentence_transformers.json",
    "tokenizer.json",
    "tokenizer_config.json",
    "special_tokens_map.json",
    "added_tokens.json",
    "vocab.txt",
    "vocab.json",
    "merges.txt",
    "generation_config.json",
    "chat_template.jinja",
    "LICENSE",
    "LICENSE.txt",
];

/// One file of a repository, as its hub lists it.
#[derive(Clone, Debug, Default)]
pub(crate) struct Listed {
    pub(crate) path: String,
    pub(crate) size: Option<u64>,
    pub(crate) sha256: Option<String>,
}

/// What a hub says about a repository.
#[derive(Debug, Default)]
pub(crate) struct Listing {
    pub(crate) commit: Option<String>,
    pub(crate) files: Vec<Listed>,
}

/// Fetches the files of `listing` that make the model; `base` and a file's path make its URL.
pub(crate) fn fetch(
    repository: &Repository,
    listing: &Listing,
    base: &str,
    token: Option<&str>,
    client: &Client,
    job: &Job<'_>,
) -> Result<Delivery> {
    let (chosen, model) = choose(repository, &listing.files)?;
    check_paths(chosen.iter().map(|file| file.path.as_str()), base)?;
    let sizes: Option<u64> = chosen.iter().map(|file| file.size).sum();
    let _stage = Stage::bytes(job.progress, &format!("fetching {}", job.id), sizes);
    let mut files = Vec::new();
    for file in &chosen {
        let (pin, trust) = pin(repository, file);
        let url = format!("{base}/{}", encode_path(&file.path));
        let token = token.map(String::from);
        let download = Download {
            url,
            token,
            pin,
            trust,
            client,
            progress: job.progress,
        };
        files.push(download.fetch(job.staging)?);
    }
    Ok(Delivery {
        commit: listing.commit.clone(),
        model,
        files,
    })
}

/// What `file` must be: the catalog has the first word, the hub the second.
fn pin(repository: &Repository, file: &Listed) -> (PinnedFile, Trust) {
    let known = repository
        .files
        .iter()
        .find(|known| known.path == file.path);
    match known.filter(|known| known.sha256.is_some()) {
        Some(known) => (known.clone(), Trust::Pinned),
        None => {
            let (path, sha256) = (file.path.clone(), file.sha256.clone());
            (
                PinnedFile {
                    path,
                    size: file.size,
                    sha256,
                },
                Trust::Announced,
            )
        }
    }
}

/// The files that make the model, and what of them the engine opens.
fn choose<'a>(repository: &Repository, files: &'a [Listed]) -> Result<(Vec<&'a Listed>, String)> {
    let has = |path: &str| files.iter().any(|file| file.path == path);
    let weights: Vec<&Listed> = if repository.gguf.is_some() || !has_safetensors(files) {
        let file = one_gguf(repository, files)?;
        return Ok((vec![file], file.path.clone()));
    } else if has("model.safetensors") {
        files
            .iter()
            .filter(|file| file.path == "model.safetensors")
            .collect()
    } else {
        files.iter().filter(|file| is_shard(&file.path)).collect()
    };
    let facts = files
        .iter()
        .filter(|file| FACTS.contains(&file.path.as_str()) || is_module_file(&file.path));
    // Small files first: a wrong repository shows before gigabytes have come.
    Ok((facts.chain(weights).collect(), ".".into()))
}

fn has_safetensors(files: &[Listed]) -> bool {
    files
        .iter()
        .any(|file| file.path == "model.safetensors" || file.path == "model.safetensors.index.json")
}

fn one_gguf<'a>(repository: &Repository, files: &'a [Listed]) -> Result<&'a Listed> {
    let part = repository.gguf.as_deref().unwrap_or("").to_lowercase();
    let all = || {
        files
            .iter()
            .filter(|file| file.path.to_lowercase().ends_with(".gguf"))
    };
    let found: Vec<&Listed> = all()
        .filter(|f| f.path.to_lowercase().contains(&part))
        .collect();
    if let [only] = found[..] {
        return Ok(only);
    }
    let is_weights = |file: &&Listed| {
        [".gguf", ".bin", ".onnx", ".pt", ".h5"]
            .iter()
            .any(|end| file.path.ends_with(end))
    };
    let found = if found.is_empty() {
        files.iter().filter(is_weights).collect()
    } else {
        found
    };
    let found = found.iter().map(|file| file.path.clone()).collect();
    Err(ErrorKind::NoWeights {
        repository: repository.repository.clone(),
        found,
    }
    .into())
}

fn is_shard(path: &str) -> bool {
    path == "model.safetensors.index.json"
        || (path.starts_with("model-") && path.ends_with(".safetensors"))
}

/// `1_Pooling/config.json`, `2_Dense/model.safetensors`: the modules of sentence-transformers.
fn is_module_file(path: &str) -> bool {
    let Some((folder, name)) = path.split_once('/') else {
        return false;
    };
    let numbered = folder.split_once('_').is_some_and(|(number, _)| {
        !number.is_empty() && number.bytes().all(|byte| byte.is_ascii_digit())
    });
    numbered && matches!(name, "config.json" | "model.safetensors")
}

#[cfg(test)]
mod tests {
    use super::*;

    fn listed(paths: &[&str]) -> Vec<Listed> {
        paths
            .iter()
            .map(|path| Listed {
                path: (*path).into(),
                ..Listed::default()
            })
            .collect()
    }

    fn chosen(paths: &[&str], gguf: Option<&str>) -> Result<(Vec<String>, String)> {
        let repository = Repository {
            repository: "a/b".into(),
            gguf: gguf.map(Into::into),
            ..Default::default()
        };
        let files = listed(paths);
        let (files, model) = choose(&repository, &files)?;
        Ok((files.iter().map(|file| file.path.clone()).collect(), model))
    }

    #[test]
    fn a_sentence_transformers_folder_is_taken_without_its_other_formats() {
        let (files, model) = chosen(
            &[
                "1_Pooling/config.json",
                "2_Dense/model.safetensors",
                "README.md",
                "config.json",
                "model.safetensors",
                "onnx/model.onnx",
                "pytorch_model.bin",
                "tokenizer.json",
            ],
            None,
        )
        .expect("chosen");
        assert_eq!(model, ".");
        assert_eq!(
            files,
            [
                "1_Pooling/config.json",
                "2_Dense/model.safetensors",
                "config.json",
                "tokenizer.json",
                "model.safetensors"
            ]
        );
    }

    #[test]
    fn shards_come_with_their_index() {
        let index = "model.safetensors.index.json";
        let paths = ["config.json", "model-00001-of-00002.safetensors", index];
        assert_eq!(chosen(&paths, None).expect("chosen").0.len(), 3);
    }

    #[test]
    fn a_gguf_is_taken_if_it_is_the_only_one_or_named() {
        let paths = ["README.md", "m-Q4_K_M.gguf", "m-Q8_0.gguf"];
        let error = chosen(&paths, None).expect_err("two");
        assert!(error.is_user_error() && error.hint().expect("a hint").contains("Q8_0"));
        assert_eq!(chosen(&paths, Some("q8_0")).expect("one").1, "m-Q8_0.gguf");
        assert_eq!(chosen(&paths[..2], None).expect("one").1, "m-Q4_K_M.gguf");
        let error = chosen(&["pytorch_model.bin"], None).expect_err("none");
        assert!(error.to_string().contains("pytorch_model.bin"), "{error}");
    }
}
