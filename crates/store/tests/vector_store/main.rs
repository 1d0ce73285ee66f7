//! The stores of this crate under the suite of all stores.
#![cfg(test)]

mod kill;
mod langchain;
mod spaces;
mod hybrid;
mod suite;

use wenyi_store::vector_store::{MemoryStore, SqliteDatabase};

#[test]
fn memory_conforms() {
    suite::run(&mut |options| Box::new(MemoryStore::with_options(options.clone()).unwrap()));
}

#[test]
fn sqlite_conforms() {
    let folder = tempfile::tempdir().unwrap();
    let database = SqliteDatabase::open(folder.path().join("points.db")).unwrap();
    let mut number = 0;
    suite::run(&mut |options| {
        number += 1;
        let store = database
            .create_collection(&format!("c{number}"), options)
            .unwrap();
        Box::new(store)
    });
}
