//! Reports over a generated inventory whose states are written by the test: what must add up, in every rendering.

use std::collections::BTreeMap;
use std::path::Path;
use std::sync::OnceLock;

use calamine::{Data, Reader, Xlsx};
use time::macros::date;

use super::cell::Cell;
use super::files::{About, CsvOptions, Headers, Output, Rendering, write};
use super::source::{self, Facts};
use super::tables::{self, Table};
use super::{Language, Query};
use crate::inventory::generate::{MediaShares, Profile, Wish, generate};
use crate::store::catalogue::Pool;

/// 2026-11-01T00:00+08:00 in slots of 60 s.
const BEGIN: i64 = 1_793_462_400 / 60;
/// Slots of the thirty days.
const MONTH: i64 = 43_200;

/// A catalogue with a whole province: a state for most access points, written by rule.
struct Province {
    folder: tempfile::TempDir,
}

impl Province {
    fn new(profile: Profile) -> Self {
        /// Making one takes a while; each test gets a copy.
        static MADE: [OnceLock<Vec<u8>>; 2] = [OnceLock::new(), OnceLock::new()];
        let made = MADE[usize::from(profile == Profile::B)].get_or_init(|| Self::make(profile));
        let folder = tempfile::tempdir().unwrap();
        std::fs::write(folder.path().join("catalogue.sqlite"), made).unwrap();
        Self { folder }
    }

    fn make(profile: Profile) -> Vec<u8> {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("catalogue.sqlite");
        let pool = Pool::open(&path).unwrap();
        let made = generate(&Wish {
            profile,
            seed: 1,
            media: MediaShares::default(),
        })
        .unwrap();
        let mut connection = pool.get().unwrap();
        let transaction = connection.transaction().unwrap();
        let change = extranet_proto::wire::InventoryChanged {
            actor: "test".to_owned(),
            access_points: made.access_points.clone(),
            targets: made.targets,
            villages: made.villages,
        };
        crate::inventory::store(&transaction, 1, &change).unwrap();
        transaction
            .execute(
                "INSERT INTO state_progress VALUES (1, 60000, ?1, 0, 0)",
                [BEGIN + MONTH + 100],
            )
            .unwrap();
        let mut insert = transaction
            .prepare("INSERT INTO state_intervals VALUES (?1, ?2, ?3, NULL, ?4)")
            .unwrap();
        // Up since long before; every third one has an outage of its own length, every fifth a gap, every seventh was
        // never seen; one in eleven is not known for most of the month.
        for (place, row) in (0_i64..).zip(&made.access_points) {
            if place % 7 == 6 {
                continue;
            }
            let mut put = |from: i64, state: u8, cause: u8| {
                insert
                    .execute(rusqlite::params![row.ap_id, from, state, cause])
                    .unwrap();
            };
            put(BEGIN - 5_000, 1, 0);
            if place % 3 == 1 {
                put(BEGIN + 1_000 + place, 0, 1);
                put(BEGIN + 1_060 + 2 * place, 1, 0);
            }
            if place % 5 == 2 {
                put(BEGIN + 30_000, 2, 0);
                put(BEGIN + 30_300, 1, 0);
            }
            if place % 11 == 9 {
                put(BEGIN + 31_000, 2, 0);
            }
        }
        drop(insert);
        transaction.commit().unwrap();
        connection
            .query_row("PRAGMA wal_checkpoint(TRUNCATE)", [], |_| Ok(()))
            .unwrap();
        std::fs::read(path).unwrap()
    }

    fn facts(&self, query: &Query) -> Facts {
        source::read(self.folder.path(), query).unwrap()
    }

    fn sql(&self, text: &str) {
        let pool = Pool::open(&self.folder.path().join("catalogue.sqlite")).unwrap();
        pool.get().unwrap().execute_batch(text).unwrap();
    }
}

fn november(division: &str) -> Query {
    query(division, &[], None)
}

fn query(division: &str, levels: &[&str], unit: Option<&str>) -> Query {
    let levels = levels.iter().map(ToString::to_string).collect();
    Query::new(
        date!(2026 - 11 - 01),
        date!(2026 - 12 - 01),
        division,
        levels,
        unit,
    )
    .unwrap()
}

fn table<'a>(tables: &'a [Table], key: &str) -> &'a Table {
    tables.iter().find(|table| table.key == key).unwrap()
}

fn count(table: &Table, id: &str, column: &str) -> u64 {
    match table.cell(id, column) {
        Some(Cell::Count(number)) => *number,
        other => panic!("{id} {column}: {other:?}"),
    }
}

#[test]
fn rep_21_holds_for_both_profiles() {
    for profile in [Profile::A, Profile::B] {
        let province = Province::new(profile);
        let query = november("540000");
        let tables = tables::build(&province.facts(&query), &query, Language::Zh);
        let levels = table(&tables, "t2_levels");
        for (level, expected) in crate::inventory::LEVELS.iter().zip(profile.totals()) {
            assert_eq!(
                count(levels, level, "ap_total"),
                expected as u64,
                "{profile:?} {level}"
            );
        }
        assert_eq!(count(levels, "all", "ap_total"), 6_918);
        assert_eq!(
            count(table(&tables, "t1_overview"), "540000", "ap_total"),
            6_918
        );
        let stations = table(&tables, "t13_stations");
        assert_eq!(count(stations, "540000", "stations_total"), 3_000);
        assert_eq!(count(stations, "540000", "villages_total"), 5_259);
        let coverage = stations.cell("540000", "station_coverage").unwrap();
        assert_eq!(coverage.to_text(Language::En), "0.570451");
        // The denominators are the register's, not the table's.
        assert_eq!(count(levels, "village", "units_total"), 5_259);
        assert_eq!(
            count(levels, "village", "units_covered"),
            profile.totals()[4] as u64
        );
        assert_eq!(count(levels, "township", "units_covered"), 701);
    }
}

#[test]
fn units_add_up_to_the_total_and_the_total_to_the_details() {
    let province = Province::new(Profile::A);
    let query = november("540000");
    let tables = tables::build(&province.facts(&query), &query, Language::Zh);
    let details = table(&tables, "t5_access_points");
    let sum = |table: &Table, column: &str| -> u64 {
        let at = table
            .columns
            .iter()
            .position(|known| known.key == column)
            .unwrap();
        let rows = table.rows.iter().filter(|row| !row.is_total);
        rows.map(|row| match row.cells[at] {
            Cell::Count(number) => number,
            _ => 0,
        })
        .sum()
    };
    assert_eq!(details.rows.len(), 6_918);
    for key in ["t1_overview", "t3_prefectures", "t4_counties"] {
        let units = table(&tables, key);
        for column in ["ap_total", "ap_in_service", "ap_monitored", "open_critical"] {
            assert_eq!(
                sum(units, column),
                count(units, "540000", column),
                "{key} {column}"
            );
        }
    }
    let prefectures = table(&tables, "t3_prefectures");
    assert_eq!(sum(prefectures, "outages"), sum(details, "outages"));
    assert_eq!(
        count(prefectures, "540000", "outages"),
        sum(details, "outages")
    );
    assert_eq!(count(prefectures, "540000", "border_counties"), 21);
    assert_eq!(sum(prefectures, "villages_total"), 5_259);
    assert_eq!(table(&tables, "t4_counties").rows.len(), 74 + 1 + 1);
    // Every row knows itself by an id of its own.
    for table in &tables {
        let ids: std::collections::HashSet<_> = table.rows.iter().map(|row| &row.id).collect();
        assert_eq!(ids.len(), table.rows.len(), "{}", table.key);
    }
}

#[test]
fn figures_of_one_access_point_follow_from_its_states() {
    let province = Province::new(Profile::A);
    // Down over the beginning of the period, then the example of AV-16 without maintenance.
    province.sql(&format!(
        "DELETE FROM state_intervals WHERE ap_id = 'centre';
         INSERT INTO state_intervals VALUES ('centre', {}, 0, 0, 2), ('centre', {}, 1, 1, 0), ('centre', {}, 2, 1, 0),
         ('centre', {}, 1, 1, 0), ('centre', {}, 0, 0, 1), ('centre', {}, 0, 0, 4), ('centre', {}, 1, 1, 0);
         INSERT INTO alerts (name, ap_id, severity, cause, starts_ms, opened_us)
         VALUES ('AccessPointDown', 'centre', 'critical', 1, {}, 0), ('Late', 'centre', 'critical', 1, {}, 0);
         INSERT INTO agents (agent_id, ap_id, enrolled_us, last_result_ms) VALUES ('a', 'centre', 0, {});
         INSERT INTO ipv6_known VALUES ('centre', 5, 2, 2, 4000, 1), ('centre', 6, 3, 4, 7250, 1), ('centre', {}000, 5, 5, 9000, 1);
         INSERT INTO ipv6_changes VALUES ('centre', 1793462400000, 2, 3, '');",
        BEGIN - 100,
        BEGIN + 10,
        BEGIN + 500,
        BEGIN + 800,
        BEGIN + 20_000,
        BEGIN + 20_020,
        BEGIN + 20_050,
        (BEGIN + 40_000) * 60_000,
        (BEGIN + MONTH) * 60_000,
        (BEGIN + MONTH + 5) * 60_000,
        (BEGIN + MONTH) * 60_000,
    ));
    let query = november("540000");
    let tables = tables::build(&province.facts(&query), &query, Language::Zh);
    let details = table(&tables, "t5_access_points");
    for (column, text) in [
        ("availability", "0.998601"),
        ("coverage", "0.993056"),
        ("up_min", "42840"),
        ("down_min", "60"),
        ("unknown_min", "300"),
        ("outages", "2"),
        ("longest_outage_min", "50"),
        // Of 60 minutes 30 are silence, 20 link, 10 device.
        ("main_cause", "失联"),
        ("state", "正常"),
        ("open_critical", "1"),
        // Not later than the period.
        ("last_seen", "2026-12-01T00:00:00+08:00"),
        ("ipv6_level", "L3"),
        ("ipv6_score", "72.5"),
        ("ipv6_since", "2026-11-01T00:00:00+08:00"),
        ("division_code12", "540000000000"),
        ("prefecture", "—"),
        ("contract_mbps", "1000"),
        ("level", "自治区"),
    ] {
        let cell = details.cell("centre", column).unwrap();
        assert_eq!(cell.to_text(Language::Zh), text, "{column}");
    }
}

#[test]
fn divisions_levels_and_units_narrow_the_report() {
    let province = Province::new(Profile::A);
    let built = |query: &Query| tables::build(&province.facts(query), query, Language::En);
    let lhasa = built(&november("5401"));
    assert!(lhasa.iter().all(|table| table.key != "t3_prefectures"));
    let overview = table(&lhasa, "t1_overview");
    assert_eq!(
        overview.rows.len(),
        8 + 1 + 1,
        "eight counties, the city itself, the total"
    );
    assert_eq!(count(overview, "540100-own", "ap_total"), 66);
    let whole = built(&november("540000"));
    assert_eq!(
        overview.cell("540100", "availability"),
        table(&whole, "t3_prefectures").cell("540100", "availability"),
        "the same figure by either way"
    );
    let villages = built(&query("540000", &["village"], Some("county")));
    let overview = table(&villages, "t1_overview");
    assert_eq!(overview.rows.len(), 74 + 1);
    assert_eq!(count(overview, "540000", "ap_total"), 2_120);
    assert_eq!(table(&villages, "t2_levels").rows.len(), 1 + 1);
    let village = built(&november("540121201201"));
    assert_eq!(table(&village, "t1_overview").rows.len(), 1);
}

#[test]
fn insufficient_data_not_applicable_and_zero_differ() {
    let province = Province::new(Profile::A);
    let query = november("540000");
    let tables = tables::build(&province.facts(&query), &query, Language::Zh);
    let details = table(&tables, "t5_access_points");
    let text = |place: usize, column: &str| {
        let cell = details.cell(&id_of(place), column).unwrap();
        cell.to_text(Language::Zh)
    };
    assert_eq!(text(0, "down_min"), "0");
    assert_eq!(text(6, "down_min"), "—", "never seen");
    assert_eq!(text(6, "availability"), "—");
    assert_eq!(text(9, "availability"), "数据不足 [0.717593, 1.000000]");
    let quality = table(&tables, "t14_quality");
    assert_eq!(count(quality, "ap_never_seen", "number"), 988);
    assert!(count(quality, "ap_insufficient", "number") > 400);
}

/// Id of the n-th access point as generated.
fn id_of(place: usize) -> String {
    let made = generate(&Wish {
        profile: Profile::A,
        seed: 1,
        media: MediaShares::default(),
    })
    .unwrap();
    made.access_points[place].ap_id.clone()
}

#[test]
fn a_past_report_uses_the_inventory_of_its_time() {
    let province = Province::new(Profile::A);
    province.sql(&format!(
        "UPDATE access_points SET valid_to_us = {0} WHERE ap_id = 'centre' AND valid_to_us IS NULL;
         INSERT INTO access_points (ap_id, valid_from_us, name, level, parent, medium, monitoring, division_code)
         VALUES ('centre', {0}, 'moved', 'region', '', 'fibre', 'agent', '540000'),
                ('later', {0}, 'later', 'region', '', 'fibre', 'agent', '540000');",
        (BEGIN + MONTH) * 60_000_000
    ));
    let query = november("540000");
    let facts = province.facts(&query);
    assert_eq!(facts.sites.len(), 6_918);
    assert!(facts.sites.iter().all(|site| site.row.name != "moved"));
}

/// Sums of all numbers of a table by column, total rows left out.
type Sums = BTreeMap<String, (usize, i64)>;

fn add(sums: &mut Sums, key: &str, number: f64) {
    let entry = sums.entry(key.to_owned()).or_default();
    entry.0 += 1;
    #[expect(
        clippy::cast_possible_truncation,
        reason = "millionths of small numbers"
    )]
    let millionths = (number * 1e6).round() as i64;
    entry.1 += millionths;
}

fn model_sums(table: &Table) -> (usize, Sums) {
    let mut sums = Sums::new();
    for row in &table.rows {
        for (column, cell) in table.columns.iter().zip(&row.cells) {
            if let Some(number) = cell.number() {
                add(&mut sums, column.key, number);
            }
        }
    }
    (table.rows.len(), sums)
}

/// Texts that look like numbers, such as codes, are no numbers: the columns of the model decide.
fn csv_sums(path: &Path, meant: &Sums) -> (usize, Sums) {
    let mut reader = csv::Reader::from_path(path).unwrap();
    let header: Vec<String> = reader
        .headers()
        .unwrap()
        .iter()
        .map(str::to_owned)
        .collect();
    let (mut rows, mut sums) = (0, Sums::new());
    for record in reader.records() {
        rows += 1;
        for (key, field) in header.iter().zip(record.unwrap().iter()) {
            if meant.contains_key(key)
                && let Ok(number) = field.parse()
            {
                add(&mut sums, key, number);
            }
        }
    }
    (rows, sums)
}

fn geojson_sums(path: &Path) -> (usize, Sums) {
    let file: serde_json::Value = serde_json::from_slice(&std::fs::read(path).unwrap()).unwrap();
    assert_eq!(file["type"], "FeatureCollection");
    let features = file["features"].as_array().unwrap();
    let mut sums = Sums::new();
    for feature in features {
        assert_eq!(feature["type"], "Feature");
        if let Some(place) = feature["geometry"]["coordinates"].as_array() {
            let (lon, lat) = (place[0].as_f64().unwrap(), place[1].as_f64().unwrap());
            assert!(
                (78.0..100.0).contains(&lon) && (26.0..37.0).contains(&lat),
                "longitude first"
            );
        }
        for (key, value) in feature["properties"].as_object().unwrap() {
            if let Some(number) = value.as_f64() {
                add(&mut sums, key, number);
            }
        }
    }
    (features.len(), sums)
}

fn xlsx_sums(path: &Path, table: &Table) -> (usize, Sums) {
    let mut book: Xlsx<_> = calamine::open_workbook(path).unwrap();
    let number = table.key.split('_').next().unwrap().to_uppercase();
    let name = format!("{number} {}", table.title);
    let range = book.worksheet_range(&name).unwrap();
    let mut rows = range.rows();
    let labels = rows.next().unwrap();
    let keys: Vec<String> = rows
        .next()
        .unwrap()
        .iter()
        .map(ToString::to_string)
        .collect();
    let expected: Vec<&str> = table.columns.iter().map(|column| column.key).collect();
    assert_eq!(
        keys, expected,
        "row ids and columns are the same in every rendering"
    );
    assert_eq!(labels[0].to_string(), table.columns[0].label);
    let (mut found, mut sums) = (0, Sums::new());
    for row in rows {
        found += 1;
        for (key, cell) in keys.iter().zip(row) {
            if let Data::Float(number) = cell {
                add(&mut sums, key, *number);
            }
        }
    }
    (found, sums)
}

#[test]
fn all_renderings_hold_the_same_rows_and_add_up_to_the_same() {
    let province = Province::new(Profile::A);
    let query = november("540000");
    let facts = province.facts(&query);
    let output = Output::default();
    let tables = tables::build(&facts, &query, output.language);
    let folder = tempfile::tempdir().unwrap();
    write(
        &tables,
        &About::new(&facts, &query),
        &query,
        &output,
        folder.path(),
    )
    .unwrap();
    let mut compared = 0;
    for table in &tables {
        let model = model_sums(table);
        let path = |end: &str| folder.path().join(format!("{}.{end}", table.key));
        assert_eq!(
            csv_sums(&path("csv"), &model.1),
            model,
            "CSV of {}",
            table.key
        );
        assert_eq!(
            xlsx_sums(&folder.path().join("report.xlsx"), table),
            model,
            "XLSX of {}",
            table.key
        );
        if table.has_places {
            assert_eq!(
                geojson_sums(&path("geojson")),
                model,
                "GeoJSON of {}",
                table.key
            );
            compared += 1;
        }
    }
    assert_eq!(
        compared, 4,
        "overview, prefectures, counties, access points"
    );
}

#[test]
fn the_same_catalogue_gives_the_same_bytes() {
    let province = Province::new(Profile::B);
    let query = november("540000");
    let folders = [tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap()];
    let names = folders.each_ref().map(|folder| {
        let facts = province.facts(&query);
        let output = Output {
            language: Language::En,
            csv: CsvOptions {
                bom: true,
                headers: Headers::Both,
            },
            ..Output::default()
        };
        let tables = tables::build(&facts, &query, output.language);
        write(
            &tables,
            &About::new(&facts, &query),
            &query,
            &output,
            folder.path(),
        )
        .unwrap()
    });
    assert_eq!(names[0], names[1]);
    assert!(names[0].len() > 10);
    for name in &names[0] {
        let bytes = folders
            .each_ref()
            .map(|folder| std::fs::read(folder.path().join(name)).unwrap());
        assert!(bytes[0] == bytes[1], "{name} differs");
    }
}

#[test]
fn only_what_was_asked_for_is_written() {
    let province = Province::new(Profile::A);
    let query = november("540121");
    let facts = province.facts(&query);
    let output = Output {
        renderings: vec![Rendering::Csv],
        ..Output::default()
    };
    let folder = tempfile::tempdir().unwrap();
    let tables = tables::build(&facts, &query, output.language);
    let names = write(
        &tables,
        &About::new(&facts, &query),
        &query,
        &output,
        folder.path(),
    )
    .unwrap();
    assert!(
        names
            .iter()
            .all(|name| name.contains(".csv") || name == "report.json")
    );
    let manifest = std::fs::read(folder.path().join("report.json")).unwrap();
    let manifest: serde_json::Value = serde_json::from_slice(&manifest).unwrap();
    assert_eq!(manifest["about"]["division_name"], "林周县");
    assert_eq!(manifest["files"].as_array().unwrap().len(), names.len() - 1);
}

#[test]
fn questions_that_make_no_sense_are_refused() {
    let (from, to) = (date!(2026 - 11 - 01), date!(2026 - 12 - 01));
    let asked = |from, to, division: &str, unit| {
        Query::new(from, to, division, Vec::new(), unit)
            .unwrap_err()
            .to_string()
    };
    assert!(asked(to, from, "540000", None).contains("not after"));
    assert!(asked(from, to, "110000", None).contains("no division '110000'"));
    assert!(asked(from, to, "540121", Some("prefecture")).contains("no units of level prefecture"));
    let folder = tempfile::tempdir().unwrap();
    let query = november("540000");
    let missing = source::read(folder.path(), &query).unwrap_err();
    assert!(
        missing.to_string().contains("opening the database"),
        "{missing}"
    );
    let path = folder.path().join("catalogue.sqlite");
    drop(Pool::open(&path).unwrap());
    for (version, word) in [(1, "start its service once"), (99, "newer release")] {
        let connection = rusqlite::Connection::open(&path).unwrap();
        connection
            .pragma_update(None, "user_version", version)
            .unwrap();
        drop(connection);
        let error = source::read(folder.path(), &query).unwrap_err().to_string();
        assert!(error.contains(word), "{error}");
    }
}
