//! Queries with the documents that answer them, read from a folder.
//!
//! Two layouts are known: that of BEIR (`corpus.jsonl`, `queries.jsonl`, `qrels/*.tsv`), and
//! `pairs.jsonl` with one text in two languages (`en`, `zh`, `en_title`, `zh_title`) a line, from
//! which four sets are made: each language asks for the other, and the titles ask for their texts.

use std::collections::{HashMap, HashSet};
use std::fs;
use std::path::{Path, PathBuf};

use serde_json::Value;

use crate::retrieve::{Error, ErrorKind, Result};

/// A text with its id.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Text {
    /// Unique in its set.
    pub id: String,
    /// Title and text.
    pub text: String,
}

/// A query with the documents that answer it.
#[derive(Clone, Debug, PartialEq)]
pub struct Query {
    /// If a document has this id too, it is the query itself and does not count as found.
    pub id: String,
    /// The query.
    pub text: String,
    /// Documents by id with their gain, greater than 0.
    pub relevant: HashMap<String, f64>,
}

/// Documents, and queries with judgements on them.
#[derive(Clone, Debug, PartialEq)]
pub struct JudgedSet {
    /// The folder's name, and which of its sets.
    pub name: String,
    /// What is searched.
    pub documents: Vec<Text>,
    /// What is asked; each with at least one judged document.
    pub queries: Vec<Query>,
}

/// The sets in `folder`, or in its subfolders if it has none itself.
///
/// # Errors
///
/// If there is none, or a line cannot be understood.
pub fn judged_sets(folder: &Path) -> Result<Vec<JudgedSet>> {
    let sets = sets_of(folder)?;
    if !sets.is_empty() {
        return Ok(sets);
    }
    let entries = fs::read_dir(folder).map_err(|error| Error::io(folder, error))?;
    let mut folders: Vec<PathBuf> = entries
        .filter_map(|entry| Some(entry.ok()?.path()))
        .filter(|path| path.is_dir())
        .collect();
    folders.sort();
    let mut all = Vec::new();
    for folder in folders {
        all.extend(sets_of(&folder)?);
    }
    match all.is_empty() {
        true => Err(invalid(folder, "there are no judged queries in it")),
        false => Ok(all),
    }
}

fn sets_of(folder: &Path) -> Result<Vec<JudgedSet>> {
    let name = folder.file_name().unwrap_or_default().to_string_lossy();
    if folder.join("corpus.jsonl").is_file() {
        Ok(vec![beir(folder, name.into_owned())?])
    } else if folder.join("pairs.jsonl").is_file() {
        pairs(&folder.join("pairs.jsonl"), &name)
    } else {
        Ok(Vec::new())
    }
}

fn beir(folder: &Path, name: String) -> Result<JudgedSet> {
    let documents = read_texts(&folder.join("corpus.jsonl"))?;
    let known: HashSet<&str> = documents.iter().map(|text| text.id.as_str()).collect();
    let mut judgements: HashMap<String, HashMap<String, f64>> = HashMap::new();
    let qrels = qrels_file(folder)?;
    let lines = fs::read_to_string(&qrels).map_err(|error| Error::io(&qrels, error))?;
    for (number, line) in lines.lines().enumerate().skip(1) {
        let cells: Vec<&str> = line.split('\t').collect();
        let [query, document, gain] = cells[..] else {
            return Err(invalid(
                &qrels,
                format!("line {} has not 3 columns", number + 1),
            ));
        };
        let gain: f64 = gain.trim().parse().map_err(|_| {
            invalid(
                &qrels,
                format!("line {}: `{gain}` is no number", number + 1),
            )
        })?;
        if gain > 0.0 && known.contains(document) {
            let relevant = judgements.entry(query.to_owned()).or_default();
            relevant.insert(document.to_owned(), gain);
        }
    }
    let queries = read_texts(&folder.join("queries.jsonl"))?;
    let queries = queries.into_iter().filter_map(|query| {
        Some(Query {
            relevant: judgements.remove(&query.id)?,
            id: query.id,
            text: query.text,
        })
    });
    let queries = queries.collect();
    Ok(JudgedSet {
        name,
        queries,
        documents,
    })
}

/// `test.tsv` if it is there, as in published figures.
fn qrels_file(folder: &Path) -> Result<PathBuf> {
    let names = ["test.tsv", "dev.tsv", "train.tsv"];
    let mut files = names.iter().map(|name| folder.join("qrels").join(name));
    files.find(|path| path.is_file()).ok_or_else(|| {
        invalid(
            folder,
            "there is no `qrels/test.tsv`, `dev.tsv` or `train.tsv`",
        )
    })
}

fn pairs(path: &Path, name: &str) -> Result<Vec<JudgedSet>> {
    let rows = read_lines(path)?;
    let set = |queries: &str, documents: &str| -> Result<JudgedSet> {
        let mut set = JudgedSet {
            name: format!("{name} {queries} → {documents}"),
            documents: Vec::new(),
            queries: Vec::new(),
        };
        for (index, row) in rows.iter().enumerate() {
            let id = index.to_string();
            set.documents.push(Text {
                id: id.clone(),
                text: field(path, index, row, documents)?,
            });
            set.queries.push(Query {
                id: format!("query {id}"),
                text: field(path, index, row, queries)?,
                relevant: HashMap::from([(id, 1.0)]),
            });
        }
        Ok(set)
    };
    let directions = [
        ("en", "zh"),
        ("zh", "en"),
        ("en_title", "en"),
        ("zh_title", "zh"),
    ];
    directions
        .into_iter()
        .map(|(queries, documents)| set(queries, documents))
        .collect()
}

/// Lines of `{"_id", "title", "text"}`.
fn read_texts(path: &Path) -> Result<Vec<Text>> {
    let rows = read_lines(path)?;
    let text = |(index, row): (usize, &Value)| {
        let title = row["title"].as_str().unwrap_or_default();
        let text = field(path, index, row, "text")?;
        Ok(Text {
            id: field(path, index, row, "_id")?,
            text: format!("{title}\n{text}").trim().to_owned(),
        })
    };
    rows.iter().enumerate().map(text).collect()
}

fn read_lines(path: &Path) -> Result<Vec<Value>> {
    let text = fs::read_to_string(path).map_err(|error| Error::io(path, error))?;
    let lines = text
        .lines()
        .enumerate()
        .filter(|(_, line)| !line.trim().is_empty());
    lines
        .map(|(index, line)| {
            serde_json::from_str(line)
                .map_err(|error| invalid(path, format!("line {}: {error}", index + 1)))
        })
        .collect()
}

fn field(path: &Path, index: usize, row: &Value, name: &str) -> Result<String> {
    let value = row[name].as_str().map(str::to_owned);
    value.ok_or_else(|| invalid(path, format!("entry {} has no `{name}`", index + 1)))
}

fn invalid(path: &Path, reason: impl Into<String>) -> Error {
    ErrorKind::JudgedSet {
        path: path.to_path_buf(),
        reason: reason.into(),
    }
    .into()
}
