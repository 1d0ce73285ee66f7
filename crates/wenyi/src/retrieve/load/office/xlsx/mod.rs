//! Workbooks: sheet by sheet, row by row, as cells show their values.

mod format;

use std::io::Cursor;

use calamine::{DataRef, ExcelDateTime, Reader, SheetType, Xlsx};

use super::package::Package;
use super::xml::{self, Node};
use crate::retrieve::load::draft::Draft;
use crate::retrieve::load::places::Unit;
use crate::retrieve::load::table::Table;
use crate::retrieve::load::{SkipReason, guard};

/// Bytes of a row; a cell has at most 32,767 characters.
const MOST_ROW_BYTES: usize = 64 << 20;

/// Columns of a sheet; what lies beyond is not a table that is read.
const MOST_COLUMNS: usize = 1024;

pub(in crate::retrieve::load) fn read(bytes: &[u8]) -> Result<Draft, SkipReason> {
    let mut package = Package::open(bytes)?;
    package.expect_bounded()?;
    let num_uncounted = formulas_without_values(&mut package);
    guard::against_panics(|| {
        let mut workbook: Xlsx<_> = calamine::open_workbook_from_rs(Cursor::new(bytes))
            .map_err(|error: calamine::XlsxError| broken(&error))?;
        // Hidden sheets are read as well: what is looked up in them is shown elsewhere.
        let sheets: Vec<String> = workbook
            .sheets_metadata()
            .iter()
            .filter(|sheet| sheet.typ == SheetType::WorkSheet)
            .map(|sheet| sheet.name.clone())
            .collect();
        let mut draft = Draft::default();
        for sheet in sheets {
            draft.place(Unit::Row, 1, Some(&sheet));
            let length = draft.blocks.len();
            draft.heading(1, &sheet);
            let before = draft.blocks.len();
            read_sheet(&mut workbook, &sheet, &mut draft)?;
            if draft.blocks.len() == before {
                // An empty sheet's name alone says nothing.
                draft.remove_from(length);
            }
        }
        if num_uncounted > 0 {
            let message = format!(
                "{num_uncounted} of its formulas have no stored value, as no spreadsheet program \
                 has worked them out"
            );
            draft.gap(SkipReason::Broken { message });
        }
        Ok(draft)
    })
}

/// Counts the formulas whose results the file does not hold.
fn formulas_without_values(package: &mut Package<'_>) -> usize {
    let mut found = 0;
    for name in package.names() {
        if !name.contains("worksheets/") || !name.ends_with(".xml") {
            continue;
        }
        let Ok(part) = package.xml(&name) else {
            continue;
        };
        if !part.contains("<f") && !part.contains(":f") {
            continue;
        }
        let (mut is_formula, mut in_value, mut has_value) = (false, false, false);
        // Damage is told when the sheet itself is read.
        let _ = xml::read(&part, |node| {
            match node {
                Node::Open(tag) => match tag.name() {
                    // The result may be an empty text.
                    "c" => {
                        is_formula = false;
                        has_value = tag.attribute("t").as_deref() == Some("str");
                    }
                    "f" => is_formula = true,
                    "v" | "is" => in_value = true,
                    _ => {}
                },
                Node::Close("v" | "is") => in_value = false,
                Node::Close("c") => found += usize::from(is_formula && !has_value),
                Node::Text(_) if in_value => has_value = true,
                _ => {}
            }
            Ok(())
        });
    }
    found
}

/// Rows on their way into the draft, each held until the one below it is known.
struct Rows<'a> {
    draft: &'a mut Draft,
    table: Table,
    sheet: &'a str,
    held: Option<(u64, Vec<String>)>,
}

impl Rows<'_> {
    fn push(&mut self, number: u64, row: Vec<String>) {
        if row.iter().any(|cell| !cell.trim().is_empty()) {
            self.write_held(Some(&row));
            self.held = Some((number, row));
        }
    }

    fn write_held(&mut self, next: Option<&[String]>) {
        let sheet = self.sheet;
        if let Some((number, row)) = self.held.take() {
            self.table.row(self.draft, &row, next, |draft| {
                draft.place(Unit::Row, number, Some(sheet));
            });
        }
    }
}

fn read_sheet(
    workbook: &mut Xlsx<Cursor<&[u8]>>,
    sheet: &str,
    draft: &mut Draft,
) -> Result<(), SkipReason> {
    let mut cells = workbook
        .worksheet_cells_reader(sheet)
        .map_err(|error| broken(&error))?;
    let mut rows = Rows {
        draft,
        table: Table::new(2),
        sheet,
        held: None,
    };
    let (mut number, mut row) = (0_u64, Vec::new());
    let (mut row_bytes, mut num_beyond) = (0, 0_usize);
    while let Some((cell, style)) = cells
        .next_cell_with_style_id()
        .map_err(|error| broken(&error))?
    {
        let (at, column) = cell.get_position();
        let at = u64::from(at) + 1;
        if at != number {
            rows.push(number, std::mem::take(&mut row));
            (number, row_bytes) = (at, 0);
            rows.draft.expect_room()?;
        }
        let column = column as usize;
        if column >= MOST_COLUMNS {
            num_beyond += usize::from(!matches!(cell.get_value(), DataRef::Empty));
            continue;
        }
        let style = cells.styles().get(style);
        let format = style.and_then(|style| style.number_format.as_ref());
        let format = format.map_or("", |format| format.format_code.as_str());
        row.resize(row.len().max(column + 1), String::new());
        row[column] = shown(cell.get_value(), format);
        // All cells may share one long text.
        row_bytes += row[column].len();
        if row_bytes > MOST_ROW_BYTES {
            let limit = MOST_ROW_BYTES as u64;
            return Err(SkipReason::TooMuch { limit });
        }
    }
    rows.push(number, row);
    rows.write_held(None);
    if num_beyond > 0 {
        let what = format!("{num_beyond} cells of sheet `{sheet}` beyond column {MOST_COLUMNS}");
        draft.gap(SkipReason::Unread { what });
    }
    Ok(())
}

fn shown(value: &DataRef<'_>, code: &str) -> String {
    match value {
        DataRef::Empty => String::new(),
        DataRef::Int(value) => {
            format::shown(*value as f64, code).unwrap_or_else(|| value.to_string())
        }
        DataRef::Float(value) => format::shown(*value, code).unwrap_or_else(|| number(*value)),
        DataRef::String(text) => text.clone(),
        DataRef::SharedString(text) => (*text).to_owned(),
        DataRef::Bool(value) => (if *value { "TRUE" } else { "FALSE" }).to_owned(),
        DataRef::DateTime(time) => date(time),
        DataRef::DateTimeIso(text) | DataRef::DurationIso(text) => text.clone(),
        DataRef::Error(error) => error.to_string(),
    }
}

/// Fifteen digits, as spreadsheets show: 0.1 + 0.2 is 0.3.
fn number(value: f64) -> String {
    let rounded: f64 = format!("{value:.14e}").parse().unwrap_or(value);
    rounded.to_string()
}

fn date(time: &ExcelDateTime) -> String {
    if time.is_duration() {
        let minutes = (time.as_f64() * 24.0 * 60.0).round();
        return format!("{}:{:02}", (minutes / 60.0).trunc(), (minutes % 60.0).abs());
    }
    let (year, month, day, hour, minute, second, _) = time.to_ymd_hms_milli();
    let clock = if second == 0 {
        format!("{hour:02}:{minute:02}")
    } else {
        format!("{hour:02}:{minute:02}:{second:02}")
    };
    // A time alone has day 0.
    if time.as_f64() < 1.0 {
        return clock;
    }
    let day = format!("{year:04}-{month:02}-{day:02}");
    if time.as_f64().fract() == 0.0 {
        day
    } else {
        format!("{day} {clock}")
    }
}

fn broken(error: &calamine::XlsxError) -> SkipReason {
    match error {
        calamine::XlsxError::Password => SkipReason::Encrypted,
        other => SkipReason::Broken {
            message: other.to_string(),
        },
    }
}
