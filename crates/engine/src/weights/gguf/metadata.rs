//! What a GGUF file says about its model.

use std::collections::BTreeMap;
use std::ops::Range;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use crate::weights::map::Map;
use crate::{Error, Result};

use super::cursor::Cursor;

/// Keys and values, scalars read and arrays left in the file.
#[derive(Debug)]
pub struct Metadata {
    pub(super) path: PathBuf,
    pub(super) map: Arc<Map>,
    pub(super) values: BTreeMap<String, Value>,
}

/// A value of a key.
#[derive(Clone, Debug, PartialEq)]
#[expect(missing_docs, reason = "each variant is the name that the format uses")]
pub enum Value {
    U8(u8),
    I8(i8),
    U16(u16),
    I16(i16),
    U32(u32),
    I32(i32),
    F32(f32),
    Bool(bool),
    String(String),
    Array(Array),
    U64(u64),
    I64(i64),
    F64(f64),
}

/// An array that lies in the file; [`Metadata`] reads it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Array {
    pub(super) element: Element,
    pub(super) len: usize,
    pub(super) range: Range<usize>,
}

impl Array {
    /// The type of its elements.
    #[must_use]
    pub fn element(&self) -> Element {
        self.element
    }

    /// The number of its elements.
    #[must_use]
    pub fn len(&self) -> usize {
        self.len
    }

    /// True if it has none.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.len == 0
    }
}

/// The type of a value or of an array's elements.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[expect(missing_docs, reason = "each variant is the name that the format uses")]
pub enum Element {
    U8,
    I8,
    U16,
    I16,
    U32,
    I32,
    F32,
    Bool,
    String,
    Array,
    U64,
    I64,
    F64,
}

impl Element {
    /// In the order of the format's numbers.
    const ALL: [Self; 13] = [
        Self::U8,
        Self::I8,
        Self::U16,
        Self::I16,
        Self::U32,
        Self::I32,
        Self::F32,
        Self::Bool,
        Self::String,
        Self::Array,
        Self::U64,
        Self::I64,
        Self::F64,
    ];

    pub(super) fn from_id(id: u32) -> Option<Self> {
        Self::ALL.get(usize::try_from(id).ok()?).copied()
    }

    pub(super) fn id(self) -> u32 {
        self as u32
    }

    /// Bytes of one, if all have the same number.
    pub(super) fn size(self) -> Option<usize> {
        match self {
            Self::U8 | Self::I8 | Self::Bool => Some(1),
            Self::U16 | Self::I16 => Some(2),
            Self::U32 | Self::I32 | Self::F32 => Some(4),
            Self::U64 | Self::I64 | Self::F64 => Some(8),
            Self::String | Self::Array => None,
        }
    }
}

impl Metadata {
    /// The value of `key`.
    #[must_use]
    pub fn get(&self, key: &str) -> Option<&Value> {
        self.values.get(key)
    }

    /// All keys, sorted.
    pub fn keys(&self) -> impl Iterator<Item = &str> {
        self.values.keys().map(String::as_str)
    }

    /// The file.
    #[must_use]
    pub fn path(&self) -> &Path {
        &self.path
    }

    /// A whole number from 0, stored in any integer type; `None` without the key.
    ///
    /// # Errors
    ///
    /// If the value has another type or does not fit.
    pub fn u32(&self, key: &str) -> Result<Option<u32>> {
        self.typed(key, "a whole number from 0", |value| match value {
            Value::U8(number) => Some(u32::from(*number)),
            Value::U16(number) => Some(u32::from(*number)),
            Value::U32(number) => Some(*number),
            Value::U64(number) => u32::try_from(*number).ok(),
            Value::I8(number) => u32::try_from(*number).ok(),
            Value::I16(number) => u32::try_from(*number).ok(),
            Value::I32(number) => u32::try_from(*number).ok(),
            Value::I64(number) => u32::try_from(*number).ok(),
            _ => None,
        })
    }

    /// A number with a fraction; `None` without the key.
    ///
    /// # Errors
    ///
    /// If the value has another type.
    pub fn f32(&self, key: &str) -> Result<Option<f32>> {
        self.typed(key, "a number", |value| match value {
            Value::F32(number) => Some(*number),
            Value::F64(number) => Some(*number as f32),
            _ => None,
        })
    }

    /// Yes or no; `None` without the key.
    ///
    /// # Errors
    ///
    /// If the value has another type.
    pub fn bool(&self, key: &str) -> Result<Option<bool>> {
        self.typed(key, "true or false", |value| match value {
            Value::Bool(flag) => Some(*flag),
            _ => None,
        })
    }

    /// Text; `None` without the key.
    ///
    /// # Errors
    ///
    /// If the value has another type.
    pub fn str(&self, key: &str) -> Result<Option<&str>> {
        self.typed(key, "text", |value| match value {
            Value::String(text) => Some(text.as_str()),
            _ => None,
        })
    }

    /// An array of strings, read as they are iterated; `None` without the key.
    ///
    /// # Errors
    ///
    /// If the value has another type.
    pub fn strings(&self, key: &str) -> Result<Option<Strings<'_>>> {
        let array = self.array(key, "an array of strings", &[Element::String])?;
        Ok(array.map(|array| Strings {
            cursor: Cursor::new(&self.map[..array.range.end], array.range.start),
            remaining: array.len,
            key: self.values.get_key_value(key).map_or("", |(key, _)| key),
            path: &self.path,
        }))
    }

    /// An array of `f32`; `None` without the key.
    ///
    /// # Errors
    ///
    /// If the value has another type.
    pub fn f32s(&self, key: &str) -> Result<Option<Vec<f32>>> {
        let array = self.array(key, "an array of f32", &[Element::F32])?;
        Ok(array.map(|array| {
            let (numbers, _) = self.map[array.range.clone()].as_chunks::<4>();
            numbers
                .iter()
                .map(|bytes| f32::from_le_bytes(*bytes))
                .collect()
        }))
    }

    /// An array of `i32` or `u32`, read as `i32`; `None` without the key.
    ///
    /// # Errors
    ///
    /// If the value has another type, or a number does not fit.
    pub fn i32s(&self, key: &str) -> Result<Option<Vec<i32>>> {
        const EXPECTED: &str = "an array of i32";
        let Some(array) = self.array(key, EXPECTED, &[Element::I32, Element::U32])? else {
            return Ok(None);
        };
        let (numbers, _) = self.map[array.range.clone()].as_chunks::<4>();
        let numbers: Vec<i32> = numbers
            .iter()
            .map(|bytes| i32::from_le_bytes(*bytes))
            .collect();
        if array.element == Element::U32 && numbers.iter().any(|number| *number < 0) {
            return Err(self.mismatch(key, EXPECTED));
        }
        Ok(Some(numbers))
    }

    /// An array of bytes, signed or not, in place; `None` without the key.
    ///
    /// # Errors
    ///
    /// If the value has another type.
    pub fn bytes(&self, key: &str) -> Result<Option<&[u8]>> {
        let array = self.array(key, "an array of bytes", &[Element::U8, Element::I8])?;
        Ok(array.map(|array| &self.map[array.range.clone()]))
    }

    /// An array of yes and no; `None` without the key.
    ///
    /// # Errors
    ///
    /// If the value has another type.
    pub fn bools(&self, key: &str) -> Result<Option<Vec<bool>>> {
        let array = self.array(key, "an array of bool", &[Element::Bool])?;
        Ok(array.map(|array| {
            self.map[array.range.clone()]
                .iter()
                .map(|byte| *byte != 0)
                .collect()
        }))
    }

    fn array(&self, key: &str, expected: &str, elements: &[Element]) -> Result<Option<&Array>> {
        self.typed(key, expected, |value| match value {
            Value::Array(array) if elements.contains(&array.element) => Some(array),
            _ => None,
        })
    }

    fn typed<'a, T>(
        &'a self,
        key: &str,
        expected: &str,
        read: impl Fn(&'a Value) -> Option<T>,
    ) -> Result<Option<T>> {
        match self.values.get(key) {
            None => Ok(None),
            Some(value) => read(value)
                .map(Some)
                .ok_or_else(|| self.mismatch(key, expected)),
        }
    }

    fn mismatch(&self, key: &str, expected: &str) -> Error {
        let received = match self.values.get(key) {
            Some(Value::Array(array)) => format!("array of {} {:?}", array.len, array.element),
            Some(Value::String(text)) => format!("{:?}", text.chars().take(60).collect::<String>()),
            Some(value) => format!("{value:?}"),
            None => "nothing".into(),
        };
        Error::invalid(
            &self.path,
            format!("`{key}` is `{received}`, expected {expected}"),
        )
    }
}

/// The strings of an array, in order, borrowed from the file.
#[derive(Clone, Debug)]
pub struct Strings<'a> {
    cursor: Cursor<'a>,
    remaining: usize,
    key: &'a str,
    path: &'a Path,
}

impl<'a> Iterator for Strings<'a> {
    type Item = Result<&'a str>;

    fn next(&mut self) -> Option<Self::Item> {
        self.remaining = self.remaining.checked_sub(1)?;
        // The bounds of every string were walked when the file was opened.
        let bytes = self.cursor.string().unwrap_or_default();
        Some(std::str::from_utf8(bytes).map_err(|error| {
            Error::invalid(
                self.path,
                format!("a string of `{}` is not UTF-8: {error}", self.key),
            )
        }))
    }

    fn size_hint(&self) -> (usize, Option<usize>) {
        (self.remaining, Some(self.remaining))
    }
}

impl ExactSizeIterator for Strings<'_> {}
