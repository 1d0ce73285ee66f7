//! Files that are not what they should be: each is refused with its own words.

use super::*;

#[test]
fn truncated_files_are_refused_at_every_length() {
    let gguf = gguf_file();
    // The last bytes are padding, which some writers leave out.
    for length in 0..gguf.len() - 28 {
        assert!(
            Weights::from_bytes(gguf[..length].to_vec()).is_err(),
            "length {length}"
        );
    }
    let json = r#"{"a":{"dtype":"F32","shape":[2],"data_offsets":[0,8]}}"#;
    let safetensors = safetensors_file(json, &[0; 8]);
    for length in 0..safetensors.len() {
        assert!(
            Weights::from_bytes(safetensors[..length].to_vec()).is_err(),
            "length {length}"
        );
    }
}

#[test]
fn a_header_of_two_to_the_63_is_refused() {
    let mut bytes = (1_u64 << 63).to_le_bytes().to_vec();
    bytes.extend(b"{}");
    let text = message(Weights::from_bytes(bytes));
    assert!(
        text.contains("claims a header of 9223372036854775808 bytes, but 2 bytes follow"),
        "{text}"
    );
}

#[test]
fn absurd_counts_are_refused_without_an_allocation() {
    // Tensors, values.
    for at in [8, 16] {
        let mut bytes = gguf_file();
        bytes[at..at + 8].copy_from_slice(&(1_u64 << 63).to_le_bytes());
        message(Weights::from_bytes(bytes));
    }
    for length in [u64::MAX, 1 << 63, 1 << 32, 1 << 20] {
        // The length of the first key.
        let mut bytes = gguf_file();
        bytes[24..32].copy_from_slice(&length.to_le_bytes());
        let text = message(Weights::from_bytes(bytes));
        assert!(text.contains("cut off"), "{text}");
    }
    for element in 0..13_u32 {
        let mut bytes = b"GGUF".to_vec();
        bytes.extend(3_u32.to_le_bytes());
        bytes.extend(0_u64.to_le_bytes());
        bytes.extend(1_u64.to_le_bytes());
        bytes.extend(1_u64.to_le_bytes());
        bytes.push(b'k');
        bytes.extend(9_u32.to_le_bytes());
        bytes.extend(element.to_le_bytes());
        bytes.extend(u64::MAX.to_le_bytes());
        message(Weights::from_bytes(bytes));
    }
}

#[test]
fn safetensors_offsets_are_checked() {
    let refused = |json: &str, words: &str| {
        let text = message(Weights::from_bytes(safetensors_file(json, &[0; 16])));
        assert!(text.contains(words), "{text}");
    };
    refused(
        r#"{"a":{"dtype":"F32","shape":[2],"data_offsets":[0,4]}}"#,
        "expected 8 bytes",
    );
    refused(
        r#"{"a":{"dtype":"F32","shape":[2],"data_offsets":[8,0]}}"#,
        "expected 8 bytes",
    );
    refused(
        r#"{"a":{"dtype":"F32","shape":[2],"data_offsets":[16,24]}}"#,
        "cut off",
    );
    let far = r#"{"a":{"dtype":"F32","shape":[1],"data_offsets":[18446744073709551611,18446744073709551615]}}"#;
    refused(far, "cut off");
    refused(
        r#"{"a":{"dtype":"F32","shape":[2],"data_offsets":[0,8]},"b":{"dtype":"F32","shape":[2],"data_offsets":[4,12]}}"#,
        "tensors `a` and `b` overlap",
    );
    refused(
        r#"{"a":{"dtype":"F32","shape":[4294967296,4294967296,0],"data_offsets":[0,0]}}"#,
        "larger than any memory",
    );
    refused(
        r#"{"a":{"dtype":"U8","shape":[1],"data_offsets":[0,1]},"a":{"dtype":"U8","shape":[1],"data_offsets":[1,2]}}"#,
        "tensor `a` is there twice",
    );
    refused(
        r#"{"a":{"dtype":"F6_X","shape":[1],"data_offsets":[0,1]}}"#,
        "`F6_X`",
    );
    refused(
        r#"{"a":{"dtype":"F32","shape":[-1],"data_offsets":[0,1]}}"#,
        "header is broken",
    );
    refused("{\"a\":", "header is broken");
    refused("[]", "neither safetensors nor GGUF");
}

#[test]
fn gguf_offsets_and_types_are_checked() {
    let good = gguf_file();
    let at = good
        .windows(8)
        .rposition(|window| window == b"b.weight")
        .unwrap()
        + 8;
    // Sizes 32 and 2 take 4 + 16 bytes, then come type and offset.
    let (type_at, offset_at) = (at + 20, at + 24);
    let refused = |place: usize, bytes: &[u8], words: &str| {
        let mut changed = good.clone();
        changed[place..place + bytes.len()].copy_from_slice(bytes);
        let text = message(Weights::from_bytes(changed));
        assert!(text.contains(words), "{text}");
    };
    refused(offset_at, &0_u64.to_le_bytes(), "overlap");
    refused(
        offset_at,
        &33_u64.to_le_bytes(),
        "expected a multiple of 32",
    );
    refused(offset_at, &(1_u64 << 40).to_le_bytes(), "cut off");
    refused(offset_at, &(u64::MAX - 31).to_le_bytes(), "cut off");
    refused(type_at, &16_u32.to_le_bytes(), "`IQ2_XXS`");
    refused(type_at, &99_u32.to_le_bytes(), "`GGML type 99`");
    refused(at, &5_u32.to_le_bytes(), "5 sizes");
    refused(at + 4, &31_u64.to_le_bytes(), "whole Q8_0 blocks of 32");
    refused(at + 12, &(1_u64 << 62).to_le_bytes(), "shape");
    refused(4, &1_u32.to_le_bytes(), "`1`, expected 2 or 3");
    refused(4, &3_u32.to_be_bytes(), "big-endian");
}

#[test]
fn values_given_twice_are_refused() {
    let mut writer = gguf::Writer::new();
    writer.u32("general.alignment", 32);
    writer.u32("general.alignment", 32);
    let bytes = writer.begin(Vec::new()).unwrap().finish().unwrap();
    assert!(message(Weights::from_bytes(bytes)).contains("`general.alignment` is there twice"));
    let mut writer = gguf::Writer::new();
    writer.u32("general.alignment", 0);
    let bytes = writer.begin(Vec::new()).unwrap().finish().unwrap();
    assert!(message(Weights::from_bytes(bytes)).contains("expected a power of two"));
}

#[test]
fn what_is_not_weights_is_named() {
    let cases: [(&[u8], &str); 7] = [
        (b"", "0 bytes are too few"),
        (
            b"version https://git-lfs.github.com/spec/v1\noid sha256:ab\nsize 71622400\n",
            "git-LFS pointer to a file of 71622400 bytes",
        ),
        (b"<!DOCTYPE html><html>login</html>", "web page"),
        (b"\n <HTML><body>404</body></HTML>", "web page"),
        (b"PK\x03\x04rest of an archive", "PyTorch or zip archive"),
        (b"{\"error\":\"Repository not found\"}", "JSON text"),
        (b"no weights at all, just prose", "claims a header"),
    ];
    for (bytes, words) in cases {
        let text = message(Weights::from_bytes(bytes.to_vec()));
        assert!(text.contains(words), "{text}");
    }
    let folder = TempDir::new().unwrap();
    let path = folder.path().join("model.safetensors");
    fs::write(&path, b"").unwrap();
    assert!(
        message(Weights::open(&path))
            .contains("model.safetensors` is not usable: the file is empty")
    );
}

#[test]
fn a_folder_without_weights_says_what_is_there() {
    let folder = TempDir::new().unwrap();
    fs::write(folder.path().join("config.json"), b"{}").unwrap();
    let error = Weights::open(folder.path()).unwrap_err();
    assert!(
        error
            .to_string()
            .contains(r#"holds no weights, only ["config.json"]"#),
        "{error}"
    );
    assert!(error.hint().unwrap().contains("model.safetensors"));
    fs::write(folder.path().join("pytorch_model.bin"), b"PK").unwrap();
    let error = Weights::open(folder.path()).unwrap_err();
    assert!(error.hint().unwrap().contains("safe_serialization=True"));
    fs::write(folder.path().join("a.gguf"), gguf_file()).unwrap();
    fs::write(folder.path().join("b.gguf"), gguf_file()).unwrap();
    assert!(message(Weights::open(folder.path())).contains(r#"["a.gguf", "b.gguf"]"#));
    let error = Weights::open(&folder.path().join("missing")).unwrap_err();
    assert!(matches!(error.kind(), ErrorKind::Io { .. }));
    assert!(error.is_user_error());
}

#[test]
fn broken_indexes_are_refused() {
    let folder = TempDir::new().unwrap();
    let index = folder.path().join("model.safetensors.index.json");
    let refused = |json: &str, words: &str| {
        fs::write(&index, json).unwrap();
        let text = message(Weights::open(folder.path()));
        assert!(text.contains(words), "{text}");
    };
    refused(
        r#"{"weight_map":{"a":"one.safetensors","b":"two.safetensors"}}"#,
        r#"2 shards, but ["one.safetensors", "two.safetensors"] are missing"#,
    );
    refused(
        r#"{"weight_map":{"a":"../one.safetensors"}}"#,
        "not a plain file name",
    );
    refused(
        r#"{"weight_map":{"a":"/etc/passwd"}}"#,
        "not a plain file name",
    );
    refused(r#"{"weight_map":{}}"#, "lists no shards");
    refused(r#"{"weights":1}"#, "list of shards is broken");
    refused("", "list of shards is broken");
    refused("<html>", "web page");
    let shard = safetensors_file(
        r#"{"b":{"dtype":"U8","shape":[1],"data_offsets":[0,1]}}"#,
        &[0],
    );
    fs::write(folder.path().join("one.safetensors"), shard).unwrap();
    refused(
        r#"{"weight_map":{"a":"one.safetensors"}}"#,
        "has no tensor `a`",
    );
}

#[test]
fn numbers_that_are_not_finite_are_found() {
    let json = r#"{"a":{"dtype":"F32","shape":[2,2],"data_offsets":[0,16]}}"#;
    for bad in [f32::NAN, f32::INFINITY, f32::NEG_INFINITY] {
        let data: Vec<u8> = [0.0, 1.0, 2.0, bad]
            .iter()
            .flat_map(|v| v.to_le_bytes())
            .collect();
        let weights = Weights::from_bytes(safetensors_file(json, &data)).unwrap();
        let tensor = weights.get("a").unwrap();
        let mut row = [0.0; 2];
        tensor.row_f32(0, &mut row).unwrap();
        for error in [
            tensor.to_f32().unwrap_err(),
            tensor.row_f32(1, &mut row).unwrap_err(),
        ] {
            assert!(
                matches!(error.kind(), ErrorKind::NotFinite { index: 3, tensor, .. } if tensor == "a"),
                "{error}"
            );
        }
    }
}

#[test]
fn rows_out_of_range_are_refused() {
    let weights = Weights::from_bytes(gguf_file()).unwrap();
    let tensor = weights.get("b.weight").unwrap();
    let mut row = [0.0; 32];
    assert!(tensor.row_f32(2, &mut row).is_err());
    assert!(tensor.row_f32(usize::MAX, &mut row).is_err());
    assert!(tensor.row_f32(0, &mut row[..31]).is_err());
}
