//! `wenyi store info` of a file of points, or of the store at a URL.

use std::io::{self, Write};
use std::path::Path;

use serde_json::{Value, json};
use wenyi::store::{Collection, ErrorKind};
use wenyi::vector_store::{SqliteDatabase, StoreInfo, VectorStore, open_store};

use crate::output::table::{Align, Table};
use crate::output::{self, quantity, style};

/// True if a file of points is there, and not a collection.
pub(super) fn is_points(path: &Path) -> bool {
    Collection::open_read_only(path)
        .is_err_and(|error| matches!(error.kind(), ErrorKind::PointsFile { .. }))
}

pub(super) fn open(path: &Path) -> anyhow::Result<SqliteDatabase> {
    Ok(SqliteDatabase::open(path)?)
}

/// Prints the collections of a file.
pub(super) fn info(path: &Path, json: bool) -> anyhow::Result<()> {
    let database = open(path)?;
    let mut collections = Vec::new();
    for name in database.collections()? {
        collections.push(database.collection(&name)?.info()?);
    }
    print(&json!({"file": database.path()}), &collections, json)
}

/// Prints the collection at a URL.
pub(super) fn info_at(url: &str, json: bool) -> anyhow::Result<()> {
    let info = open_store(url)?.info()?;
    // The name of the store leaves its password out; what was typed may have it.
    print(&json!({}), &[info], json)
}

fn print(of: &Value, collections: &[StoreInfo], json: bool) -> anyhow::Result<()> {
    if json {
        let collections = collections.iter().map(|info| {
            json!({
                "name": info.name,
                "points": info.num_points,
                "dimensions": info.dimensions,
                "distance": info.distance,
                "metadata": info.metadata,
            })
        });
        let mut all = of.clone();
        all["collections"] = collections.collect();
        return output::json(&all);
    }
    let mut table = Table::new(&[
        ("collection", Align::Left),
        ("points", Align::Right),
        ("dimensions", Align::Right),
        ("distance", Align::Left),
    ]);
    for info in collections {
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
