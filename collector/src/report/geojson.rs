//! GeoJSON (RFC 7946): one feature per row, longitude first, at most six decimals. Rows without a place have a null
//! geometry (section 3.2), so that the features of a file are exactly the rows of the table.

use std::io::Write;

use serde_json::{Map, Value, json};

use super::cell::Cell;
use super::tables::{Row, Table};
use super::words::Language;

/// Renders a table that has places.
pub(super) fn render(table: &Table, language: Language) -> Vec<u8> {
    let mut bytes = Vec::new();
    let written = write(table, language, &mut bytes);
    written.expect("a vector takes everything");
    bytes
}

/// One feature a line: a file of thousands stays readable, and differences show.
fn write(table: &Table, language: Language, out: &mut Vec<u8>) -> std::io::Result<()> {
    let name = Value::from(table.key);
    write!(
        out,
        "{{\"type\":\"FeatureCollection\",\"name\":{name},\"features\":["
    )?;
    let features = table.rows.iter().map(|row| feature(table, row, language));
    for (place, feature) in features.enumerate() {
        write!(out, "{}\n{feature}", if place > 0 { "," } else { "" })?;
    }
    writeln!(out, "\n]}}")
}

fn feature(table: &Table, row: &Row, language: Language) -> Value {
    let geometry = row.place.map_or(Value::Null, |(lon, lat)| {
        let degrees = |e6: i32| f64::from(e6) / 1e6;
        json!({ "type": "Point", "coordinates": [degrees(lon), degrees(lat)] })
    });
    let mut properties = Map::new();
    let mut insufficient = Vec::new();
    for (column, cell) in table.columns.iter().zip(&row.cells) {
        let value = match cell {
            Cell::NotApplicable => Value::Null,
            Cell::Insufficient { .. } => {
                insufficient.push(Value::from(column.key));
                Value::Null
            }
            Cell::Count(number) => Value::from(*number),
            // Whole numbers stay whole: 43080, not 43080.0.
            Cell::Decimal(number, 0) => Value::from(*number),
            cell => cell
                .number()
                .map_or_else(|| Value::from(cell.to_text(language)), Value::from),
        };
        properties.insert(column.key.to_owned(), value);
    }
    if !insufficient.is_empty() {
        // Bounds stand under availability_low and availability_high.
        properties.insert("insufficient_data".to_owned(), Value::Array(insufficient));
    }
    if row.is_total {
        properties.insert("is_total".to_owned(), Value::Bool(true));
    }
    json!({ "type": "Feature", "id": row.id, "geometry": geometry, "properties": properties })
}
