//! Text to `input_ids`.
