//! XLSX: one sheet per table, typed cells, two header rows that stay in sight, filters; the first sheet says what the
//! report is about and how its figures are defined.

use rust_xlsxwriter::{Color, DocProperties, ExcelDateTime, Format, Workbook, Worksheet};
use time::Date;

use super::cell::Cell;
use super::files::About;
use super::tables::{Row, Table};
use super::words::Language;
use super::{ReportError, ZONE};

/// Rows of the header: labels and keys.
const HEADER_ROWS: u32 = 2;
/// 1970-01-01 as a spreadsheet counts days.
const EPOCH_DAYS: f64 = 25_569.0;

struct Formats {
    label: Format,
    key: Format,
    count: Format,
    share: Format,
    decimals: [Format; 7],
    time: Format,
    wrapped: Format,
}

impl Formats {
    fn new() -> Self {
        let number = |format: &str| Format::new().set_num_format(format);
        Self {
            label: Format::new()
                .set_bold()
                .set_background_color(Color::RGB(0x00dd_e6f0)),
            key: Format::new()
                .set_italic()
                .set_font_color(Color::RGB(0x0066_6666)),
            count: number("0"),
            // Four decimals of a per cent: what the figures are rounded to.
            share: number("0.0000%"),
            decimals: std::array::from_fn(|decimals| match decimals {
                0 => number("0"),
                _ => number(&format!("0.{}", "0".repeat(decimals))),
            }),
            time: number("yyyy-mm-dd hh:mm:ss"),
            wrapped: Format::new().set_text_wrap(),
        }
    }
}

/// Renders all tables into one workbook. The same input gives the same bytes: the time of creation is the end of the
/// period.
pub(super) fn render(
    tables: &[Table],
    about: &About,
    language: Language,
    created: Date,
) -> Result<Vec<u8>, ReportError> {
    let formats = Formats::new();
    let mut workbook = Workbook::new();
    let year = u16::try_from(created.year()).unwrap_or(1900);
    let created = ExcelDateTime::from_ymd(year, created.month().into(), created.day())?;
    workbook.set_properties(
        &DocProperties::new()
            .set_title(about.title(language))
            .set_creation_datetime(&created),
    );
    let sheet = workbook.add_worksheet();
    sheet.set_name(About::sheet(language))?;
    cover(sheet, about, language, &formats)?;
    for table in tables {
        let sheet = workbook.add_worksheet();
        sheet.set_name(sheet_name(table))?;
        fill(sheet, table, language, &formats)?;
    }
    Ok(workbook.save_to_buffer()?)
}

/// "T1 总览".
fn sheet_name(table: &Table) -> String {
    let number = table.key.split('_').next().unwrap_or_default();
    format!("{} {}", number.to_uppercase(), table.title)
}

fn cover(
    sheet: &mut Worksheet,
    about: &About,
    language: Language,
    formats: &Formats,
) -> Result<(), ReportError> {
    sheet.write_string_with_format(0, 0, about.title(language), &formats.label)?;
    for (row, (name, value)) in (2..).zip(about.lines(language)) {
        sheet.write_string(row, 0, name)?;
        sheet.write_string_with_format(row, 1, value, &formats.wrapped)?;
    }
    sheet.set_column_width(0, 28)?;
    sheet.set_column_width(1, 100)?;
    Ok(())
}

fn fill(
    sheet: &mut Worksheet,
    table: &Table,
    language: Language,
    formats: &Formats,
) -> Result<(), ReportError> {
    for (at, column) in (0..).zip(&table.columns) {
        sheet.write_string_with_format(0, at, column.label, &formats.label)?;
        sheet.write_string_with_format(1, at, column.key, &formats.key)?;
        sheet.set_column_width(at, width(table, at))?;
    }
    for (at, row) in (HEADER_ROWS..).zip(&table.rows) {
        write_row(sheet, at, row, language, formats)?;
    }
    // The first column names the row.
    sheet.set_freeze_panes(HEADER_ROWS, 1)?;
    let filtered = table.rows.iter().filter(|row| !row.is_total).count();
    let last_row = HEADER_ROWS + u32::try_from(filtered).unwrap_or(u32::MAX) - 1;
    let last_column = u16::try_from(table.columns.len()).unwrap_or(u16::MAX) - 1;
    if filtered > 0 {
        sheet.autofilter(HEADER_ROWS - 1, 0, last_row, last_column)?;
    }
    Ok(())
}

fn write_row(
    sheet: &mut Worksheet,
    at: u32,
    row: &Row,
    language: Language,
    formats: &Formats,
) -> Result<(), ReportError> {
    for (column, cell) in (0..).zip(&row.cells) {
        match (cell, cell.number()) {
            (Cell::Time(ms), _) => {
                let local = ms + i64::from(ZONE.whole_seconds()) * 1_000;
                let days = local as f64 / 86_400_000.0 + EPOCH_DAYS;
                sheet.write_number_with_format(at, column, days, &formats.time)?;
            }
            (Cell::Share(_), Some(number)) => {
                sheet.write_number_with_format(at, column, number, &formats.share)?;
            }
            (Cell::Decimal(_, decimals), Some(number)) => {
                let decimals = usize::from(*decimals).min(formats.decimals.len() - 1);
                let format = &formats.decimals[decimals];
                sheet.write_number_with_format(at, column, number, format)?;
            }
            (_, Some(number)) => {
                sheet.write_number_with_format(at, column, number, &formats.count)?;
            }
            // Written as a string, whatever it begins with: never a formula.
            (cell, None) => {
                sheet.write_string(at, column, cell.to_text(language))?;
            }
        }
    }
    Ok(())
}

/// Wide enough for the label and the first rows.
fn width(table: &Table, column: u16) -> f64 {
    let column = usize::from(column);
    let wide = |text: &str| -> f64 {
        text.chars()
            .map(|c| if c.is_ascii() { 1.0 } else { 2.0 })
            .sum()
    };
    let label = table.columns.get(column).map(|column| wide(column.label));
    let cells = table.rows.iter().take(50).filter_map(|row| {
        let cell = row.cells.get(column)?;
        Some(match cell {
            Cell::Time(_) => 19.0,
            Cell::Share(_) => 10.0,
            cell => wide(&cell.to_text(Language::Zh)),
        })
    });
    let widest = label.into_iter().chain(cells).fold(6.0, f64::max);
    (widest + 2.0).min(48.0)
}
