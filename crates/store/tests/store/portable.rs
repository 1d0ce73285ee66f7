//! A collection as JSON lines, and back.

use wenyi_store::{Collection, ErrorKind, Filter, is_exported_collection};

use crate::fixtures::{assert_clean, document, found, options, place};

const X: &[f32] = &[0.6, 0.0, -0.8];
const Y: &[f32] = &[0.1, 0.7, 0.3];

fn exported(collection: &Collection) -> String {
    let mut lines = Vec::new();
    collection.export(&mut lines, &mut || true).unwrap();
    String::from_utf8(lines).unwrap()
}

#[test]
fn an_export_is_read_back_bit_for_bit_and_goes_on_where_it_was() {
    let (folder, path) = place();
    let collection = Collection::create(&path, &options(3)).unwrap();
    let documents = [
        document("指南/离线.md", &[("没有网络", X), ("mirror", Y)]),
        document("empty.md", &[]),
        document("b.md", &[("\"quoted\"\nlines", Y)]),
    ];
    collection.upsert_documents(&documents).unwrap();
    let lines = exported(&collection);
    assert_eq!(lines.lines().count(), 4);
    assert!(is_exported_collection(lines.lines().next().unwrap()));
    assert!(!is_exported_collection(lines.lines().nth(1).unwrap()));

    // Only the first document, as if it had been stopped.
    let other = folder.path().join("other.db");
    let some: String = lines.split_inclusive('\n').take(2).collect();
    let import = |lines: &str| Collection::import(&other, &mut lines.as_bytes(), &mut || true);
    assert_eq!(import(&some).unwrap().written, 1);
    let report = import(&lines).unwrap();
    assert_eq!((report.written, report.unchanged), (2, 1));
    let report = import(&lines).unwrap();
    assert_eq!((report.written, report.unchanged), (0, 3));
    let back = Collection::open(&other).unwrap();
    assert_clean(&back);
    assert_eq!(exported(&back), lines);
    assert_eq!(back.info().space, collection.info().space);
    let everything = Filter::default();
    assert_eq!(
        found(&back, X, 9, &everything),
        found(&collection, X, 9, &everything)
    );
    let by_words = back.search_text("网络", 3, &everything).unwrap();
    assert_eq!(by_words[0].chunk.text, "没有网络");
}

#[test]
fn what_is_no_export_is_refused_with_its_line() {
    let (folder, path) = place();
    let collection = Collection::create(&path, &options(3)).unwrap();
    collection
        .upsert_document(&document("a.md", &[("text", X)]))
        .unwrap();
    let lines = exported(&collection);
    let other = folder.path().join("other.db");
    let import = |lines: &str| Collection::import(&other, &mut lines.as_bytes(), &mut || true);
    let narrow = lines.replace("-0.8", "-0.8,1.0");
    for (text, number) in [
        ("", 1),
        ("{\"id\": 1, \"vector\": [1.0]}\n", 1),
        (&lines[..lines.len() - 3], 2),
        (&narrow, 2),
    ] {
        let error = import(text).unwrap_err();
        assert!(
            matches!(error.kind(), ErrorKind::ImportLine { line, .. } if *line == number),
            "{error}"
        );
        assert!(error.is_user_error() && error.hint().is_some());
    }
    // A collection of another space.
    drop(Collection::create(folder.path().join("wide.db"), &options(4)).unwrap());
    let error = Collection::import(
        folder.path().join("wide.db"),
        &mut lines.as_bytes(),
        &mut || true,
    );
    let error = error.unwrap_err();
    assert!(
        matches!(error.kind(), ErrorKind::SpaceMismatch { .. }),
        "{error}"
    );
}
