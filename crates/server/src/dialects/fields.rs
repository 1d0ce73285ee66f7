//! The fields of a JSON object, parsed one by one, so that an error names its field.

use std::collections::BTreeMap;
use std::fmt;

use serde::Deserialize;
use serde::de::{Deserializer, Error, Visitor};
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

    /// The whole number in the field; none if it is missing or null. `3.0` is one, as JSON Schema
    /// has it.
    pub(super) fn whole<T: TryFrom<i128>>(&self, name: &'static str) -> Result<Option<T>, Problem> {
        let Some(Whole(number)) = self.optional(name)? else {
            return Ok(None);
        };
        let number = T::try_from(number);
        let number = number.map_err(|_| Problem::field(name, "is out of range"));
        number.map(Some)
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

/// A number without a fraction, however it is written.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Whole(pub(super) i128);

impl<'de> Deserialize<'de> for Whole {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        deserializer.deserialize_any(WholeVisitor)
    }
}

struct WholeVisitor;

impl Visitor<'_> for WholeVisitor {
    type Value = Whole;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("a whole number")
    }

    fn visit_u64<E: Error>(self, number: u64) -> Result<Whole, E> {
        Ok(Whole(number.into()))
    }

    fn visit_i64<E: Error>(self, number: i64) -> Result<Whole, E> {
        Ok(Whole(number.into()))
    }

    fn visit_f64<E: Error>(self, number: f64) -> Result<Whole, E> {
        if number.fract() == 0.0 {
            // Saturates; what is so large is out of every field's range.
            return Ok(Whole(number as i128));
        }
        Err(E::invalid_value(
            serde::de::Unexpected::Float(number),
            &self,
        ))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn whole_numbers_are_taken_however_they_are_written() {
        let body =
            br#"{"a": 3, "b": 3.0, "c": 3e2, "d": -1, "e": 1.5, "f": "3", "g": null, "h": 1e300}"#;
        let fields = Fields::parse(body).unwrap();
        let whole = |name| {
            fields
                .whole::<u32>(name)
                .map_err(|problem| problem.to_string())
        };
        assert_eq!(
            (whole("a"), whole("b"), whole("c")),
            (Ok(Some(3)), Ok(Some(3)), Ok(Some(300)))
        );
        assert_eq!((whole("g"), whole("z")), (Ok(None), Ok(None)));
        for wrong in ["d", "e", "f", "h"] {
            assert!(whole(wrong).unwrap_err().contains(wrong), "{wrong}");
        }
        assert_eq!(fields.whole::<i64>("d").unwrap(), Some(-1));
    }
}
