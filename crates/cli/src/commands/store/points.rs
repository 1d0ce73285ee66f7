//! `wenyi store info | check | vacuum` of a file of points.

use std::io::{self, Write};
use std::path::Path;

use serde_json::json;
use wenyi::store::{Collection, ErrorKind};
use wenyi::vector_store::{SqliteDatabase, VectorStore};

use super::FileArguments;
use crate::output::table::{Align, Table};
use crate::output::{self, quantity, style};

/// True if a file of points is there, and not a collection.
pub(super) fn is_points(path: &Path) -> bool {
    let foreign = Collection::open_read_only(path)
        .is_err_and(|error| matches!(error.kind(), ErrorKind::NotWenyi { .. }));
    foreign && SqliteDatabase::open(path).is_ok()
}

pub(super) fn open(file: &FileArguments) -> anyhow::Result<SqliteDatabase> {
    Ok(SqliteDatabase::open(&file.collection)?)
}

pub(super) fn info(file: &FileArguments) -> anyhow::Result<()> {
    let database = open(file)?;
    let mut collections = Vec::new();
    for name in database.collections()? {
        collections.push(database.collection(&name)?.info()?);
    }
    if file.json {
        let collections = collections.iter().map(|info| {
            json!({
                "name": info.name,
                "points": info.num_points,
                "dimensions": info.dimensions,
                "distance": info.distance,
                "metadata": info.metadata,
            })
        });
        let collections: Vec<_> = collections.collect();
        return output::json(&json!({"file": database.path(), "collections": collections}));
    }
    let mut table = Table::new(&[
        ("collection", Align::Left),
        ("points", Align::Right),
        ("dimensions", Align::Right),
        ("distance", Align::Left),
    ]);
    for info in &collections {
        table.row(vec![
            info.name.clone(),
            quantity::grouped(info.num_points),
            info.dimensions.unwrap_or_default().to_string(),
            format!("{:?}", info.distance).to_lowercase(),
        ]);
    }
    write!(io::stdout().lock(), "{}", table.render(style::stdout()))?;
    Ok(())
}
