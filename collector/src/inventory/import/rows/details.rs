//! Columns that planners need: numbers, degrees, prefixes, dates.

use std::fmt::Display;
use std::str::FromStr;

use time::Date;
use time::macros::format_description;

use super::super::{Checker, shown};
use super::Row;
use crate::divisions::Divisions;

/// Most uplinks of one access point (guess: two carriers and a satellite are the most that exist).
const UPLINKS: u32 = 16;
/// Largest contracted bandwidth, kbit/s: a terabit.
const CONTRACT_KBPS: u64 = 1_000_000_000;

/// A prefix in its canonical form.
pub(super) trait Prefix: FromStr + Display + PartialEq {
    /// The same prefix with zeros behind its length.
    fn truncated(&self) -> Self;
}

impl Prefix for ipnet::Ipv4Net {
    fn truncated(&self) -> Self {
        self.trunc()
    }
}

impl Prefix for ipnet::Ipv6Net {
    fn truncated(&self) -> Self {
        self.trunc()
    }
}

pub(super) fn uplinks(row: &Row<'_>, checker: &mut Checker<'_>) -> u32 {
    let parse = |text: &str| text.parse().ok().filter(|number| *number <= UPLINKS);
    let rule = format!("is not a number of uplinks (use 0 to {UPLINKS}, or nothing)");
    optional(row, "uplinks", checker, parse, &rule).unwrap_or_default()
}

pub(super) fn contract_kbps(row: &Row<'_>, checker: &mut Checker<'_>) -> u64 {
    let parse = |text: &str| {
        let kbps = decimal(text, 3)?;
        u64::try_from(kbps)
            .ok()
            .filter(|kbps| *kbps <= CONTRACT_KBPS)
    };
    let rule = "is not a bandwidth (use Mbit/s with at most three decimals, or nothing)";
    optional(row, "contract_mbps", checker, parse, rule).unwrap_or_default()
}

/// Degrees times 10^6; `most` is the largest value.
pub(super) fn degrees(
    row: &Row<'_>,
    column: &str,
    most: i64,
    checker: &mut Checker<'_>,
) -> Option<i32> {
    let parse = |text: &str| {
        let micro = decimal(text, 6)?;
        (micro.abs() <= most * 1_000_000).then(|| i32::try_from(micro).ok())?
    };
    let rule =
        format!("is not in degrees (use -{most} to {most} with at most six decimals, or nothing)");
    optional(row, column, checker, parse, &rule)
}

pub(super) fn prefix<P: Prefix>(row: &Row<'_>, column: &str, checker: &mut Checker<'_>) -> String {
    let parse = |text: &str| {
        let prefix: P = text.parse().ok()?;
        (prefix.truncated() == prefix).then(|| prefix.to_string())
    };
    let rule = "is not a prefix (use address/length with zeros behind the length, or nothing)";
    optional(row, column, checker, parse, rule).unwrap_or_default()
}

pub(super) fn date(row: &Row<'_>, column: &str, checker: &mut Checker<'_>) -> String {
    let parse = |text: &str| {
        let date = Date::parse(text, format_description!("[year]-[month]-[day]"));
        date.is_ok().then(|| text.to_owned())
    };
    let rule = "is not a date (use YYYY-MM-DD, or nothing)";
    optional(row, column, checker, parse, rule).unwrap_or_default()
}

pub(super) fn yes(row: &Row<'_>, column: &str, checker: &mut Checker<'_>) -> Option<bool> {
    let parse = |text: &str| match text {
        "0" => Some(false),
        "1" => Some(true),
        _ => None,
    };
    optional(row, column, checker, parse, "is neither 0 nor 1 nor empty")
}

/// As written, and otherwise as the table of divisions says.
pub(super) fn border(row: &Row<'_>, checker: &mut Checker<'_>) -> bool {
    yes(row, "border_county", checker).unwrap_or_else(|| {
        Divisions::built_in()
            .get(row.get("division_code"))
            .is_some_and(|division| division.border)
    })
}

fn optional<T>(
    row: &Row<'_>,
    column: &str,
    checker: &mut Checker<'_>,
    parse: impl FnOnce(&str) -> Option<T>,
    rule: &str,
) -> Option<T> {
    let text = row.get(column);
    if text.is_empty() {
        return None;
    }
    let value = parse(text);
    if value.is_none() {
        checker.problem(&row.place, column, format!("'{}' {rule}", shown(text)));
    }
    value
}

/// "12.5" with three decimals is 12,500. Exact, unlike a way through floating point.
fn decimal(text: &str, decimals: usize) -> Option<i64> {
    let (sign, digits) = match text.strip_prefix('-') {
        Some(digits) => (-1, digits),
        None => (1, text),
    };
    let (whole, fraction) = digits.split_once('.').unwrap_or((digits, ""));
    let plain = |part: &str| part.bytes().all(|byte| byte.is_ascii_digit());
    if whole.is_empty() || fraction.len() > decimals || !plain(whole) || !plain(fraction) {
        return None;
    }
    let number: i64 = format!("{whole}{fraction:0<decimals$}").parse().ok()?;
    Some(sign * number)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn decimals_are_read_exactly() {
        for (text, decimals, number) in [
            ("12", 3, Some(12_000)),
            ("0.064", 3, Some(64)),
            ("91.1", 6, Some(91_100_000)),
            ("-0.5", 6, Some(-500_000)),
            ("1.", 3, Some(1_000)),
            ("", 3, None),
            (".5", 3, None),
            ("1.0001", 3, None),
            ("1e3", 3, None),
            ("+1", 3, None),
            ("99999999999999999999", 3, None),
        ] {
            assert_eq!(decimal(text, decimals), number, "{text}");
        }
    }
}
