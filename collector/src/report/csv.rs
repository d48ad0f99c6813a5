//! CSV (RFC 4180): UTF-8, CRLF, numbers unformatted, texts that a spreadsheet would take for a formula made harmless.

use super::cell::Cell;
use super::tables::Table;
use super::words::Language;

/// First rows of a file.
#[derive(Debug, Clone, Copy, PartialEq, Eq, clap::ValueEnum)]
pub enum Headers {
    /// Keys only: the same in every language
    Key,
    /// Labels only
    Label,
    /// Labels, and keys in the second row
    Both,
}

/// How files look.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct CsvOptions {
    /// Begin with a byte order mark: older spreadsheets take the file for another encoding without.
    pub bom: bool,
    /// First rows.
    pub headers: Headers,
}

/// Renders a table.
pub(super) fn render(table: &Table, language: Language, options: CsvOptions) -> Vec<u8> {
    let mut bytes = Vec::new();
    if options.bom {
        bytes.extend_from_slice("\u{feff}".as_bytes());
    }
    let mut writer = csv::WriterBuilder::new()
        .terminator(csv::Terminator::CRLF)
        .from_writer(bytes);
    let mut record = |fields: &mut dyn Iterator<Item = String>| {
        writer
            .write_record(fields)
            .expect("a vector takes everything, and all rows are as long as the header");
    };
    if options.headers != Headers::Key {
        record(&mut table.columns.iter().map(|column| column.label.to_owned()));
    }
    if options.headers != Headers::Label {
        record(&mut table.columns.iter().map(|column| column.key.to_owned()));
    }
    for row in &table.rows {
        record(&mut row.cells.iter().map(|cell| field(cell, language)));
    }
    writer.into_inner().expect("a vector takes everything")
}

/// An apostrophe in front says "text" to spreadsheets (REP-06). Tab and carriage return count too: some skip them.
fn field(cell: &Cell, language: Language) -> String {
    let text = cell.to_text(language);
    if cell.is_foreign() && text.starts_with(['=', '+', '-', '@', '\t', '\r']) {
        return format!("'{text}");
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::report::tables::{Column, Row};

    fn table() -> Table {
        let cells = vec![
            Cell::Text("=HYPERLINK(\"http://x\")".to_owned()),
            Cell::Decimal(-5, 1),
            Cell::Text("a, \"b\"\n二".to_owned()),
        ];
        let column = |key, label| Column { key, label };
        Table {
            key: "t",
            title: "表",
            columns: vec![column("a", "甲"), column("b", "乙"), column("c", "丙")],
            rows: vec![Row {
                id: "1".to_owned(),
                cells,
                place: None,
                is_total: false,
            }],
            has_places: false,
        }
    }

    fn text(bom: bool, headers: Headers) -> String {
        let options = CsvOptions { bom, headers };
        String::from_utf8(render(&table(), Language::Zh, options)).unwrap()
    }

    #[test]
    fn fields_are_quoted_and_formulas_made_harmless() {
        assert_eq!(
            text(false, Headers::Key),
            "a,b,c\r\n\"'=HYPERLINK(\"\"http://x\"\")\",-0.5,\"a, \"\"b\"\"\n二\"\r\n"
        );
    }

    #[test]
    fn headers_and_mark_are_optional() {
        assert!(text(true, Headers::Both).starts_with("\u{feff}甲,乙,丙\r\na,b,c\r\n"));
        assert!(text(false, Headers::Label).starts_with("甲,乙,丙\r\n\""));
    }

    #[test]
    fn every_dangerous_beginning_is_neutralised() {
        for begin in ["=1", "+1", "-1", "@x", "\tx", "\rx"] {
            let shown = field(&Cell::Text(begin.to_owned()), Language::Zh);
            assert_eq!(shown, format!("'{begin}"));
        }
        assert_eq!(field(&Cell::Text("1=1".to_owned()), Language::Zh), "1=1");
    }
}
