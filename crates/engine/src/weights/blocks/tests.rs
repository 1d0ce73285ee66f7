use std::path::Path;

use serde::Deserialize;

use super::*;

#[derive(Deserialize)]
struct Fixture {
    ggml_type_id: u32,
    block_size: usize,
    type_size: usize,
    blocks: Vec<Block>,
}

#[derive(Deserialize)]
struct Block {
    hex: String,
    values: Vec<Option<f64>>,
}

fn fixture(name: &str) -> Fixture {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/fixtures/blocks");
    let text = std::fs::read_to_string(folder.join(format!("{name}.json"))).unwrap();
    serde_json::from_str(&text).unwrap()
}

fn bytes_of(hex: &str) -> Vec<u8> {
    (0..hex.len())
        .step_by(2)
        .map(|at| u8::from_str_radix(&hex[at..at + 2], 16).unwrap())
        .collect()
}

#[test]
fn every_block_type_agrees_to_the_bit() {
    let names = [
        "BF16", "Q8_0", "Q4_0", "Q4_1", "Q5_0", "Q5_1", "Q2_K", "Q3_K", "Q4_K", "Q5_K", "Q6_K",
        "IQ4_NL", "IQ4_XS", "TQ1_0", "TQ2_0", "MXFP4",
    ];
    for name in names {
        let fixture = fixture(name);
        let dtype = Dtype::from_ggml(fixture.ggml_type_id).unwrap();
        assert_eq!(dtype.name(), name);
        assert_eq!(
            (dtype.block_size(), dtype.block_bytes()),
            (fixture.block_size, fixture.type_size)
        );
        assert!(!fixture.blocks.is_empty());
        for (index, block) in fixture.blocks.iter().enumerate() {
            let mut out = vec![0.0; fixture.block_size];
            assert!(dequantize(dtype, &bytes_of(&block.hex), &mut out));
            for (at, (got, expected)) in out.iter().zip(&block.values).enumerate() {
                let expected = expected.unwrap() as f32;
                assert_eq!(
                    got.to_bits(),
                    expected.to_bits(),
                    "{name} block {index} weight {at}: {got} is not {expected}"
                );
            }
        }
    }
}

#[test]
fn types_without_a_reader_are_refused_by_name() {
    for name in [
        "IQ1_M", "IQ1_S", "IQ2_S", "IQ2_XS", "IQ2_XXS", "IQ3_S", "IQ3_XXS", "NVFP4",
    ] {
        assert_eq!(
            Dtype::from_ggml(fixture(name).ggml_type_id),
            Err(name.to_owned())
        );
    }
    assert_eq!(Dtype::from_ggml(4), Err("GGML type 4".to_owned()));
}
