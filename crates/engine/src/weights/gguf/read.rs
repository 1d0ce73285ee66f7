//! The header of a GGUF file: metadata, then a list of tensors, then their bytes.

use std::collections::{BTreeMap, HashSet};
use std::path::Path;
use std::sync::Arc;

use crate::weights::map::Map;
use crate::weights::{Dtype, Listed, num_weights, refuse_overlaps};
use crate::{Error, Result};

use super::cursor::{Cursor, CutOff};
use super::{ALIGNMENT_KEY, Array, DEFAULT_ALIGNMENT, Element, MAGIC, Metadata, VERSION, Value};

/// The most sizes of a tensor that GGML has.
const MAX_SIZES: u32 = 4;

/// Reads the metadata and lists the tensors, all checked to lie inside the file and apart.
pub(in crate::weights) fn read(path: &Path, map: &Arc<Map>) -> Result<(Metadata, Vec<Listed>)> {
    let reader = Reader { path, bytes: map };
    let (values, listed) = reader.read()?;
    let metadata = Metadata {
        path: path.to_path_buf(),
        map: Arc::clone(map),
        values,
    };
    Ok((metadata, listed))
}

struct Reader<'a> {
    path: &'a Path,
    bytes: &'a [u8],
}

/// A tensor whose place in the file is not checked yet.
struct Unplaced {
    name: String,
    dtype: Dtype,
    shape: Vec<usize>,
    offset: u64,
}

impl Reader<'_> {
    fn read(&self) -> Result<(BTreeMap<String, Value>, Vec<Listed>)> {
        let mut cursor = Cursor::new(self.bytes, MAGIC.len());
        let version = self.whole(cursor.u32())?;
        if !(2..=VERSION).contains(&version) {
            let value = match version.swap_bytes() {
                2..=VERSION => "big-endian".into(),
                _ => version.to_string(),
            };
            return Err(Error::unsupported(
                "version of GGUF",
                value,
                "2 or 3, little-endian",
            ));
        }
        let num_tensors = self.whole(cursor.u64())?;
        let num_values = self.whole(cursor.u64())?;
        let values = self.values(&mut cursor, num_values)?;
        self.refuse_splits(&values)?;
        let alignment = self.alignment(&values)?;
        let unplaced = self.tensors(&mut cursor, num_tensors)?;
        let data_start = cursor.position().next_multiple_of(alignment);
        let listed = unplaced
            .into_iter()
            .map(|tensor| self.place(tensor, data_start, alignment))
            .collect::<Result<Vec<_>>>()?;
        refuse_overlaps(self.path, &listed)?;
        Ok((values, listed))
    }

    /// Each value takes 13 bytes or more of the file, so an absurd count ends at the file's end,
    /// and nothing is allocated by it.
    fn values(&self, cursor: &mut Cursor<'_>, count: u64) -> Result<BTreeMap<String, Value>> {
        let mut values = BTreeMap::new();
        for _ in 0..count {
            let key = self.text(cursor.string(), "a key")?;
            let id = self.whole(cursor.u32())?;
            let Some(element) = Element::from_id(id) else {
                return Err(self.invalid(format!("`{key}` has the unknown type {id}")));
            };
            let value = self.value(cursor, &key, element)?;
            if values.contains_key(&key) {
                return Err(self.invalid(format!("`{key}` is there twice")));
            }
            values.insert(key, value);
        }
        Ok(values)
    }

    fn value(&self, cursor: &mut Cursor<'_>, key: &str, element: Element) -> Result<Value> {
        Ok(match element {
            Element::U8 => Value::U8(u8::from_le_bytes(self.whole(cursor.array())?)),
            Element::I8 => Value::I8(i8::from_le_bytes(self.whole(cursor.array())?)),
            Element::U16 => Value::U16(u16::from_le_bytes(self.whole(cursor.array())?)),
            Element::I16 => Value::I16(i16::from_le_bytes(self.whole(cursor.array())?)),
            Element::U32 => Value::U32(self.whole(cursor.u32())?),
            Element::I32 => Value::I32(self.whole(cursor.u32())?.cast_signed()),
            Element::F32 => Value::F32(f32::from_le_bytes(self.whole(cursor.array())?)),
            Element::Bool => Value::Bool(self.whole(cursor.array::<1>())? != [0]),
            Element::String => Value::String(self.text(cursor.string(), key)?),
            Element::Array => Value::Array(self.array(cursor, key)?),
            Element::U64 => Value::U64(self.whole(cursor.u64())?),
            Element::I64 => Value::I64(self.whole(cursor.u64())?.cast_signed()),
            Element::F64 => Value::F64(f64::from_le_bytes(self.whole(cursor.array())?)),
        })
    }

    fn array(&self, cursor: &mut Cursor<'_>, key: &str) -> Result<Array> {
        let id = self.whole(cursor.u32())?;
        let element = Element::from_id(id).filter(|element| *element != Element::Array);
        let Some(element) = element else {
            return Err(self.invalid(format!("`{key}` is an array of the unreadable type {id}")));
        };
        let count = self.whole(cursor.u64())?;
        let start = cursor.position();
        if let Some(size) = element.size() {
            let length = count.saturating_mul(size as u64);
            self.whole(cursor.take(length))?;
        } else {
            for _ in 0..count {
                self.whole(cursor.string())?;
            }
        }
        let len = self.size(count, key)?;
        Ok(Array {
            element,
            len,
            range: start..cursor.position(),
        })
    }

    /// Each tensor takes 24 bytes or more; see [`Reader::values`].
    fn tensors(&self, cursor: &mut Cursor<'_>, count: u64) -> Result<Vec<Unplaced>> {
        let mut names = HashSet::new();
        let mut tensors = Vec::new();
        for _ in 0..count {
            let name = self.text(cursor.string(), "a tensor's name")?;
            let num_sizes = self.whole(cursor.u32())?;
            if num_sizes > MAX_SIZES {
                let reason = format!("tensor `{name}` has {num_sizes} sizes, expected at most 4");
                return Err(self.invalid(reason));
            }
            let mut shape = Vec::new();
            for _ in 0..num_sizes {
                shape.push(self.size(self.whole(cursor.u64())?, &name)?);
            }
            // GGML puts the innermost size first.
            shape.reverse();
            let dtype = Dtype::from_ggml(self.whole(cursor.u32())?).map_err(|value| {
                let expected = "a type up to Q8_0, K-quants, IQ4_NL, IQ4_XS, TQ or MXFP4";
                Error::unsupported(format!("type of tensor `{name}`"), value, expected)
            })?;
            let offset = self.whole(cursor.u64())?;
            if !names.insert(name.clone()) {
                return Err(self.invalid(format!("tensor `{name}` is there twice")));
            }
            tensors.push(Unplaced {
                name,
                dtype,
                shape,
                offset,
            });
        }
        Ok(tensors)
    }

    fn place(&self, tensor: Unplaced, data_start: usize, alignment: usize) -> Result<Listed> {
        let Unplaced {
            name,
            dtype,
            shape,
            offset,
        } = tensor;
        let columns = shape.last().copied().unwrap_or(1);
        let length = num_weights(&shape).and_then(|count| dtype.size_of(count));
        let Some(length) = length.filter(|_| dtype.size_of(columns).is_some()) else {
            let reason = format!(
                "tensor `{name}` has shape {shape:?}, expected rows of whole {dtype} blocks of {}",
                dtype.block_size()
            );
            return Err(self.invalid(reason));
        };
        if !offset.is_multiple_of(alignment as u64) {
            let reason = format!(
                "tensor `{name}` is at offset {offset}, expected a multiple of {alignment}"
            );
            return Err(self.invalid(reason));
        }
        let start = usize::try_from(offset)
            .ok()
            .and_then(|offset| data_start.checked_add(offset));
        let range = start.and_then(|start| Some(start..start.checked_add(length)?));
        match range {
            Some(range) if range.end <= self.bytes.len() => Ok(Listed {
                name,
                dtype,
                shape,
                range,
            }),
            _ => Err(self.invalid(format!(
                "tensor `{name}` has {length} bytes at offset {offset} of the data, but the file \
                 ends before: it is cut off"
            ))),
        }
    }

    fn alignment(&self, values: &BTreeMap<String, Value>) -> Result<usize> {
        match values.get(ALIGNMENT_KEY) {
            None => Ok(DEFAULT_ALIGNMENT),
            // At most 64 KiB, the largest page in use, so that no sum below can overflow.
            Some(Value::U32(alignment)) if alignment.is_power_of_two() && *alignment <= 65536 => {
                Ok(*alignment as usize)
            }
            Some(value) => Err(self.invalid(format!(
                "`{ALIGNMENT_KEY}` is {value:?}, expected a power of two up to 65536"
            ))),
        }
    }

    fn refuse_splits(&self, values: &BTreeMap<String, Value>) -> Result<()> {
        match values.get("split.count") {
            Some(Value::U16(count)) if *count > 1 => Err(Error::unsupported(
                "split.count",
                count.to_string(),
                "one file (`llama-gguf-split --merge` joins the parts)",
            )),
            _ => Ok(()),
        }
    }

    /// The field, or an error that the file is cut off.
    fn whole<T>(&self, field: Result<T, CutOff>) -> Result<T> {
        field.map_err(|CutOff| {
            let length = self.bytes.len();
            self.invalid(format!(
                "its GGUF header goes past its {length} bytes: it is cut off"
            ))
        })
    }

    fn text(&self, bytes: Result<&[u8], CutOff>, what: &str) -> Result<String> {
        let text = std::str::from_utf8(self.whole(bytes)?);
        text.map(str::to_owned)
            .map_err(|_| self.invalid(format!("{what} is not UTF-8")))
    }

    fn size(&self, number: u64, of: &str) -> Result<usize> {
        usize::try_from(number)
            .map_err(|_| self.invalid(format!("`{of}` has the size {number}, more than memory")))
    }

    fn invalid(&self, reason: String) -> Error {
        Error::invalid(self.path, reason)
    }
}
