//! Safetensors headers: read or refused, never a panic or an allocation by an unchecked count.
#![no_main]

use libfuzzer_sys::fuzz_target;
use wenyi_engine::weights::Weights;

fuzz_target!(|bytes: &[u8]| {
    // A right length in front, so that the JSON behind it is reached.
    let mut file = (bytes.len() as u64).to_le_bytes().to_vec();
    file.extend(bytes);
    file.extend([0; 64]);
    for file in [file, bytes.to_vec()] {
        let Ok(weights) = Weights::from_bytes(file) else {
            continue;
        };
        let _ = weights.sampled_hash();
        for tensor in weights.tensors() {
            let _ = tensor.to_f32();
        }
    }
});
