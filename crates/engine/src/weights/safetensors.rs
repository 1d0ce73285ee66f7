//! The header of a safetensors file: a length, JSON, then the bytes of all tensors.

use std::collections::HashSet;
use std::fmt;
use std::path::Path;

use serde::Deserialize;
use serde::de::{Deserializer, IgnoredAny, MapAccess, Visitor};

use crate::{Error, Result};

use super::{Dtype, Listed, num_weights, refuse_overlaps, sniff};

/// The longest header that the format allows.
const MAX_HEADER: usize = 100_000_000;

/// The key that holds free text in place of a tensor.
const METADATA_KEY: &str = "__metadata__";

/// Lists the tensors of the file, all checked to lie inside it and apart.
pub(super) fn read(path: &Path, bytes: &[u8]) -> Result<Vec<Listed>> {
    let (header, data_start) = split(path, bytes)?;
    let Header(tensors) = serde_json::from_slice(header).map_err(|error| {
        Error::invalid(path, format!("its safetensors header is broken: {error}"))
    })?;
    let mut names = HashSet::new();
    let mut listed = Vec::new();
    for (name, description) in tensors {
        if !names.insert(name.clone()) {
            return Err(Error::invalid(
                path,
                format!("tensor `{name}` is there twice"),
            ));
        }
        listed.push(check(path, name, description, data_start, bytes.len())?);
    }
    refuse_overlaps(path, &listed)?;
    Ok(listed)
}

/// The JSON header and where the data begins.
fn split<'a>(path: &Path, bytes: &'a [u8]) -> Result<(&'a [u8], usize)> {
    let wrong = |reason: String| {
        let reason = sniff::describe(bytes).unwrap_or(reason);
        Error::invalid(path, reason)
    };
    let Some((length, rest)) = bytes.split_first_chunk::<8>() else {
        return Err(wrong(format!(
            "{} bytes are too few for weights",
            bytes.len()
        )));
    };
    let length = u64::from_le_bytes(*length);
    let header = usize::try_from(length)
        .ok()
        .filter(|&length| length <= MAX_HEADER)
        .and_then(|length| rest.get(..length));
    match header {
        Some(header) if header.first() == Some(&b'{') => Ok((header, 8 + header.len())),
        Some(_) => Err(wrong("it is neither safetensors nor GGUF".into())),
        None => Err(wrong(format!(
            "it claims a header of {length} bytes, but {} bytes follow: cut off, or not safetensors",
            rest.len()
        ))),
    }
}

fn check(
    path: &Path,
    name: String,
    description: Description,
    data_start: usize,
    file_length: usize,
) -> Result<Listed> {
    let Description {
        dtype: dtype_name,
        shape,
        data_offsets: [start, end],
    } = description;
    let Some(dtype) = Dtype::from_safetensors(&dtype_name) else {
        return Err(Error::unsupported(
            format!("dtype of `{name}`"),
            dtype_name,
            "F32, F16, BF16, F64 or an integer type",
        ));
    };
    let Some(expected) = num_weights(&shape).and_then(|count| dtype.size_of(count)) else {
        let reason = format!("tensor `{name}` of shape {shape:?} is larger than any memory");
        return Err(Error::invalid(path, reason));
    };
    if end.checked_sub(start) != Some(expected) {
        let reason = format!(
            "tensor `{name}` ({dtype}, shape {shape:?}) has bytes {start} to {end}, expected \
             {expected} bytes"
        );
        return Err(Error::invalid(path, reason));
    }
    let range = data_start
        .checked_add(start)
        .zip(data_start.checked_add(end));
    match range {
        Some((start, end)) if end <= file_length => Ok(Listed {
            name,
            dtype,
            shape,
            range: start..end,
        }),
        _ => {
            let reason = format!(
                "tensor `{name}` ends at byte {end} of the data, which has {}: the file is cut off",
                file_length - data_start
            );
            Err(Error::invalid(path, reason))
        }
    }
}

/// One tensor's entry in the header.
#[derive(Deserialize)]
struct Description {
    dtype: String,
    shape: Vec<usize>,
    data_offsets: [usize; 2],
}

/// The header in file order, so that a name given twice is seen.
struct Header(Vec<(String, Description)>);

impl<'de> Deserialize<'de> for Header {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct Entries;

        impl<'de> Visitor<'de> for Entries {
            type Value = Header;

            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("an object of tensors")
            }

            fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<Header, A::Error> {
                let mut tensors = Vec::new();
                while let Some(name) = map.next_key::<String>()? {
                    if name == METADATA_KEY {
                        map.next_value::<IgnoredAny>()?;
                    } else {
                        tensors.push((name, map.next_value()?));
                    }
                }
                Ok(Header(tensors))
            }
        }

        deserializer.deserialize_map(Entries)
    }
}
