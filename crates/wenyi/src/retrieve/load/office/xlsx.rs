//! Workbooks: sheet by sheet, row by row, as cells show their values.

use std::io::Cursor;

use calamine::{DataRef, ExcelDateTime, Reader, SheetType, SheetVisible, Xlsx};

use super::package::Package;
use crate::retrieve::load::draft::Draft;
use crate::retrieve::load::places::Unit;
use crate::retrieve::load::table::Table;
use crate::retrieve::load::{SkipReason, guard};

/// Bytes of a row; a cell has at most 32,767 characters.
const MOST_ROW_BYTES: usize = 64 << 20;

/// Columns of a sheet; what lies beyond is not a table that is read.
const MOST_COLUMNS: usize = 1024;

pub(in crate::retrieve::load) fn read(bytes: &[u8]) -> Result<Draft, SkipReason> {
    Package::open(bytes)?.expect_bounded()?;
    guard::against_panics(|| {
        let mut workbook: Xlsx<_> = calamine::open_workbook_from_rs(Cursor::new(bytes))
            .map_err(|error: calamine::XlsxError| broken(&error))?;
        let sheets: Vec<String> = workbook
            .sheets_metadata()
            .iter()
            .filter(|sheet| sheet.typ == SheetType::WorkSheet)
            .filter(|sheet| sheet.visible != SheetVisible::VeryHidden)
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
        Ok(draft)
    })
}

fn read_sheet(
    workbook: &mut Xlsx<Cursor<&[u8]>>,
    sheet: &str,
    draft: &mut Draft,
) -> Result<(), SkipReason> {
    let mut cells = workbook
        .worksheet_cells_reader(sheet)
        .map_err(|error| broken(&error))?;
    let mut table = Table::new(2);
    let (mut number, mut row) = (0_u64, Vec::new());
    let mut row_bytes = 0;
    while let Some(cell) = cells.next_cell().map_err(|error| broken(&error))? {
        let (at, column) = cell.get_position();
        let at = u64::from(at) + 1;
        if at != number {
            write_row(draft, &mut table, sheet, number, &row);
            row.clear();
            row_bytes = 0;
            number = at;
            draft.expect_room()?;
        }
        let column = column as usize;
        if column < MOST_COLUMNS {
            row.resize(row.len().max(column + 1), String::new());
            row[column] = shown(cell.get_value());
            // All cells may share one long text.
            row_bytes += row[column].len();
            if row_bytes > MOST_ROW_BYTES {
                let limit = MOST_ROW_BYTES as u64;
                return Err(SkipReason::TooMuch { limit });
            }
        }
    }
    write_row(draft, &mut table, sheet, number, &row);
    Ok(())
}

fn write_row(draft: &mut Draft, table: &mut Table, sheet: &str, number: u64, row: &[String]) {
    if row.iter().any(|cell| !cell.is_empty()) {
        table.row(draft, row, |draft| {
            draft.place(Unit::Row, number, Some(sheet));
        });
    }
}

fn shown(value: &DataRef<'_>) -> String {
    match value {
        DataRef::Empty => String::new(),
        DataRef::Int(value) => value.to_string(),
        DataRef::Float(value) => number(*value),
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
