//! A disk that is full: what was acknowledged is there, and more room is all that is needed.

use std::env;
use std::io::Write;
use std::process::Command;

use wenyi_store::{Collection, ErrorKind, Filter, NewDocument};

use crate::fixtures::{assert_clean, document, options, place};

const FILE: &str = "WENYI_STORE_FULL_FILE";

/// Written by the child; a share of it is packed and indexed, too.
fn numbered(number: usize) -> NewDocument {
    let angle = number as f32 / 100.0;
    let vector = [angle.cos(), angle.sin(), 0.3, 0.4];
    let text = format!("{number} 满 ").repeat(500);
    document(&format!("{number:04}"), &[(&text, &vector)])
}

/// Files cannot grow beyond some size (`ulimit -f`), wherever in the work that is met: in the file
/// itself, its log, the packed rows.
#[cfg(unix)]
#[test]
fn nothing_acknowledged_is_lost_when_the_disk_is_full() {
    for blocks in [300, 700, 1500, 3000, 6000] {
        let (_folder, path) = place();
        drop(Collection::create(&path, &options(4)).unwrap());
        // The signal that would end the process is ignored: writing fails as on a full disk.
        let script = format!("trap '' XFSZ; ulimit -f {blocks}; exec \"$0\" \"$@\"");
        let output = Command::new("sh")
            .args(["-c", &script])
            .arg(env::current_exe().unwrap())
            .args(["--exact", "full_disk::child", "--nocapture"])
            .env(FILE, &path)
            .output()
            .unwrap();
        let said = String::from_utf8_lossy(&output.stdout);
        assert!(output.status.success(), "{said}");
        let acknowledged = said
            .lines()
            .filter(|line| line.contains("acknowledged "))
            .count();
        assert!(said.contains("full: "), "{blocks}: {said}");

        let collection = Collection::open(&path).unwrap();
        assert_clean(&collection);
        let num_documents = collection.statistics().unwrap().num_documents as usize;
        assert_eq!(num_documents, acknowledged, "{blocks}");
        let found = collection.search(&[1.0, 0.0, 0.3, 0.4], 5000, &Filter::default());
        assert_eq!(found.unwrap().len(), acknowledged);
        // With room again it goes on.
        collection.upsert_document(&numbered(acknowledged)).unwrap();
        collection.pack().unwrap();
        assert_clean(&collection);
    }
}

/// The other process: not a test of its own.
#[test]
fn child() {
    let Ok(path) = env::var(FILE) else { return };
    let mut output = std::io::stdout();
    let collection = Collection::open(&path).unwrap();
    for number in 0..1200 {
        if number % 50 == 49
            && let Err(error) = collection.pack()
        {
            writeln!(output, "not packed: {error}").unwrap();
        }
        match collection.upsert_document(&numbered(number)) {
            Ok(()) => writeln!(output, "acknowledged {number}").unwrap(),
            Err(error) => {
                let is_full = matches!(
                    error.kind(),
                    ErrorKind::Full { .. } | ErrorKind::Database { .. }
                );
                assert!(is_full, "{error}");
                writeln!(output, "full: {error}").unwrap();
                return;
            }
        }
    }
}
