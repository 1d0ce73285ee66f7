//! Models behind an API: from a name such as `dashscope:text-embedding-v4` to vectors, answers and
//! scores.

mod error;

pub use error::{Error, ErrorKind, Result};
