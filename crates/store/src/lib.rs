//! Vectors and documents, kept and found again.
