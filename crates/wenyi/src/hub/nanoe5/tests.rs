use proptest::prelude::*;
use tempfile::TempDir;
use wenyi_engine::weights::Weights;

use super::*;

const PIECES: [&str; 7] = ["<s>", "<pad>", "</s>", "<unk>", "▁文", "意", "<mask>"];

/// Builds files of the layout, small and with every part in it.
struct Sample {
    bytes: Vec<u8>,
    directory: Vec<u8>,
    num_tensors: i32,
    data: Vec<u8>,
}

impl Sample {
    /// 32 wide, one layer, two heads, 64 within, nine rows, five positions, two token types.
    fn whole() -> Vec<u8> {
        let mut sample = Self {
            bytes: Vec::new(),
            directory: Vec::new(),
            num_tensors: 0,
            data: Vec::new(),
        };
        sample.head();
        sample.tensor("emb.word", 1, 9 * 32);
        sample.tensor("emb.pos", 0, 5 * 32);
        sample.tensor("emb.type", 0, 2 * 32);
        sample.tensor("emb.ln.w", 0, 32);
        sample.tensor("emb.ln.b", 0, 32);
        for (name, outputs, inputs) in [
            ("q", 32, 32),
            ("k", 32, 32),
            ("v", 32, 32),
            ("ao", 32, 32),
            ("fi", 64, 32),
            ("fo", 32, 64),
        ] {
            sample.tensor(&format!("l0.{name}.w"), 1, outputs * inputs);
            sample.tensor(&format!("l0.{name}.b"), 0, outputs);
        }
        for name in ["aln.w", "aln.b", "oln.w", "oln.b"] {
            sample.tensor(&format!("l0.{name}"), 0, 32);
        }
        sample.finish()
    }

    fn head(&mut self) {
        let out = &mut self.bytes;
        out.extend(b"E5S1");
        out.extend(1_u32.to_le_bytes());
        for number in [32, 1, 2, 64, 9, 5, 2] {
            out.extend(i32::to_le_bytes(number));
        }
        out.extend(1e-12_f32.to_le_bytes());
        for number in [32, PIECES.len() as i32, 0, 2, 1, 3] {
            out.extend(number.to_le_bytes());
        }
        let text = PIECES.concat();
        out.extend((text.len() as u64).to_le_bytes());
        let mut offset = 0_u32;
        out.extend(offset.to_le_bytes());
        for piece in PIECES {
            offset += piece.len() as u32;
            out.extend(offset.to_le_bytes());
        }
        for id in 0..PIECES.len() {
            out.extend((-(id as f32)).to_le_bytes());
        }
        out.extend(text.as_bytes());
        let mut normalizer = Vec::new();
        for (from, to) in [('\u{1}', ""), ('\u{3000}', " "), ('Ａ', "A")] {
            normalizer.extend(u32::from(from).to_le_bytes());
            normalizer.push(to.chars().count() as u8);
            normalizer.extend(
                to.chars()
                    .flat_map(|character| u32::from(character).to_le_bytes()),
            );
        }
        out.extend(3_i32.to_le_bytes());
        out.extend((normalizer.len() as u32).to_le_bytes());
        out.extend(normalizer);
    }

    fn tensor(&mut self, name: &str, dtype: u8, num_elements: usize) {
        let start = self.data.len();
        if dtype == 1 {
            for block in 0..num_elements / 32 {
                // 0x3c00 is 1.0 in half precision.
                self.data.extend([0x00, 0x3c]);
                self.data.extend([(block % 256) as u8; 16]);
            }
        } else {
            self.data
                .extend((0..num_elements).flat_map(|number| (number as f32).to_le_bytes()));
        }
        self.directory.extend((name.len() as u16).to_le_bytes());
        self.directory.extend(name.as_bytes());
        self.directory.push(dtype);
        self.directory.extend((num_elements as u32).to_le_bytes());
        // Shifted by the length of the head in `finish`.
        self.directory.extend((start as u64).to_le_bytes());
        self.directory
            .extend(((self.data.len() - start) as u64).to_le_bytes());
        self.num_tensors += 1;
    }

    fn finish(mut self) -> Vec<u8> {
        let data_start = (self.bytes.len() + 4 + self.directory.len()) as u64;
        let mut at = 0;
        while at < self.directory.len() {
            let name_length = u16::from_le_bytes([self.directory[at], self.directory[at + 1]]);
            at += 2 + usize::from(name_length) + 5;
            let offset: [u8; 8] = self.directory[at..at + 8].try_into().unwrap();
            let offset = u64::from_le_bytes(offset) + data_start;
            self.directory[at..at + 8].copy_from_slice(&offset.to_le_bytes());
            at += 16;
        }
        self.bytes.extend(self.num_tensors.to_le_bytes());
        self.bytes.extend(self.directory);
        self.bytes.extend(self.data);
        self.bytes
    }
}

#[test]
fn a_whole_file_becomes_gguf() {
    let weights = Weights::from_bytes(convert_bytes(&Sample::whole()).unwrap()).unwrap();
    assert_eq!(weights.names().count(), 5 + 16);
    let words = weights.get("token_embd.weight").unwrap();
    assert_eq!((words.dtype, words.shape), (Dtype::Q4_0, &[9, 32][..]));
    let mut row = [0.0; 32];
    words.row_f32(8, &mut row).unwrap();
    // The nibbles of the byte 8: low ones 8 - 8, high ones 0 - 8.
    assert_eq!(row[..16], [0.0; 16]);
    assert_eq!(row[16..], [-8.0; 16]);
    assert_eq!(
        weights.get("blk.0.ffn_down.weight").unwrap().shape,
        [32, 64]
    );
    assert_eq!(
        weights
            .get("position_embd.weight")
            .unwrap()
            .to_f32()
            .unwrap()[159],
        159.0
    );
    let metadata = weights.gguf().unwrap();
    assert_eq!(metadata.str("general.architecture").unwrap(), Some("bert"));
    assert_eq!(metadata.u32("bert.feed_forward_length").unwrap(), Some(64));
    assert_eq!(
        metadata.f32("bert.attention.layer_norm_epsilon").unwrap(),
        Some(1e-12)
    );
    assert_eq!(
        metadata.str("wenyi.prompt.document").unwrap(),
        Some("passage: ")
    );
    let tokens = metadata.strings("tokenizer.ggml.tokens").unwrap().unwrap();
    let tokens: Vec<&str> = tokens.map(Result::unwrap).collect();
    assert_eq!(tokens[..7], PIECES);
    assert_eq!(tokens[7..], ["[PAD7]", "[PAD8]"]);
    let types = metadata.i32s("tokenizer.ggml.token_type").unwrap().unwrap();
    assert_eq!(types, [3, 3, 3, 2, 1, 1, 3, 5, 5]);
    assert_eq!(
        metadata.u32("tokenizer.ggml.mask_token_id").unwrap(),
        Some(6)
    );
    let charsmap = metadata
        .bytes("tokenizer.ggml.precompiled_charsmap")
        .unwrap()
        .unwrap();
    let charsmap = spm_precompiled::Precompiled::from(charsmap).unwrap();
    assert_eq!(charsmap.normalize_string("Ａ\u{3000}\u{1}文"), "A 文");
}

#[test]
fn files_are_converted_whole_or_not_at_all() {
    let folder = TempDir::new().unwrap();
    let (bin, gguf) = (
        folder.path().join("权重.bin"),
        folder.path().join("模型.gguf"),
    );
    let whole = Sample::whole();
    fs::write(&bin, &whole).unwrap();
    convert(&bin, &gguf).unwrap();
    assert_eq!(fs::read(&gguf).unwrap(), convert_bytes(&whole).unwrap());
    fs::write(&bin, &whole[..whole.len() - 1]).unwrap();
    let error = convert(&bin, &folder.path().join("other.gguf")).unwrap_err();
    assert!(error.to_string().contains("cut off"), "{error}");
    // Only what was there before: no part of a file is left.
    assert_eq!(fs::read_dir(folder.path()).unwrap().count(), 2);
    let missing = convert(&folder.path().join("missing"), &gguf).unwrap_err();
    assert!(matches!(missing, ConvertError::Io { .. }));
    let nowhere = convert(&bin, &folder.path().join("no/such/folder.gguf"));
    assert!(nowhere.is_err());
}

#[test]
fn every_truncation_is_refused() {
    let whole = Sample::whole();
    for length in 0..whole.len() {
        let error = convert_bytes(&whole[..length]).unwrap_err();
        assert!(
            matches!(error, ConvertError::Invalid { .. }),
            "length {length}: {error}"
        );
    }
}

#[test]
fn headers_that_lie_are_refused() {
    let refused = |at: usize, bytes: &[u8], words: &str| {
        let mut sample = Sample::whole();
        sample[at..at + bytes.len()].copy_from_slice(bytes);
        let error = convert_bytes(&sample).unwrap_err().to_string();
        assert!(error.contains(words), "{error}");
    };
    refused(0, b"GGUF", "begins with `GGUF`");
    refused(4, &2_u32.to_le_bytes(), "version 2");
    refused(8, &33_i32.to_le_bytes(), "hidden size is 33");
    refused(8, &(-32_i32).to_le_bytes(), "hidden size is -32");
    refused(
        8,
        &64_i32.to_le_bytes(),
        "tensor `emb.word` has type 1, 288 elements",
    );
    refused(12, &2_i32.to_le_bytes(), "tensor `l1.q.w` is missing");
    refused(16, &3_i32.to_le_bytes(), "3 heads do not divide");
    refused(
        24,
        &6_i32.to_le_bytes(),
        "7 pieces are more than the 6 rows",
    );
    refused(40, &64_i32.to_le_bytes(), "blocks have 64 weights");
    refused(
        44,
        &i32::MAX.to_le_bytes(),
        "number of pieces is 2147483647",
    );
    refused(48, &7_i32.to_le_bytes(), "special token 7");
    refused(64, &(1_u64 << 63).to_le_bytes(), "cut off");
    // The first offset beyond the second, and one in the middle of a character.
    refused(72, &u32::MAX.to_le_bytes(), "piece 0 is not text");
    refused(72 + 4 * 5, &18_u32.to_le_bytes(), "is not text");
    refused(72 + 4 * 8, &f32::NAN.to_le_bytes(), "score is not finite");
}

proptest! {
    // `PROPTEST_CASES` raises the number.
    #![proptest_config(ProptestConfig { failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn damaged_files_never_panic(
        edits in prop::collection::vec((0_usize..900, any::<u8>()), 1..8),
        limit in prop::option::of((0_usize..900, prop::sample::select(vec![0, u64::MAX, 1 << 63, 1 << 31, 1 << 20]))),
        length in prop::option::weighted(0.2, 0_usize..900),
    ) {
        let mut bytes = Sample::whole();
        for (at, byte) in edits {
            bytes[at] = byte;
        }
        if let Some((at, number)) = limit {
            bytes[at..at + 8].copy_from_slice(&number.to_le_bytes());
        }
        bytes.truncate(length.unwrap_or(bytes.len()));
        if let Ok(gguf) = convert_bytes(&bytes) {
            // What is converted is read: no damage goes through into a file that we cannot open.
            prop_assert!(Weights::from_bytes(gguf).is_ok());
        }
    }
}
