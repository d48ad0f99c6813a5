//! A report as a folder: a workbook, a CSV and a GeoJSON file per table, and `report.json` that says what they are.

use std::fmt::Write as _;
use std::path::Path;

use ring::digest::{SHA256, digest};
use serde::Serialize;

use super::source::Facts;
use super::tables::Table;
use super::words::{FORMULAS, Language};
use super::{Query, ReportError, cell, csv, geojson, xlsx};
use crate::divisions::Divisions;

pub use super::csv::{CsvOptions, Headers};

/// A rendering.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, clap::ValueEnum)]
pub enum Rendering {
    /// report.xlsx
    Xlsx,
    /// One file per table
    Csv,
    /// One file per table whose rows have places
    Geojson,
}

/// What to write.
#[derive(Debug, Clone)]
pub struct Output {
    /// Which renderings.
    pub renderings: Vec<Rendering>,
    /// Of labels and words.
    pub language: Language,
    /// How CSV files look.
    pub csv: CsvOptions,
}

impl Default for Output {
    fn default() -> Self {
        Self {
            renderings: vec![Rendering::Xlsx, Rendering::Csv, Rendering::Geojson],
            language: Language::Zh,
            csv: CsvOptions {
                bom: false,
                headers: Headers::Key,
            },
        }
    }
}

/// What a report is about, for people and for `report.json`: everything that its numbers depend on (REP-05).
#[derive(Debug, Serialize)]
pub struct About {
    from: String,
    to_exclusive: String,
    time_zone: &'static str,
    division_code: String,
    division_name: String,
    levels: Vec<String>,
    /// Slots were judged until then.
    judged_until: String,
    slot_seconds: i64,
    access_points: usize,
    /// Of the rows of the inventory that the report is about.
    inventory_sha256: String,
    divisions_sha256: &'static str,
    villages_in_register: usize,
    collector_version: &'static str,
}

#[derive(Serialize)]
struct Manifest<'a> {
    about: &'a About,
    formulas: Vec<Formula>,
    files: Vec<FileEntry>,
}

#[derive(Serialize)]
struct Formula {
    key: &'static str,
    zh: &'static str,
    en: &'static str,
}

#[derive(Serialize)]
struct FileEntry {
    name: String,
    bytes: usize,
    #[serde(skip_serializing_if = "Option::is_none")]
    rows: Option<usize>,
    sha256: String,
}

impl About {
    /// Puts it together.
    #[expect(clippy::missing_panics_doc, reason = "a vector grows as needed")]
    pub fn new(facts: &Facts, query: &Query) -> Self {
        let mut rows = Vec::new();
        for site in &facts.sites {
            prost::Message::encode_length_delimited(&site.row, &mut rows)
                .expect("a vector grows as needed");
        }
        Self {
            from: query.from.to_string(),
            to_exclusive: query.to_exclusive.to_string(),
            time_zone: "Asia/Shanghai",
            division_code: query.division.code.clone(),
            division_name: query.division.name_zh.clone(),
            levels: query.levels.clone(),
            judged_until: cell::time(facts.judged_until_ms),
            slot_seconds: facts.slot_ms / 1_000,
            access_points: facts.sites.len(),
            inventory_sha256: sha256(&rows),
            divisions_sha256: Divisions::built_in().sha256(),
            villages_in_register: facts.register.len(),
            collector_version: env!("CARGO_PKG_VERSION"),
        }
    }

    pub(super) fn title(&self, language: Language) -> String {
        let (from, to) = (&self.from, &self.to_exclusive);
        let name = &self.division_name;
        match language {
            Language::Zh => format!("{name}电子政务外网覆盖与保通报告 {from} 至 {to} (不含)"),
            Language::En => {
                format!("Extranet coverage and availability, {name}, {from} to {to} (exclusive)")
            }
        }
    }

    pub(super) fn sheet(language: Language) -> &'static str {
        match language {
            Language::Zh => "说明",
            Language::En => "About",
        }
    }

    /// Names and values for the first sheet.
    pub(super) fn lines(&self, language: Language) -> Vec<(&'static str, String)> {
        let zh = language == Language::Zh;
        let pick =
            |chinese: &'static str, english: &'static str| if zh { chinese } else { english };
        let mut lines = vec![
            (pick("起始日期", "From"), self.from.clone()),
            (
                pick("截止日期(不含)", "To (exclusive)"),
                self.to_exclusive.clone(),
            ),
            (pick("时区", "Time zone"), self.time_zone.to_owned()),
            (
                pick("行政区划代码", "Division code"),
                self.division_code.clone(),
            ),
            (pick("名称", "Division"), self.division_name.clone()),
            (
                pick("层级筛选", "Levels"),
                if self.levels.is_empty() {
                    pick("全部", "all").to_owned()
                } else {
                    self.levels.join(", ")
                },
            ),
            (pick("判定截至", "Judged until"), self.judged_until.clone()),
            (pick("时隙(秒)", "Slot (s)"), self.slot_seconds.to_string()),
            (
                pick("接入点位数", "Access points"),
                self.access_points.to_string(),
            ),
            (
                pick("点位清单版本", "Inventory SHA-256"),
                self.inventory_sha256.clone(),
            ),
            (
                pick("区划表版本", "Division table SHA-256"),
                self.divisions_sha256.to_owned(),
            ),
            (
                pick("行政村台账行数", "Villages in the register"),
                self.villages_in_register.to_string(),
            ),
            (
                pick("软件版本", "Software version"),
                self.collector_version.to_owned(),
            ),
        ];
        lines.extend(
            FORMULAS
                .iter()
                .map(|(_, word)| (pick("公式", "Formula"), word.text(language).to_owned())),
        );
        lines
    }
}

/// Writes everything into a folder that exists and says which files it wrote.
#[expect(
    clippy::missing_panics_doc,
    reason = "texts and numbers always become JSON"
)]
pub fn write(
    tables: &[Table],
    about: &About,
    query: &Query,
    output: &Output,
    folder: &Path,
) -> Result<Vec<String>, ReportError> {
    let mut files = Vec::new();
    let mut put = |name: String, rows: Option<usize>, bytes: &[u8]| -> Result<(), ReportError> {
        save(folder, &name, bytes)?;
        files.push(FileEntry {
            name,
            bytes: bytes.len(),
            rows,
            sha256: sha256(bytes),
        });
        Ok(())
    };
    let wanted = |rendering| output.renderings.contains(&rendering);
    for table in tables {
        let rows = Some(table.rows.len());
        if wanted(Rendering::Csv) {
            let bytes = csv::render(table, output.language, output.csv);
            put(format!("{}.csv", table.key), rows, &bytes)?;
        }
        if wanted(Rendering::Geojson) && table.has_places {
            let bytes = geojson::render(table, output.language);
            put(format!("{}.geojson", table.key), rows, &bytes)?;
        }
    }
    if wanted(Rendering::Xlsx) {
        let bytes = xlsx::render(tables, about, output.language, query.to_exclusive)?;
        put("report.xlsx".to_owned(), None, &bytes)?;
    }
    let manifest = Manifest {
        about,
        formulas: FORMULAS
            .iter()
            .map(|(key, word)| Formula {
                key,
                zh: word.text(Language::Zh),
                en: word.text(Language::En),
            })
            .collect(),
        files,
    };
    let mut json = serde_json::to_vec_pretty(&manifest).expect("texts and numbers only");
    json.push(b'\n');
    save(folder, MANIFEST, &json)?;
    let names = manifest.files.into_iter().map(|file| file.name);
    Ok(names.chain([MANIFEST.to_owned()]).collect())
}

/// Name of the file that describes the others.
const MANIFEST: &str = "report.json";

fn save(folder: &Path, name: &str, bytes: &[u8]) -> Result<(), ReportError> {
    let path = folder.join(name);
    std::fs::write(&path, bytes).map_err(|source| ReportError::File {
        path: path.display().to_string(),
        source,
    })
}

fn sha256(bytes: &[u8]) -> String {
    let mut text = String::new();
    for byte in digest(&SHA256, bytes).as_ref() {
        write!(text, "{byte:02x}").expect("writing into a string cannot fail");
    }
    text
}
