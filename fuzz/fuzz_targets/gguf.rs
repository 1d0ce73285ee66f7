//! GGUF files: read or refused, and everything in them read too.
#![no_main]

use libfuzzer_sys::fuzz_target;
use wenyi_engine::weights::Weights;

fuzz_target!(|bytes: &[u8]| {
    let mut file = b"GGUF\x03\0\0\0".to_vec();
    file.extend(bytes);
    let Ok(weights) = Weights::from_bytes(file) else {
        return;
    };
    let _ = weights.sampled_hash();
    for tensor in weights.tensors() {
        let _ = tensor.to_f32();
        let mut row = vec![0.0; tensor.columns().min(1 << 16)];
        let _ = tensor.row_f32(tensor.rows().saturating_sub(1), &mut row);
    }
    let Some(metadata) = weights.gguf() else {
        return;
    };
    for key in metadata.keys() {
        let _ = (
            metadata.u32(key),
            metadata.f32(key),
            metadata.bool(key),
            metadata.str(key),
        );
        let _ = (
            metadata.f32s(key),
            metadata.i32s(key),
            metadata.bytes(key),
            metadata.bools(key),
        );
        if let Ok(Some(strings)) = metadata.strings(key) {
            for text in strings {
                let _ = text;
            }
        }
    }
});
