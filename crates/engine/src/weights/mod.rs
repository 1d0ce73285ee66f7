//! Weights, memory-mapped: a safetensors folder or a GGUF file.
