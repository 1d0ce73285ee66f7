//! What the user has set: the environment, a `.env` file, and `wenyi.toml`.
//!
//! A program on the command line has no source file to start from, so `.env` and `wenyi.toml` are
//! looked for in the working folder and then in each folder above it.

pub mod dotenv;
mod file;
mod secret;

use std::collections::BTreeMap;
use std::fmt;
use std::path::{Path, PathBuf};

pub use file::{Defaults, ModelSettings, ProviderSettings};
pub use secret::Secret;
pub(crate) use secret::split_userinfo;

/// Names the file to read instead of the nearest `wenyi.toml`.
const FILE_VARIABLE: &str = "WENYI_CONFIG";

/// Where variables come from; the process's own environment, or a test's.
type Lookup = Box<dyn Fn(&str) -> Option<String> + Send + Sync>;

/// Everything that is set. Read once; nothing of it is written into the process's environment.
pub struct Config {
    existing: Lookup,
    dotenv: BTreeMap<String, String>,
    file: file::File,
    notes: Vec<String>,
}

impl Config {
    /// Reads the environment of this process, and the files at or above the working folder.
    ///
    /// # Errors
    ///
    /// If a file cannot be read, or `wenyi.toml` is malformed.
    pub fn load() -> Result<Self, ConfigError> {
        let folder = std::env::current_dir().unwrap_or_default();
        Self::load_from(&folder, |name| {
            // A variable that is no UTF-8 is none of ours.
            std::env::var_os(name).map(|value| value.to_string_lossy().into_owned())
        })
    }

    /// As [`Config::load`], from `folder` up and with variables from `existing`.
    ///
    /// # Errors
    ///
    /// As [`Config::load`].
    pub fn load_from(
        folder: &Path,
        existing: impl Fn(&str) -> Option<String> + Send + Sync + 'static,
    ) -> Result<Self, ConfigError> {
        let mut config = Self::from_lookup(existing);
        if !config.dotenv_is_disabled()
            && let Some(path) = dotenv::find(folder)
        {
            config.read_dotenv(&path)?;
        }
        if let Some(path) = config.file_path(folder)? {
            config.file = file::File::read(&path)?;
        }
        Ok(config)
    }

    /// Variables alone, and no file.
    #[must_use]
    pub fn from_lookup(existing: impl Fn(&str) -> Option<String> + Send + Sync + 'static) -> Self {
        Self {
            existing: Box::new(existing),
            dotenv: BTreeMap::new(),
            file: file::File::default(),
            notes: Vec::new(),
        }
    }

    /// The same with what `toml` says, in the form of `wenyi.toml`.
    ///
    /// # Errors
    ///
    /// If it is malformed.
    pub fn with_toml(mut self, toml: &str) -> Result<Self, ConfigError> {
        self.file = file::File::parse(toml, Path::new("wenyi.toml"))?;
        Ok(self)
    }

    /// A variable of the environment, or else of `.env`; an empty one counts as absent.
    #[must_use]
    pub fn variable(&self, name: &str) -> Option<String> {
        // As python-dotenv: one that exists wins over the file even if it is empty.
        let value = (self.existing)(name).or_else(|| self.dotenv.get(name).cloned())?;
        Some(value.trim().to_owned()).filter(|value| !value.is_empty())
    }

    /// The first of several variables that is set, with its name.
    pub(crate) fn first_variable(&self, names: &[String]) -> Option<(String, String)> {
        names
            .iter()
            .find_map(|name| Some((name.clone(), self.variable(name)?)))
    }

    /// What to use where no model is named.
    #[must_use]
    pub fn defaults(&self) -> &Defaults {
        &self.file.defaults
    }

    /// Other names for models.
    #[must_use]
    pub fn aliases(&self) -> &BTreeMap<String, String> {
        &self.file.aliases
    }

    /// What is set for providers, by name.
    #[must_use]
    pub fn providers(&self) -> &BTreeMap<String, ProviderSettings> {
        &self.file.providers
    }

    /// Another table of `wenyi.toml`, such as the server's; its owner understands it.
    #[must_use]
    pub fn section(&self, name: &str) -> Option<&serde_json::Value> {
        self.file.others.get(name)
    }

    /// What the user should know of the files: lines that were passed over.
    #[must_use]
    pub fn notes(&self) -> &[String] {
        &self.notes
    }

    /// The model that `name` stands for: itself, if it is no alias.
    ///
    /// # Errors
    ///
    /// If the aliases go round in a circle.
    pub fn resolve_alias<'a>(&'a self, name: &'a str) -> Result<&'a str, ConfigError> {
        let mut seen = vec![name];
        let mut current = name;
        while let Some(next) = self.file.aliases.get(current) {
            if seen.contains(&next.as_str()) {
                return Err(ConfigError::CircularAlias { name: name.into() });
            }
            seen.push(next);
            current = next;
        }
        Ok(current)
    }

    fn dotenv_is_disabled(&self) -> bool {
        let value = (self.existing)("PYTHON_DOTENV_DISABLED").unwrap_or_default();
        matches!(
            value.to_lowercase().as_str(),
            "1" | "true" | "t" | "yes" | "y"
        )
    }

    fn read_dotenv(&mut self, path: &Path) -> Result<(), ConfigError> {
        let text = read(path)?;
        let parsed = dotenv::parse(&text, &self.existing);
        for line in parsed.bad_lines {
            let note = format!("`{}` line {line} says nothing: passed over", path.display());
            self.notes.push(note);
        }
        self.dotenv = parsed.variables;
        Ok(())
    }

    fn file_path(&self, folder: &Path) -> Result<Option<PathBuf>, ConfigError> {
        if let Some(path) = self.variable(FILE_VARIABLE).map(PathBuf::from) {
            if !path.is_file() {
                return Err(ConfigError::NoFile {
                    variable: FILE_VARIABLE,
                    path,
                });
            }
            return Ok(Some(path));
        }
        let home = |name, below: &str| Some(Path::new(&self.variable(name)?).join(below));
        let mut candidates = folder.ancestors().map(|above| above.join("wenyi.toml"));
        let found = candidates.find(|path| path.is_file()).or_else(|| {
            home("XDG_CONFIG_HOME", "wenyi/wenyi.toml")
                .or_else(|| home("HOME", ".config/wenyi/wenyi.toml"))
                .filter(|path| path.is_file())
        });
        Ok(found)
    }
}

/// Shows which variables a `.env` file has, and no value of any.
impl fmt::Debug for Config {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Config")
            .field("dotenv", &self.dotenv.keys().collect::<Vec<_>>())
            .field("file", &self.file)
            .finish_non_exhaustive()
    }
}

/// Why the settings cannot be read. All of these are the user's to cure.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum ConfigError {
    /// The operating system refused.
    #[error("cannot read `{}`: {source}", path.display())]
    Io {
        /// The file.
        path: PathBuf,
        /// The system's own error.
        source: std::io::Error,
    },
    /// The file is not what it should be; the message names line and field, and shows no value.
    #[error("`{}` line {line}: {reason}", path.display())]
    Malformed {
        /// The file.
        path: PathBuf,
        /// Counted from one.
        line: usize,
        /// What is wrong.
        reason: String,
    },
    /// A variable names a file that is not there.
    #[error("`{variable}` names `{}`, and there is no such file", path.display())]
    NoFile {
        /// The variable.
        variable: &'static str,
        /// Its value.
        path: PathBuf,
    },
    /// An alias that leads back to itself.
    #[error("the alias `{name}` leads back to itself")]
    CircularAlias {
        /// The alias.
        name: String,
    },
}

fn read(path: &Path) -> Result<String, ConfigError> {
    std::fs::read_to_string(path).map_err(|source| ConfigError::Io {
        path: path.into(),
        source,
    })
}

#[cfg(test)]
mod tests;
