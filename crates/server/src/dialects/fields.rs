//! The fields of a JSON object, parsed one by one, so that an error names its field.

use std::collections::BTreeMap;

use serde::Deserialize;
use serde_json::value::RawValue;

use crate::problem::Problem;

/// An object whose values are not parsed yet. Unknown fields do no harm.
#[derive(Debug, Deserialize)]
#[serde(transparent)]
pub(super) struct Fields<'a> {
    #[serde(borrow)]
    fields: BTreeMap<String, &'a RawValue>,
}

impl<'a> Fields<'a> {
    /// The object that `body` is.
    pub(super) fn parse(body: &'a [u8]) -> Result<Self, Problem> {
        Ok(serde_json::from_slice(body)?)
    }

    /// The field's value; none if it is missing or null.
    pub(super) fn optional<T: Deserialize<'a>>(
        &self,
        name: &'static str,
    ) -> Result<Option<T>, Problem> {
        let Some(raw) = self.fields.get(name) else {
            return Ok(None);
        };
        serde_json::from_str(raw.get()).map_err(|error| {
            let reason = error.to_string();
            // The position is within the field and would mislead.
            let reason = reason.split(" at line ").next().unwrap_or_default();
            Problem::field(name, format!("cannot be read: {reason}"))
        })
    }

    /// The field's value.
    pub(super) fn required<T: Deserialize<'a>>(&self, name: &'static str) -> Result<T, Problem> {
        self.optional(name)?
            .ok_or_else(|| Problem::field(name, "is missing"))
    }

    /// The object in the field; an empty one if it is missing or null.
    pub(super) fn object(&self, name: &'static str) -> Result<Self, Problem> {
        let empty = || Self {
            fields: BTreeMap::new(),
        };
        Ok(self.optional(name)?.unwrap_or_else(empty))
    }
}
