//! Valid files with random damage: read or refused, never a panic.
//!
//! `WENYI_MUTATIONS` raises the number of damaged files; a failure prints its seed.

use super::*;

#[test]
fn damaged_files_never_panic() {
    let num_mutations = std::env::var("WENYI_MUTATIONS").map_or(4000, |n| n.parse().unwrap());
    let fixture = |name: &str| fs::read(fixtures().join(name)).unwrap();
    let json = r#"{"__metadata__":{"a":"b"},"a":{"dtype":"F32","shape":[2],"data_offsets":[0,8]},
        "文":{"dtype":"BF16","shape":[1,2],"data_offsets":[8,12]}}"#;
    let originals = [
        gguf_file(),
        safetensors_file(json, &[0; 12]),
        fixture("gguf/llama-Q4_0.gguf"),
        fixture("bert_cls/model.safetensors"),
    ];
    for seed in 0..num_mutations {
        let mut random = SplitMix(seed);
        let mut bytes = originals[seed as usize % originals.len()].clone();
        damage(&mut bytes, &mut random);
        let read = std::panic::catch_unwind(|| use_everything(bytes));
        assert!(read.is_ok(), "seed {seed} panics");
    }
}

/// Reads all that can be asked of a file.
fn use_everything(bytes: Vec<u8>) {
    let Ok(weights) = Weights::from_bytes(bytes) else {
        return;
    };
    assert_eq!(weights.sampled_hash().len(), 64);
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
            assert!(strings.map(|text| text.map_or(0, str::len)).sum::<usize>() < 1 << 30);
        }
    }
}

/// Changes one to eight places: bits, bytes, 8-byte numbers at their limits, or the length. Most
/// hits go to the first 2 KB, where the header is.
fn damage(bytes: &mut Vec<u8>, random: &mut SplitMix) {
    for _ in 0..=random.below(8) {
        if bytes.len() < 8 {
            return;
        }
        let reach = if random.below(4) == 0 {
            bytes.len()
        } else {
            bytes.len().min(2048)
        };
        let at = random.below(reach);
        match random.below(5) {
            0 => bytes[at] ^= 1 << random.below(8),
            1 => bytes[at] = random.next() as u8,
            2 => {
                let limits = [
                    0,
                    1,
                    u64::MAX,
                    1 << 63,
                    1 << 32,
                    (1 << 31) - 1,
                    bytes.len() as u64,
                ];
                let at = at.min(bytes.len() - 8);
                let number = limits[random.below(limits.len())];
                bytes[at..at + 8].copy_from_slice(&number.to_le_bytes());
            }
            3 if random.below(3) == 0 => bytes.truncate(at),
            _ => {
                let from = random.below(bytes.len() - 4);
                let to = at.min(bytes.len() - 4);
                bytes.copy_within(from..from + 4, to);
            }
        }
    }
}

/// Steele, Lea and Flood's SplitMix64: small, and the same on every machine.
struct SplitMix(u64);

impl SplitMix {
    fn next(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut z = self.0;
        z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        z ^ (z >> 31)
    }

    fn below(&mut self, limit: usize) -> usize {
        (self.next() % limit as u64) as usize
    }
}
