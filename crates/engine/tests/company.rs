//! A text's vector depends neither on the texts beside it nor on the number of threads.
//!
//! On a model of real width: there, few rows and many are shared out among the threads in different
//! ways, and the feed-forward block goes by parts.

use wenyi_engine::encoder::{EmbedOptions, Encoder, EncoderOptions, Precision};

mod random_model;

#[test]
fn a_vector_is_the_same_alone_and_in_any_company() {
    let folder = tempfile::tempdir().unwrap();
    random_model::write(folder.path(), 3).unwrap();
    let texts: Vec<String> = [1, 2, 5, 15, 16, 17, 31, 40, 64, 95, 96, 97, 130, 300]
        .iter()
        .map(|words| "a b c d e ".repeat(*words)[..2 * words].to_owned())
        .collect();
    let texts: Vec<&str> = texts.iter().map(String::as_str).collect();
    for precision in [Precision::F32, Precision::Bf16, Precision::Int8] {
        let mut first: Option<Vec<Vec<f32>>> = None;
        for threads in [1, 2, 3] {
            let options = EncoderOptions {
                precision: Some(precision),
                threads: Some(threads),
                ..EncoderOptions::default()
            };
            let encoder = Encoder::open(folder.path(), &options).unwrap();
            for company in [1, 2, 3, 6, texts.len()] {
                let vectors: Vec<Vec<f32>> = texts
                    .chunks(company)
                    .flat_map(|batch| {
                        let embeddings = encoder.embed(batch, &EmbedOptions::default()).unwrap();
                        let vectors = (0..batch.len()).map(|text| embeddings.vector(text).to_vec());
                        vectors.collect::<Vec<_>>()
                    })
                    .collect();
                let expected: &Vec<Vec<f32>> = first.get_or_insert_with(|| vectors.clone());
                for (text, (got, want)) in vectors.iter().zip(expected).enumerate() {
                    let off = got.iter().zip(want).map(|(a, b)| (a - b).abs());
                    let off = off.fold(0.0, f32::max);
                    assert!(
                        off <= 1e-5,
                        "{precision} text {text}: {off} off with {threads} threads, {company} at a time"
                    );
                }
            }
        }
    }
}
