//! `config.json` with errors that name the field.

use std::path::{Path, PathBuf};

use serde_json::Value;

use crate::{Error, Result};

/// The fields of a JSON object in a file.
#[derive(Clone, Debug)]
pub(crate) struct Fields {
    path: PathBuf,
    value: Value,
    /// Tensors of the weights that the fields describe, where there are any.
    num_tensors: usize,
}

impl Fields {
    /// Reads the file at `path`.
    pub(crate) fn open(path: &Path) -> Result<Self> {
        let text = std::fs::read(path).map_err(|error| Error::io(path, error))?;
        let value = serde_json::from_slice(&text)
            .map_err(|error| Error::invalid(path, format!("expected JSON: {error}")))?;
        Ok(Self {
            path: path.to_path_buf(),
            value,
            num_tensors: usize::MAX,
        })
    }

    /// The same, as the description of weights with so many tensors.
    #[must_use]
    pub(super) fn of_weights(self, num_tensors: usize) -> Self {
        Self {
            num_tensors,
            ..self
        }
    }

    /// Reads the file at `path` if there is one.
    pub(crate) fn open_if_exists(path: &Path) -> Result<Option<Self>> {
        if path.exists() {
            Self::open(path).map(Some)
        } else {
            Ok(None)
        }
    }

    /// The value of a field; `null` counts as absent.
    pub(crate) fn get(&self, name: &str) -> Option<&Value> {
        self.value.get(name).filter(|value| !value.is_null())
    }

    /// The whole value.
    pub(crate) fn value(&self) -> &Value {
        &self.value
    }

    /// A nested object.
    pub(crate) fn object(&self, name: &str) -> Option<Self> {
        let value = self.get(name)?;
        value.is_object().then(|| Self {
            path: self.path.clone(),
            value: value.clone(),
            num_tensors: self.num_tensors,
        })
    }

    fn wrong(&self, name: &str, expected: &str) -> Error {
        let came = self
            .get(name)
            .map_or_else(|| "absent".to_owned(), Value::to_string);
        Error::invalid(
            &self.path,
            format!("`{name}` is {came}, expected {expected}"),
        )
    }

    /// The first present of several spellings of a count.
    pub(crate) fn count_of(&self, names: &[&str]) -> Result<usize> {
        self.count(self.spelling(names))
    }

    fn spelling<'a>(&self, names: &[&'a str]) -> &'a str {
        let present = names.iter().find(|name| self.get(name).is_some());
        present.unwrap_or(&names[0])
    }

    /// How many layers there are, by the first present of several spellings. Every layer has tensors
    /// of its own, so a number beyond theirs is refused before memory is taken for each.
    pub(crate) fn num_layers(&self, names: &[&str]) -> Result<usize> {
        let name = self.spelling(names);
        let layers = self.count(name)?;
        if layers <= self.num_tensors {
            return Ok(layers);
        }
        let expected = format!("at most {}, the tensors of the weights", self.num_tensors);
        Err(self.wrong(name, &expected))
    }

    /// A positive integer.
    pub(crate) fn count(&self, name: &str) -> Result<usize> {
        // A model of more than 2³² of anything is a broken file.
        self.get(name)
            .and_then(Value::as_u64)
            .filter(|value| (1..=u64::from(u32::MAX)).contains(value))
            .and_then(|value| usize::try_from(value).ok())
            .ok_or_else(|| self.wrong(name, "a positive integer"))
    }

    /// A positive integer if present.
    pub(crate) fn optional_count(&self, name: &str) -> Result<Option<usize>> {
        self.get(name).map(|_| self.count(name)).transpose()
    }

    /// A finite number if present.
    pub(crate) fn optional_number(&self, name: &str) -> Result<Option<f32>> {
        let Some(value) = self.get(name) else {
            return Ok(None);
        };
        #[expect(
            clippy::cast_possible_truncation,
            reason = "the engine computes in f32"
        )]
        let number = value
            .as_f64()
            .map(|value| value as f32)
            .filter(|value| value.is_finite());
        number.map(Some).ok_or_else(|| self.wrong(name, "a number"))
    }

    /// True or false; `default` if absent.
    pub(crate) fn flag(&self, name: &str, default: bool) -> Result<bool> {
        let Some(value) = self.get(name) else {
            return Ok(default);
        };
        value
            .as_bool()
            .ok_or_else(|| self.wrong(name, "true or false"))
    }

    /// A string if present.
    pub(crate) fn text(&self, name: &str) -> Option<&str> {
        self.get(name).and_then(Value::as_str)
    }

    /// Refuses the model unless the field is absent or equal to `expected`.
    pub(crate) fn must_be(&self, name: &str, expected: &Value) -> Result<()> {
        match self.get(name) {
            None => Ok(()),
            Some(value) if value == expected => Ok(()),
            Some(value) => Err(Error::unsupported(
                name,
                value.to_string(),
                format!("`{expected}`"),
            )),
        }
    }
}
