//! Documents in, passages out.
