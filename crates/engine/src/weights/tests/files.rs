//! Whole files, read right.

use super::*;

#[derive(Deserialize)]
struct Expected {
    files: Vec<ExpectedFile>,
}

#[derive(Deserialize)]
struct ExpectedFile {
    file: String,
    tensors: Vec<ExpectedTensor>,
}

#[derive(Deserialize)]
struct ExpectedTensor {
    name: String,
    r#type: String,
    ne: Vec<usize>,
    sha256_f32: String,
}

#[test]
fn gguf_files_dequantise_to_the_bit() {
    let text = fs::read_to_string(fixtures().join("gguf/expected.json")).unwrap();
    let expected: Expected = serde_json::from_str(&text).unwrap();
    assert_eq!(expected.files.len(), 3);
    for file in expected.files {
        let weights = Weights::open(&fixtures().join("gguf").join(&file.file)).unwrap();
        assert_eq!(weights.names().count(), file.tensors.len());
        for expected in file.tensors {
            let tensor = weights.get(&expected.name).unwrap();
            assert_eq!(tensor.dtype.name(), expected.r#type);
            let reversed: Vec<usize> = expected.ne.into_iter().rev().collect();
            assert_eq!(tensor.shape, reversed);
            let values = tensor.to_f32().unwrap();
            assert_eq!(
                sha256_of(&values),
                expected.sha256_f32,
                "{} {}",
                file.file,
                expected.name
            );
            let mut row = vec![0.0; tensor.columns()];
            for index in 0..tensor.rows() {
                tensor.row_f32(index, &mut row).unwrap();
                assert_eq!(row, values[index * row.len()..][..row.len()]);
            }
        }
    }
}

fn sha256_of(values: &[f32]) -> String {
    let bytes: Vec<u8> = values
        .iter()
        .flat_map(|value| value.to_le_bytes())
        .collect();
    Sha256::digest(bytes)
        .iter()
        .map(|byte| format!("{byte:02x}"))
        .collect()
}

#[test]
fn gguf_metadata_is_typed() {
    let weights = Weights::open(&fixtures().join("gguf/llama-Q4_0.gguf")).unwrap();
    let metadata = weights.gguf().unwrap();
    assert_eq!(metadata.str("general.architecture").unwrap(), Some("llama"));
    assert_eq!(
        metadata
            .u32("llama.rope.dimension_count")
            .unwrap()
            .map(|n| n > 0),
        Some(true)
    );
    assert_eq!(
        metadata.bool("tokenizer.ggml.add_bos_token").unwrap(),
        Some(false)
    );
    assert_eq!(metadata.u32("llama.unheard_of").unwrap(), None);
    let tokens = metadata.strings("tokenizer.ggml.tokens").unwrap().unwrap();
    let count = tokens.len();
    let tokens: Vec<&str> = tokens.map(Result::unwrap).collect();
    assert_eq!(tokens.len(), count);
    assert_eq!(tokens[0], "<|endoftext|>");
    assert_eq!(
        metadata
            .i32s("tokenizer.ggml.token_type")
            .unwrap()
            .unwrap()
            .len(),
        count
    );
    let error = metadata
        .u32("general.architecture")
        .unwrap_err()
        .to_string();
    assert!(
        error.contains("`general.architecture` is `\"llama\"`, expected a whole number"),
        "{error}"
    );
    let error = metadata
        .f32s("tokenizer.ggml.tokens")
        .unwrap_err()
        .to_string();
    assert!(error.contains("array of 745 String"), "{error}");
}

#[test]
fn what_the_writer_writes_is_read_back() {
    let weights = Weights::from_bytes(gguf_file()).unwrap();
    let metadata = weights.gguf().unwrap();
    assert_eq!(metadata.keys().count(), 9);
    assert_eq!(metadata.str("general.name").unwrap(), Some("小模型"));
    assert_eq!(metadata.u32("bert.block_count").unwrap(), Some(12));
    assert_eq!(
        metadata.f32("bert.attention.layer_norm_epsilon").unwrap(),
        Some(1e-12)
    );
    assert_eq!(metadata.bool("bert.attention.causal").unwrap(), Some(false));
    let tokens = metadata.strings("tokenizer.ggml.tokens").unwrap().unwrap();
    assert_eq!(
        tokens.collect::<Result<Vec<_>>>().unwrap(),
        ["<s>", "▁文", ""]
    );
    assert_eq!(
        metadata.f32s("tokenizer.ggml.scores").unwrap().unwrap(),
        [0.0, -1.5, -2.0]
    );
    assert_eq!(
        metadata.i32s("tokenizer.ggml.token_type").unwrap().unwrap(),
        [3, 1, -1]
    );
    assert_eq!(
        metadata
            .bytes("tokenizer.ggml.precompiled_charsmap")
            .unwrap(),
        Some(&[1, 2, 255][..])
    );
    assert_eq!(
        weights.names().collect::<Vec<_>>(),
        ["a.weight", "b.weight"]
    );
    let a = weights.get("a.weight").unwrap();
    assert_eq!(a.to_f32().unwrap(), [0.0, 1.0, 2.0, 3.0, 4.0, 5.0]);
    assert_eq!((a.rows(), a.columns()), (2, 3));
    let mut row = [0.0; 32];
    weights
        .get("b.weight")
        .unwrap()
        .row_f32(1, &mut row)
        .unwrap();
    assert_eq!(row, [2.0; 32]);
}

#[test]
fn the_writer_refuses_disorder() {
    let announced = || {
        let mut writer = gguf::Writer::new();
        writer.tensor("a", Dtype::F32, &[2]).unwrap();
        writer.begin(Vec::new()).unwrap()
    };
    assert!(announced().next("b").is_err());
    assert!(announced().write(&[0]).is_err());
    assert!(announced().finish().is_err());
    let mut short = announced();
    short.next("a").unwrap();
    assert!(short.write(&[0; 9]).is_err());
    short.write(&[0; 4]).unwrap();
    assert!(short.finish().is_err());
    assert!(
        gguf::Writer::new()
            .tensor("a", Dtype::Q4_0, &[2, 31])
            .is_err()
    );
    assert!(gguf::Writer::new().tensor("a", Dtype::U64, &[2]).is_err());
}

#[test]
fn folders_of_real_models_open() {
    let weights = Weights::open(&fixtures().join("bert_cls")).unwrap();
    assert!(weights.gguf().is_none());
    let words = weights.get("embeddings.word_embeddings.weight").unwrap();
    assert_eq!(
        words.to_f32().unwrap().len(),
        words.rows() * words.columns()
    );
    // Old checkpoints hold whole numbers too: listed, and refused as numbers with a fraction.
    let positions = weights.get("embeddings.position_ids").unwrap();
    assert_eq!(positions.dtype, Dtype::I64);
    assert!(matches!(
        positions.to_f32().unwrap_err().kind(),
        ErrorKind::Unsupported { .. }
    ));
}

#[test]
fn half_precision_and_odd_offsets_are_read() {
    let json = r#"{"__metadata__":{"format":"pt"},"odd":{"dtype":"U8","shape":[1],"data_offsets":[0,1]},
        "half":{"dtype":"F16","shape":[2],"data_offsets":[1,5]},
        "brain":{"dtype":"BF16","shape":[1,2],"data_offsets":[5,9]},
        "full":{"dtype":"F32","shape":[],"data_offsets":[9,13]},
        "double":{"dtype":"F64","shape":[1],"data_offsets":[13,21]}}"#;
    let mut data = vec![7, 0x00, 0x3c, 0x00, 0xc0, 0x80, 0x3f, 0x00, 0xc0];
    data.extend(0.25_f32.to_le_bytes());
    data.extend(0.5_f64.to_le_bytes());
    let weights = Weights::from_bytes(safetensors_file(json, &data)).unwrap();
    let read = |name| weights.get(name).unwrap().to_f32().unwrap();
    assert_eq!(read("half"), [1.0, -2.0]);
    assert_eq!(read("brain"), [1.0, -2.0]);
    assert_eq!(read("full"), [0.25]);
    assert_eq!(read("double"), [0.5]);
    assert!(weights.get("__metadata__").is_none());
}

#[test]
fn shards_are_joined() {
    let folder = TempDir::new().unwrap();
    let shard = |name: &str, value: f32| {
        let json = format!(r#"{{"{name}":{{"dtype":"F32","shape":[1],"data_offsets":[0,4]}}}}"#);
        safetensors_file(&json, &value.to_le_bytes())
    };
    fs::write(
        folder.path().join("model-00001-of-00002.safetensors"),
        shard("a", 1.0),
    )
    .unwrap();
    fs::write(
        folder.path().join("model-00002-of-00002.safetensors"),
        shard("b", 2.0),
    )
    .unwrap();
    let index = r#"{"metadata":{"total_size":8},"weight_map":{
        "a":"model-00001-of-00002.safetensors","b":"model-00002-of-00002.safetensors"}}"#;
    let index_path = folder.path().join("model.safetensors.index.json");
    fs::write(&index_path, index).unwrap();
    for path in [folder.path(), &index_path] {
        let weights = Weights::open(path).unwrap();
        assert_eq!(weights.path(), path);
        assert_eq!(weights.get("a").unwrap().to_f32().unwrap(), [1.0]);
        assert_eq!(weights.get("b").unwrap().to_f32().unwrap(), [2.0]);
    }
}

#[test]
fn one_weights_file_of_any_name_is_enough() {
    let folder = TempDir::new().unwrap();
    fs::write(folder.path().join("微调.gguf"), gguf_file()).unwrap();
    assert!(Weights::open(folder.path()).unwrap().gguf().is_some());
}

#[test]
fn the_sampled_hash_tells_models_apart() {
    let hash = Weights::from_bytes(gguf_file()).unwrap().sampled_hash();
    assert_eq!(hash.len(), 64);
    let mut changed = gguf_file();
    *changed.last_mut().unwrap() = 9;
    // The file ends in padding, so the last weight lies before it.
    assert_eq!(
        Weights::from_bytes(changed.clone()).unwrap().sampled_hash(),
        hash
    );
    let end = changed.len() - 28;
    changed[end - 1] = 9;
    assert_ne!(Weights::from_bytes(changed).unwrap().sampled_hash(), hash);
}

#[test]
fn weights_are_shared_between_threads() {
    fn shared<T: Send + Sync>() {}
    shared::<Weights>();
}
