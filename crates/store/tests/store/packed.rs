//! The packed rows beside a collection: used when they are its own, never believed otherwise.

use std::fs;
use std::path::{Path, PathBuf};

use wenyi_store::{Collection, Filter, NewDocument};

use crate::fixtures::{assert_clean, document, found, options, place};

const QUERY: [f32; 4] = [0.5, 0.5, 0.5, 0.5];

fn vectors_path(path: &Path) -> PathBuf {
    PathBuf::from(format!("{}-vectors", path.display()))
}

/// A document of one chunk, all different.
fn numbered(number: usize) -> NewDocument {
    let angle = number as f32 / 40.0;
    let vector = [angle.cos(), angle.sin(), 0.0, 0.0];
    document(&format!("{number:03}"), &[("text", &vector)])
}

fn filled(path: &Path, numbers: std::ops::Range<usize>) -> Collection {
    let collection = Collection::create(path, &options(4)).unwrap();
    let documents: Vec<_> = numbers.map(numbered).collect();
    collection.upsert_documents(&documents).unwrap();
    collection
}

fn all(collection: &Collection) -> Vec<(String, u64)> {
    found(collection, &QUERY, 1000, &Filter::default())
}

#[test]
fn packed_rows_are_searched_like_the_collection() {
    let (_folder, path) = place();
    let collection = filled(&path, 0..50);
    let expected = all(&collection);
    assert_eq!(collection.num_packed().unwrap(), None);
    // Whole blocks of rows only: the other two are read from the collection.
    assert_eq!(collection.pack().unwrap(), 48);
    assert_eq!(collection.num_packed().unwrap(), Some(48));
    assert_eq!(all(&collection), expected);
    assert_clean(&collection);

    // What comes and goes later is found and not found, here and elsewhere.
    let other = Collection::open_read_only(&path).unwrap();
    assert_eq!(all(&other), expected);
    collection
        .upsert_documents(&[numbered(60), numbered(3)])
        .unwrap();
    collection.remove_documents(&["000", "049"]).unwrap();
    let third = Collection::open_read_only(&path).unwrap();
    let now = all(&collection);
    assert_eq!(now.len(), 49);
    assert_eq!(all(&other), now);
    assert_eq!(all(&third), now);
    assert_clean(&third);
    let size = collection.statistics().unwrap().num_bytes;
    assert!(size > vectors_path(&path).metadata().unwrap().len());

    // Packed again, and with nobody to read the file of the time before.
    assert_eq!(collection.pack().unwrap(), 48);
    assert_eq!(all(&collection), now);
    drop((collection, other, third));
    assert_eq!(all(&Collection::open_read_only(&path).unwrap()), now);
    let names = path.parent().unwrap().read_dir().unwrap();
    let names = names.map(|file| file.unwrap().file_name().to_string_lossy().into_owned());
    assert_eq!(names.filter(|name| name.contains("-vectors")).count(), 1);
}

#[test]
fn packed_rows_of_another_time_or_collection_are_not_believed() {
    let (folder, path) = place();
    let collection = filled(&path, 0..40);
    collection.pack().unwrap();
    drop(collection);
    let copy = folder.path().join("copy");
    fs::copy(&path, &copy).unwrap();
    let collection = Collection::open(&path).unwrap();
    collection.remove_documents(&["000"]).unwrap();
    let documents: Vec<_> = (40..80).map(numbered).collect();
    collection.upsert_documents(&documents).unwrap();
    collection.pack().unwrap();
    drop(collection);
    // The collection of before, put back: it may give the same ids to other chunks.
    fs::copy(&copy, &path).unwrap();
    let collection = Collection::open(&path).unwrap();
    assert_eq!(collection.num_packed().unwrap(), None);
    let documents: Vec<_> = (100..130).map(numbered).collect();
    collection.upsert_documents(&documents).unwrap();
    assert_eq!(all(&collection).len(), 70);
    assert_clean(&collection);
    drop(collection);

    fs::remove_file(&path).unwrap();
    let anew = filled(&path, 200..220);
    assert_eq!(all(&anew).len(), 20);
    assert_clean(&anew);
}

#[test]
fn damaged_packed_rows_are_seen_by_check_and_made_anew_by_repair() {
    let (_folder, path) = place();
    let collection = filled(&path, 0..40);
    let expected = all(&collection);
    collection.pack().unwrap();
    drop(collection);
    let packed = vectors_path(&path);
    let mut bytes = fs::read(&packed).unwrap();
    bytes[2 * 4096] ^= 1;
    fs::write(&packed, bytes).unwrap();
    let collection = Collection::open(&path).unwrap();
    let problems = collection.check().unwrap().problems;
    assert!(
        problems.len() == 1 && problems[0].contains("-vectors"),
        "{problems:?}"
    );
    assert!(collection.repair().unwrap().is_clean());
    assert_eq!(all(&collection), expected);
    collection.pack().unwrap();
    collection.vacuum().unwrap();
    assert_clean(&collection);
    assert_eq!(all(&collection), expected);

    // Torn, or gone: the collection has everything.
    let whole = fs::read(&packed).unwrap();
    fs::write(&packed, &whole[..whole.len() / 2]).unwrap();
    let reader = Collection::open_read_only(&path).unwrap();
    assert_eq!(all(&reader), expected);
    assert_clean(&reader);
    fs::remove_file(&packed).unwrap();
    assert_eq!(all(&Collection::open_read_only(&path).unwrap()), expected);
}
