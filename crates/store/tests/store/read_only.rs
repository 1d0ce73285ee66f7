//! A file or a folder that must not be written can still be searched.

#![cfg(unix)]

use std::fs::{self, Permissions};
use std::os::unix::fs::{MetadataExt, PermissionsExt};
use std::os::unix::process::CommandExt;
use std::path::Path;
use std::process::Command;
use std::{env, thread};

use wenyi_store::{Collection, ErrorKind, Filter};

use crate::fixtures::{document, options, place};

const FOLDER: &str = "WENYI_STORE_READ_ONLY_FOLDER";
const X: &[f32] = &[1.0, 0.0];

/// The user `nobody`: root may write everything, so it cannot see a refusal.
const NOBODY: u32 = 65_534;

/// With what SQLite would read as an option of a URI.
const NAME: &str = "笔记 100%?immutable=0#.wenyi";

#[test]
fn read_only_files_and_folders_are_searched() {
    let (folder, _) = place();
    let folder = folder.path();
    let collection = Collection::create(folder.join(NAME), &options(2)).unwrap();
    collection
        .upsert_document(&document("a", &[("text", X)]))
        .unwrap();
    // A copy with commits in its log, as a killed writer leaves it.
    let unfolded = folder.join("log");
    fs::create_dir(&unfolded).unwrap();
    let log = format!("{NAME}-wal");
    for name in [NAME, &log] {
        fs::copy(folder.join(name), unfolded.join(name)).unwrap();
    }
    drop(collection);
    for (path, mode) in [
        (folder.join(NAME), 0o444),
        (unfolded, 0o555),
        (folder.into(), 0o555),
    ] {
        fs::set_permissions(path, Permissions::from_mode(mode)).unwrap();
    }
    if folder.metadata().unwrap().uid() == 0 {
        run_as_nobody(folder);
    } else {
        examine(folder);
    }
    fs::set_permissions(folder.join("log"), Permissions::from_mode(0o755)).unwrap();
    fs::set_permissions(folder, Permissions::from_mode(0o755)).unwrap();
}

/// Runs [`child`] in a copy of this program that the other user can reach.
fn run_as_nobody(folder: &Path) {
    let (programs, _) = place();
    fs::set_permissions(programs.path(), Permissions::from_mode(0o755)).unwrap();
    let program = programs.path().join("tests");
    fs::copy(env::current_exe().unwrap(), &program).unwrap();
    fs::set_permissions(&program, Permissions::from_mode(0o755)).unwrap();
    let output = Command::new(program)
        .args(["--exact", "read_only::child", "--nocapture"])
        .env(FOLDER, folder)
        .current_dir("/")
        .uid(NOBODY)
        .gid(NOBODY)
        .output()
        .unwrap();
    let said = String::from_utf8_lossy(&output.stdout);
    assert!(
        output.status.success(),
        "{said}\n{}",
        String::from_utf8_lossy(&output.stderr)
    );
    assert!(said.contains("examined as another user"), "{said}");
}

/// The other user's process: not a test of its own.
#[test]
fn child() {
    let Ok(folder) = env::var(FOLDER) else { return };
    examine(Path::new(&folder));
    println!("examined as another user");
}

fn examine(folder: &Path) {
    let path = folder.join(NAME);
    let error = Collection::open(&path).unwrap_err();
    assert!(
        matches!(error.kind(), ErrorKind::ReadOnly { .. }),
        "{error:?}"
    );
    assert!(error.is_user_error() && error.hint().is_some());
    let error = Collection::create(folder.join("new"), &options(2)).unwrap_err();
    assert!(
        matches!(error.kind(), ErrorKind::Io { .. }) && error.is_user_error(),
        "{error:?}"
    );

    thread::scope(|scope| {
        for _ in 0..2 {
            scope.spawn(|| {
                let collection = Collection::open_read_only(&path).unwrap();
                let hits = collection.search(X, 1, &Filter::default()).unwrap();
                assert_eq!(hits[0].chunk.text, "text");
                assert!(collection.check().unwrap().is_clean());
                assert!(collection.is_read_only());
                let error = collection.remove_documents(&["a"]).unwrap_err();
                assert!(
                    matches!(error.kind(), ErrorKind::ReadOnly { .. }),
                    "{error:?}"
                );
            });
        }
    });
    // What lies in a log that cannot be read must not be passed over in silence.
    match Collection::open_read_only(folder.join("log").join(NAME)) {
        Ok(collection) => assert_eq!(collection.documents().unwrap().len(), 1),
        Err(error) => assert!(
            matches!(error.kind(), ErrorKind::UnreadableLog { .. }),
            "{error:?}"
        ),
    }
}
