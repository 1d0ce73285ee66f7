//! What a user may mean by a model's name.

use std::fs;
use std::path::{Path, PathBuf};

use super::LocalModel;
use super::catalog::{Catalog, CatalogEntry};
use super::error::{Error, ErrorKind, Result};

/// A model's name, understood.
#[derive(Debug)]
pub(crate) enum Name {
    /// A folder or file outside the cache.
    Path(PathBuf),
    /// A model that the cache holds or a source has.
    Wanted(Wanted),
}

/// A model that the cache holds or a source has.
#[derive(Clone, Debug)]
pub(crate) struct Wanted {
    /// The catalog's id, or `org/name`.
    pub(crate) id: String,
    pub(crate) entry: Option<&'static CatalogEntry>,
    /// After `@`.
    pub(crate) revision: Option<String>,
    /// After `:`, a part of a `.gguf` file's name.
    pub(crate) gguf: Option<String>,
}

impl Name {
    /// Understands `name`: an id of the catalog, a path that exists, or
    /// `org/name[@revision][:part-of-a-gguf-name]`.
    ///
    /// The catalog comes first, so that a folder that happens to be called `bge-m3` changes
    /// nothing; `./bge-m3` means the folder.
    pub(crate) fn parse(name: &str, catalog: &'static Catalog) -> Result<Self> {
        let name = name.trim();
        if let Some(entry) = catalog.find(name) {
            let id = entry.id.clone();
            let wanted = Wanted {
                id,
                entry: Some(entry),
                revision: None,
                gguf: None,
            };
            return Ok(Self::Wanted(wanted));
        }
        let path = Path::new(name);
        if !name.is_empty() && path.exists() {
            return Ok(Self::Path(path.to_path_buf()));
        }
        if let Some(wanted) = repository(name, catalog) {
            return Ok(Self::Wanted(wanted));
        }
        if looks_like_a_path(name) {
            let path = path.to_path_buf();
            return Err(ErrorKind::NotAModel {
                path,
                reason: "no such file or folder".into(),
            }
            .into());
        }
        let similar = catalog.similar(name);
        Err(ErrorKind::UnknownModel {
            model: name.into(),
            similar,
        }
        .into())
    }
}

/// The model at a path of the user's.
pub(crate) fn at_path(path: &Path) -> Result<LocalModel> {
    let refuse = |reason: &str| {
        Error::from(ErrorKind::NotAModel {
            path: path.to_path_buf(),
            reason: reason.into(),
        })
    };
    let opened = if path.is_file() {
        match path.extension().and_then(|extension| extension.to_str()) {
            Some("gguf") => path.to_path_buf(),
            // A single weights file stands for the folder with its configuration.
            Some("safetensors") => path.parent().map_or_else(PathBuf::new, Path::to_path_buf),
            _ => return Err(refuse("expected a folder or a `.gguf` file")),
        }
    } else if path.join("config.json").is_file() {
        path.to_path_buf()
    } else if !path.is_dir() {
        return Err(refuse("it is neither a folder nor a file"));
    } else {
        match &gguf_files(path)?[..] {
            [only] => only.clone(),
            [] => return Err(refuse("it has neither `config.json` nor a `.gguf` file")),
            _ => return Err(refuse("it has several `.gguf` files: name one")),
        }
    };
    let name = fs::canonicalize(path).unwrap_or_else(|_| path.to_path_buf());
    let id = name
        .file_stem()
        .map_or_else(|| "model".into(), |name| name.to_string_lossy().into());
    let id = if path.is_dir() {
        name.file_name()
            .map_or(id, |name| name.to_string_lossy().into())
    } else {
        id
    };
    Ok(LocalModel {
        id,
        path: opened,
        entry: None,
        manifest: None,
    })
}

fn gguf_files(folder: &Path) -> Result<Vec<PathBuf>> {
    let listing = fs::read_dir(folder).map_err(|error| Error::io(folder, error))?;
    let paths = listing.flatten().map(|entry| entry.path());
    Ok(paths
        .filter(|path| path.extension().is_some_and(|end| end == "gguf"))
        .collect())
}

fn repository(name: &str, catalog: &'static Catalog) -> Option<Wanted> {
    let (rest, gguf) = match name.split_once(':') {
        Some((rest, part)) => (rest, Some(part.to_string())),
        None => (name, None),
    };
    let (id, revision) = match rest.split_once('@') {
        Some((id, revision)) => (id, Some(revision.to_string())),
        None => (rest, None),
    };
    let known = catalog.find(id);
    let (organisation, repository) = id.split_once('/').unwrap_or((id, id));
    let part = |part: &str| {
        !part.is_empty()
            && !part.starts_with(['.', '-'])
            && part
                .bytes()
                .all(|b| b.is_ascii_alphanumeric() || b"._-".contains(&b))
    };
    let given = |value: &Option<String>| value.as_ref().is_none_or(|value| !value.is_empty());
    let is_repository = id.contains('/') && part(organisation) && part(repository);
    if !given(&gguf) || !given(&revision) || repository.ends_with(".gguf") {
        return None;
    }
    match known {
        Some(entry) => Some(Wanted {
            id: entry.id.clone(),
            entry: Some(entry),
            revision,
            gguf,
        }),
        None => is_repository.then(|| Wanted {
            id: id.into(),
            entry: None,
            revision,
            gguf,
        }),
    }
}

fn looks_like_a_path(name: &str) -> bool {
    name.starts_with(['.', '~'])
        || name.contains(['/', '\\'])
        || name.ends_with(".gguf")
        || name.ends_with(".safetensors")
}

#[cfg(test)]
mod tests {
    use super::*;

    fn parse(name: &str) -> Result<Name> {
        Name::parse(name, Catalog::embedded())
    }

    fn wanted(name: &str) -> Wanted {
        match parse(name).expect("a model") {
            Name::Wanted(wanted) => wanted,
            Name::Path(path) => panic!("{} is no path", path.display()),
        }
    }

    #[test]
    fn ids_aliases_and_repositories_are_told_apart() {
        assert_eq!(wanted("ALL-MINILM-L6-V2").id, "all-MiniLM-L6-v2");
        assert_eq!(wanted("BAAI/bge-m3").id, "bge-m3");
        assert_eq!(wanted("bge-m3@abc").revision.as_deref(), Some("abc"));
        let other = wanted("some/model@refs/pr/4:Q8_0");
        assert_eq!(
            (other.id.as_str(), other.entry.is_some()),
            ("some/model", false)
        );
        assert_eq!(other.revision.as_deref(), Some("refs/pr/4"));
        assert_eq!(other.gguf.as_deref(), Some("Q8_0"));
    }

    #[test]
    fn a_misspelt_name_says_what_was_meant() {
        let error = parse("bge-m4").expect_err("unknown");
        assert!(error.is_user_error());
        assert_eq!(error.hint().expect("a hint"), "did you mean `bge-m3`?");
        for name in [
            "",
            "   ",
            "a/b/c",
            "./nothing",
            "/nothing/at/all",
            "模型",
            "some/model@",
            "x.gguf",
        ] {
            assert!(
                parse(name).expect_err("no such model").is_user_error(),
                "{name:?}"
            );
        }
    }

    #[test]
    fn a_path_is_a_folder_with_a_configuration_or_one_gguf() {
        let folder = tempfile::tempdir().expect("a folder");
        let model = folder.path().join("模型");
        fs::create_dir(&model).expect("made");
        let name = model.to_str().expect("text");
        let resolve = || match parse(name).expect("a path") {
            Name::Path(path) => at_path(&path),
            Name::Wanted(wanted) => panic!("{wanted:?}"),
        };
        assert!(
            resolve()
                .expect_err("empty")
                .to_string()
                .contains("neither")
        );
        fs::write(model.join("a.gguf"), "").expect("written");
        assert_eq!(resolve().expect("one").path, model.join("a.gguf"));
        fs::write(model.join("b.gguf"), "").expect("written");
        assert!(resolve().expect_err("two").to_string().contains("several"));
        fs::write(model.join("config.json"), "{}").expect("written");
        let local = resolve().expect("a folder");
        assert_eq!((local.id.as_str(), local.path), ("模型", model.clone()));
        assert_eq!(at_path(&model.join("a.gguf")).expect("a file").id, "a");
    }
}
