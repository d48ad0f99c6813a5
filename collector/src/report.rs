//! The coverage report for network planners: one query, one set of tables, several renderings.
//!
//! Constraints
//! 1. It is a function of the catalogue and the query: no clock is read, so the same catalogue gives the same bytes.
//! 2. It reads the catalogue beside the running service, in one read transaction that nobody waits for.
//! 3. Every rendering shows the same rows under the same ids; a test adds up all of them and compares.
//!
//! Path: [`Query`] -> [`source`] (what the catalogue knows of each access point) -> [`tables`] (rows of typed cells) ->
//! `csv`, `xlsx`, `geojson` -> [`files`] (a folder with `report.json` that names query, versions and digests).

pub mod cell;
mod csv;
pub mod figures;
pub mod files;
mod geojson;
pub mod source;
pub mod tables;
pub mod traffic;
mod words;
mod xlsx;

use time::macros::offset;
use time::{Date, UtcOffset};

use crate::divisions::{Division, Divisions};
use crate::inventory::LEVELS;
use crate::store::StoreError;

pub use words::Language;

/// Asia/Shanghai: no daylight saving (AV-18).
const ZONE: UtcOffset = offset!(+8);

/// What a report is about.
#[derive(Debug, Clone)]
pub struct Query {
    /// First day, Asia/Shanghai.
    pub from: Date,
    /// The day after the last one.
    pub to_exclusive: Date,
    /// Everything in it.
    pub division: &'static Division,
    /// Only access points of these levels; empty = all.
    pub levels: Vec<String>,
    /// Level of the units of the overview, a place in [`LEVELS`]; `None` = the one below the division.
    pub unit: Option<usize>,
}

impl Query {
    /// Checks and completes what somebody asked for.
    pub fn new(
        from: Date,
        to_exclusive: Date,
        division: &str,
        levels: Vec<String>,
        unit: Option<&str>,
    ) -> Result<Self, ReportError> {
        if to_exclusive <= from {
            return Err(ReportError::Period { from, to_exclusive });
        }
        let division = Divisions::built_in()
            .get(division)
            .ok_or_else(|| ReportError::Division(division.to_owned()))?;
        let rank = |word: &str| {
            LEVELS
                .iter()
                .position(|level| *level == word)
                .ok_or_else(|| ReportError::Level(word.to_owned()))
        };
        for level in &levels {
            rank(level)?;
        }
        let unit = unit.map(rank).transpose()?;
        if unit.is_some_and(|unit| unit <= division.rank) {
            return Err(ReportError::Unit {
                unit: LEVELS[unit.unwrap_or_default()],
                division: division.name_zh.clone(),
            });
        }
        Ok(Self {
            from,
            to_exclusive,
            division,
            levels,
            unit,
        })
    }

    /// Level of the units of the overview; `None` when nothing lies below the division.
    pub fn unit_rank(&self) -> Option<usize> {
        let below = self.division.rank + 1;
        self.unit.or((below < LEVELS.len()).then_some(below))
    }

    /// Begin and end of the period, ms since 1970.
    pub fn period_ms(&self) -> (i64, i64) {
        let ms = |date: Date| date.midnight().assume_offset(ZONE).unix_timestamp() * 1_000;
        (ms(self.from), ms(self.to_exclusive))
    }
}

/// Why there is no report.
#[derive(Debug, thiserror::Error)]
pub enum ReportError {
    /// The period is empty.
    #[error(
        "the period ends on {to_exclusive}, which is not after {from} (the last day is not part of it)"
    )]
    Period {
        /// First day.
        from: Date,
        /// Day after the last.
        to_exclusive: Date,
    },
    /// Not in the table.
    #[error("no division '{0}' (use a code of the table of divisions, as 5401 or 540121)")]
    Division(String),
    /// No level.
    #[error("unknown level '{0}' (use region, prefecture, county, township, village)")]
    Level(String),
    /// A division has no units of its own level or above.
    #[error("{division} has no units of level {unit} in it")]
    Unit {
        /// The level.
        unit: &'static str,
        /// The division.
        division: String,
    },
    /// The catalogue.
    #[error(transparent)]
    Store(#[from] StoreError),
    /// A file.
    #[error("cannot write {path}")]
    File {
        /// Which.
        path: String,
        /// Why.
        source: std::io::Error,
    },
    /// The spreadsheet.
    #[error("cannot make the spreadsheet")]
    Spreadsheet(#[from] rust_xlsxwriter::XlsxError),
}

#[cfg(test)]
mod tests;
