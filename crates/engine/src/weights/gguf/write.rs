//! Writing a GGUF file: all descriptions first, then the tensors one after another.

use std::io::{self, Write};

use crate::weights::Dtype;

use super::{DEFAULT_ALIGNMENT, Element, MAGIC, VERSION};

/// Collects metadata and the list of tensors; [`Writer::begin`] writes them.
#[derive(Debug, Default)]
pub struct Writer {
    num_values: u64,
    values: Vec<u8>,
    tensors: Vec<Description>,
}

#[derive(Debug)]
struct Description {
    name: String,
    dtype: Dtype,
    shape: Vec<usize>,
    bytes: usize,
}

impl Writer {
    /// A file with nothing in it yet.
    #[must_use]
    pub fn new() -> Self {
        Self::default()
    }

    /// Adds a text.
    pub fn str(&mut self, key: &str, value: &str) {
        self.key(key, Element::String);
        put_string(&mut self.values, value);
    }

    /// Adds a whole number.
    pub fn u32(&mut self, key: &str, value: u32) {
        self.key(key, Element::U32);
        self.values.extend(value.to_le_bytes());
    }

    /// Adds a number with a fraction.
    pub fn f32(&mut self, key: &str, value: f32) {
        self.key(key, Element::F32);
        self.values.extend(value.to_le_bytes());
    }

    /// Adds a yes or no.
    pub fn bool(&mut self, key: &str, value: bool) {
        self.key(key, Element::Bool);
        self.values.push(u8::from(value));
    }

    /// Adds an array of texts.
    pub fn strings<S: AsRef<str>>(&mut self, key: &str, values: impl IntoIterator<Item = S>) {
        self.array(key, Element::String, values, |out, value| {
            put_string(out, value.as_ref());
        });
    }

    /// Adds an array of numbers with a fraction.
    pub fn f32s(&mut self, key: &str, values: impl IntoIterator<Item = f32>) {
        self.array(key, Element::F32, values, |out, value| {
            out.extend(value.to_le_bytes());
        });
    }

    /// Adds an array of whole numbers.
    pub fn i32s(&mut self, key: &str, values: impl IntoIterator<Item = i32>) {
        self.array(key, Element::I32, values, |out, value| {
            out.extend(value.to_le_bytes());
        });
    }

    /// Adds an array of bytes.
    pub fn bytes(&mut self, key: &str, values: &[u8]) {
        self.array(key, Element::U8, values.iter().copied(), |out, value| {
            out.push(value);
        });
    }

    /// Announces a tensor of `shape`, outermost size first; its bytes follow in the same order.
    ///
    /// # Errors
    ///
    /// If GGUF has no such type, or a row does not fill whole blocks.
    pub fn tensor(&mut self, name: &str, dtype: Dtype, shape: &[usize]) -> io::Result<()> {
        let columns = shape.last().copied().unwrap_or(1);
        let rows = shape
            .iter()
            .rev()
            .skip(1)
            .try_fold(1_usize, |rows, &size| rows.checked_mul(size));
        let bytes = dtype
            .size_of(columns)
            .zip(rows)
            .and_then(|(row, rows)| row.checked_mul(rows))
            .filter(|_| dtype.ggml_id().is_some() && shape.len() <= 4);
        let Some(bytes) = bytes else {
            let reason =
                format!("tensor `{name}` of {dtype} and shape {shape:?} fits no GGUF file");
            return Err(io::Error::new(io::ErrorKind::InvalidInput, reason));
        };
        let (name, shape) = (name.to_owned(), shape.to_vec());
        self.tensors.push(Description {
            name,
            dtype,
            shape,
            bytes,
        });
        Ok(())
    }

    /// Writes everything but the tensors' bytes.
    ///
    /// # Errors
    ///
    /// If `out` fails.
    pub fn begin<W: Write>(self, mut out: W) -> io::Result<TensorWriter<W>> {
        let mut head = Vec::new();
        head.extend(MAGIC);
        head.extend(VERSION.to_le_bytes());
        head.extend((self.tensors.len() as u64).to_le_bytes());
        head.extend(self.num_values.to_le_bytes());
        head.extend(&self.values);
        let mut offset = 0;
        for tensor in &self.tensors {
            put_string(&mut head, &tensor.name);
            head.extend((tensor.shape.len() as u32).to_le_bytes());
            for &size in tensor.shape.iter().rev() {
                head.extend((size as u64).to_le_bytes());
            }
            // `Writer::tensor` let in only types with a number.
            head.extend(tensor.dtype.ggml_id().unwrap_or_default().to_le_bytes());
            head.extend((offset as u64).to_le_bytes());
            offset += tensor.bytes.next_multiple_of(DEFAULT_ALIGNMENT);
        }
        head.resize(head.len().next_multiple_of(DEFAULT_ALIGNMENT), 0);
        out.write_all(&head)?;
        let sizes = self
            .tensors
            .into_iter()
            .map(|tensor| (tensor.name, tensor.bytes));
        Ok(TensorWriter {
            out,
            sizes: sizes.collect::<Vec<_>>().into_iter(),
            open: None,
        })
    }

    fn key(&mut self, key: &str, element: Element) {
        put_string(&mut self.values, key);
        self.values.extend(element.id().to_le_bytes());
        self.num_values += 1;
    }

    fn array<T>(
        &mut self,
        key: &str,
        element: Element,
        values: impl IntoIterator<Item = T>,
        put: impl Fn(&mut Vec<u8>, T),
    ) {
        self.key(key, Element::Array);
        self.values.extend(element.id().to_le_bytes());
        let count_at = self.values.len();
        self.values.extend([0; 8]);
        let mut count = 0_u64;
        for value in values {
            put(&mut self.values, value);
            count += 1;
        }
        self.values[count_at..count_at + 8].copy_from_slice(&count.to_le_bytes());
    }
}

/// Writes the announced tensors, in order, in as many parts as suits the caller.
#[derive(Debug)]
pub struct TensorWriter<W> {
    out: W,
    sizes: std::vec::IntoIter<(String, usize)>,
    open: Option<Open>,
}

#[derive(Debug)]
struct Open {
    name: String,
    size: usize,
    written: usize,
}

impl<W: Write> TensorWriter<W> {
    /// Begins the next tensor, which must be the one announced as `name`.
    ///
    /// # Errors
    ///
    /// If another tensor is next, the one before is not complete, or the file fails.
    pub fn next(&mut self, name: &str) -> io::Result<()> {
        self.close()?;
        match self.sizes.next() {
            Some((announced, size)) if announced == name => {
                self.open = Some(Open {
                    name: announced,
                    size,
                    written: 0,
                });
                Ok(())
            }
            next => {
                let announced = next.map_or("nothing".into(), |(announced, _)| announced);
                Err(disorder(format!(
                    "tensor `{name}` comes, but `{announced}` was announced"
                )))
            }
        }
    }

    /// Writes the next bytes of the tensor.
    ///
    /// # Errors
    ///
    /// If they are too many, or the file fails.
    pub fn write(&mut self, bytes: &[u8]) -> io::Result<()> {
        match &mut self.open {
            Some(open) if bytes.len() <= open.size - open.written => {
                open.written += bytes.len();
                self.out.write_all(bytes)
            }
            Some(open) => Err(disorder(format!(
                "tensor `{}` has too many bytes",
                open.name
            ))),
            None => Err(disorder("bytes come before a tensor".into())),
        }
    }

    /// Ends the last tensor and gives the output back.
    ///
    /// # Errors
    ///
    /// If a tensor is missing or not complete, or the file fails.
    pub fn finish(mut self) -> io::Result<W> {
        self.close()?;
        if let Some((name, _)) = self.sizes.next() {
            return Err(disorder(format!(
                "tensor `{name}` was announced and did not come"
            )));
        }
        self.out.flush()?;
        Ok(self.out)
    }

    fn close(&mut self) -> io::Result<()> {
        let Some(open) = self.open.take() else {
            return Ok(());
        };
        if open.written != open.size {
            let Open {
                name,
                size,
                written,
            } = open;
            return Err(disorder(format!(
                "tensor `{name}` has {written} bytes of {size}"
            )));
        }
        let padding = open.size.next_multiple_of(DEFAULT_ALIGNMENT) - open.size;
        self.out.write_all(&[0; DEFAULT_ALIGNMENT][..padding])
    }
}

fn put_string(out: &mut Vec<u8>, text: &str) {
    out.extend((text.len() as u64).to_le_bytes());
    out.extend(text.as_bytes());
}

fn disorder(reason: String) -> io::Error {
    io::Error::new(io::ErrorKind::InvalidInput, reason)
}
