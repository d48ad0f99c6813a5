//! Reads TOML with defaults and collects every problem, with its line: a configuration is corrected once, not once per
//! mistake. Unknown keys are problems. Both binaries and the collector's plans use it.
//!
//! ```
//! use std::time::Duration;
//! use extranet_agent::config::reader::read;
//!
//! let (name, every) = read("x.toml", "name = 'a'\n[poll]\nevery = '5s'", |top| {
//!     let every = top.section("poll", |poll| {
//!         poll.duration("every", Duration::from_secs(60), Duration::from_secs(1)..=Duration::from_secs(3600))
//!     });
//!     (top.string("name", ""), every)
//! }).unwrap();
//! assert_eq!((name.as_str(), every), ("a", Duration::from_secs(5)));
//! ```

use std::cell::RefCell;
use std::fmt;
use std::net::SocketAddr;
use std::ops::{Range, RangeInclusive};
use std::path::{Path, PathBuf};
use std::rc::Rc;
use std::str::FromStr;
use std::time::Duration;

use toml::Spanned;
use toml::de::{DeTable, DeValue};

/// Why there is no configuration.
#[derive(Debug, thiserror::Error)]
pub enum ConfigError {
    /// The file cannot be read.
    #[error("cannot read the configuration {}", path.display())]
    Read {
        /// Which file.
        path: PathBuf,
        /// Why.
        source: std::io::Error,
    },
    /// It was read and is wrong.
    #[error(transparent)]
    Problems(#[from] Problems),
}

/// Reads the file of a configuration; `parse` gets its name, for problems, and its text.
pub fn load<T>(
    path: &Path,
    parse: impl FnOnce(&str, &str) -> Result<T, Problems>,
) -> Result<T, ConfigError> {
    let text = std::fs::read_to_string(path).map_err(|source| ConfigError::Read {
        path: path.to_owned(),
        source,
    })?;
    Ok(parse(&path.display().to_string(), &text)?)
}

/// One mistake in a file.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Problem {
    /// Line in the file, from 1; `None` when it is not about a line.
    pub line: Option<usize>,
    /// The key with its sections, as `spool.max_bytes`; empty when it is not about a key.
    pub key: String,
    /// What is wrong, and what would be right.
    pub text: String,
}

/// Every mistake of a file.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Problems {
    /// Name of the file.
    pub origin: String,
    /// In the order of the file.
    pub list: Vec<Problem>,
}

impl std::error::Error for Problems {}

impl fmt::Display for Problems {
    /// One line per problem: `agent.toml:17: spool.max_bytes: ...`.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (i, problem) in self.list.iter().enumerate() {
            if i > 0 {
                f.write_str("\n")?;
            }
            f.write_str(&self.origin)?;
            if let Some(line) = problem.line {
                write!(f, ":{line}")?;
            }
            if !problem.key.is_empty() {
                write!(f, ": {}", problem.key)?;
            }
            write!(f, ": {}", problem.text)?;
        }
        Ok(())
    }
}

/// Reads `text` by `body`, which asks for each key it knows; what it did not ask for is an unknown key.
pub fn read<T>(
    origin: &str,
    text: &str,
    body: impl FnOnce(&mut Reader<'_>) -> T,
) -> Result<T, Problems> {
    let (table, errors) = DeTable::parse_recoverable(text);
    let problems: Rc<RefCell<Vec<(usize, Problem)>>> = Rc::default();
    for error in errors {
        let at = error.span().map(|span| span.start);
        note(&problems, text, at, String::new(), error.message());
    }
    // After a syntax error the keys that could be recovered say little about what the author meant.
    let parsed = problems.borrow().is_empty();
    let value = parsed.then(|| {
        let mut reader = Reader {
            table: table.into_inner(),
            prefix: String::new(),
            at: None,
            text,
            last: None,
            problems: Rc::clone(&problems),
        };
        let value = body(&mut reader);
        reader.finish();
        value
    });
    let mut found = problems.take();
    found.sort_by_key(|(at, _)| *at);
    match value {
        Some(value) if found.is_empty() => Ok(value),
        _ => Err(Problems {
            origin: origin.to_owned(),
            list: found.into_iter().map(|(_, problem)| problem).collect(),
        }),
    }
}

/// Remembers a problem with its place in the text, by which all are sorted in the end.
fn note(
    problems: &RefCell<Vec<(usize, Problem)>>,
    text: &str,
    at: Option<usize>,
    key: String,
    what: impl Into<String>,
) {
    let line = at.map(|at| {
        let before = text.as_bytes().get(..at).unwrap_or_default();
        before.split(|byte| *byte == b'\n').count()
    });
    problems.borrow_mut().push((
        at.unwrap_or(usize::MAX),
        Problem {
            line,
            key,
            text: what.into(),
        },
    ));
}

/// One table of the file. Each question takes its key out of the table.
#[derive(Debug)]
pub struct Reader<'i> {
    table: DeTable<'i>,
    prefix: String,
    at: Option<usize>,
    text: &'i str,
    /// Where the key stood that was asked for last.
    last: Option<(String, Range<usize>)>,
    problems: Rc<RefCell<Vec<(usize, Problem)>>>,
}

impl<'i> Reader<'i> {
    fn take(&mut self, key: &str) -> Option<Spanned<DeValue<'i>>> {
        let value = self.table.remove(key)?;
        self.last = Some((key.to_owned(), value.span()));
        Some(value)
    }

    fn full_name(&self, key: &str) -> String {
        format!("{}{key}", self.prefix)
    }

    /// Reports something wrong with `key`, at its line if it was the last one asked for, else at its section's.
    pub fn problem(&mut self, key: &str, text: impl Into<String>) {
        let own = self.last.as_ref().filter(|(last, _)| last == key);
        let at = own.map(|(_, span)| span.start).or(self.at);
        note(&self.problems, self.text, at, self.full_name(key), text);
    }

    /// Whether the key was written.
    pub fn has(&self, key: &str) -> bool {
        self.table.contains_key(key)
    }

    /// A value through a conversion of one's own; the default when the key is absent or (after reporting) wrong.
    fn value<T>(
        &mut self,
        key: &str,
        default: T,
        convert: impl FnOnce(&DeValue<'i>) -> Result<T, String>,
    ) -> T {
        let Some(value) = self.take(key) else {
            return default;
        };
        match convert(value.get_ref()) {
            Ok(value) => value,
            Err(text) => {
                self.problem(key, text);
                default
            }
        }
    }

    /// A text.
    pub fn string(&mut self, key: &str, default: &str) -> String {
        self.value(key, default.to_owned(), |value| {
            text_of(value).map(str::to_owned)
        })
    }

    /// A text that has no default.
    pub fn optional_string(&mut self, key: &str) -> Option<String> {
        self.value(key, None, |value| {
            text_of(value).map(|text| Some(text.to_owned()))
        })
    }

    /// A text that must be there; reported when it is not.
    pub fn required_string(&mut self, key: &str) -> String {
        if !self.has(key) {
            self.problem(key, "is missing");
        }
        self.string(key, "")
    }

    /// A path; must be absolute.
    pub fn path(&mut self, key: &str, default: &str) -> PathBuf {
        self.value(key, PathBuf::from(default), |value| {
            absolute(text_of(value)?)
        })
    }

    /// A path that has no default; must be absolute.
    pub fn optional_path(&mut self, key: &str) -> Option<PathBuf> {
        self.value(key, None, |value| absolute(text_of(value)?).map(Some))
    }

    /// `true` or `false`.
    pub fn boolean(&mut self, key: &str, default: bool) -> bool {
        self.value(key, default, |value| {
            value
                .as_bool()
                .ok_or_else(|| expected("true or false", value))
        })
    }

    /// A whole number.
    pub fn integer(&mut self, key: &str, default: u64, allowed: RangeInclusive<u64>) -> u64 {
        self.value(key, default, |value| {
            let number = integer_of(value).ok_or_else(|| expected("a whole number", value))?;
            within(number, &allowed, ToString::to_string)
        })
    }

    /// A duration such as `"500ms"`, `"60s"`, `"15m"`, `"12h"` or `"30d"`.
    pub fn duration(
        &mut self,
        key: &str,
        default: Duration,
        allowed: RangeInclusive<Duration>,
    ) -> Duration {
        self.value(key, default, |value| {
            let duration = parse_duration(text_of(value)?)?;
            within(duration, &allowed, |duration| format_duration(*duration))
        })
    }

    /// A number of bytes: a whole number, or a text such as `"64MiB"`.
    pub fn bytes(&mut self, key: &str, default: u64, allowed: RangeInclusive<u64>) -> u64 {
        self.value(key, default, |value| {
            let bytes = match integer_of(value) {
                Some(bytes) => bytes,
                None => parse_bytes(text_of(value)?)?,
            };
            within(bytes, &allowed, |bytes| format_bytes(*bytes))
        })
    }

    /// A text that is parsed, as `parsed("listen", address)`.
    pub fn parsed<T>(&mut self, key: &str, default: T) -> T
    where
        T: FromStr,
        T::Err: fmt::Display,
    {
        self.value(key, default, |value| parse(text_of(value)?))
    }

    /// An address and port to listen on; an empty text switches off.
    pub fn listen(&mut self, key: &str, default: Option<SocketAddr>) -> Option<SocketAddr> {
        self.value(key, default, |value| match text_of(value)? {
            "" => Ok(None),
            text => parse(text).map(Some),
        })
    }

    /// A list of texts or whole numbers, each parsed; every wrong one is reported.
    pub fn list<T>(&mut self, key: &str, default: Vec<T>) -> Vec<T>
    where
        T: FromStr,
        T::Err: fmt::Display,
    {
        let Some(value) = self.take(key) else {
            return default;
        };
        let Some(array) = value.get_ref().as_array() else {
            self.problem(key, expected("a list of texts", value.get_ref()));
            return default;
        };
        let mut list = Vec::with_capacity(array.len());
        let mut all_good = true;
        for item in array {
            let parsed = match integer_of(item.get_ref()) {
                Some(number) => parse(&number.to_string()),
                None => text_of(item.get_ref()).and_then(parse),
            };
            match parsed {
                Ok(item) => list.push(item),
                Err(text) => {
                    all_good = false;
                    let (at, name) = (item.span().start, self.full_name(key));
                    note(&self.problems, self.text, Some(at), name, text);
                }
            }
        }
        if all_good { list } else { default }
    }

    /// The table `[key]`; an empty one when it is absent, so that its keys take their defaults.
    pub fn section<T>(&mut self, key: &str, body: impl FnOnce(&mut Reader<'i>) -> T) -> T {
        let value = self.take(key);
        let at = value.as_ref().map(|value| value.span().start);
        let table = match value.map(Spanned::into_inner) {
            None => DeTable::new(),
            Some(DeValue::Table(table)) => table,
            Some(other) => {
                self.problem(key, expected("a section", &other));
                DeTable::new()
            }
        };
        self.enter(table, &format!("{key}."), at, body)
    }

    /// The tables `[[key]]`, in their order.
    pub fn sections<T>(&mut self, key: &str, mut body: impl FnMut(&mut Reader<'i>) -> T) -> Vec<T> {
        let Some(value) = self.take(key) else {
            return Vec::new();
        };
        let DeValue::Array(array) = value.into_inner() else {
            self.problem(
                key,
                format!("must be written as [[{}]]", self.full_name(key)),
            );
            return Vec::new();
        };
        let mut all = Vec::with_capacity(array.len());
        for (i, item) in array.into_iter().enumerate() {
            let at = Some(item.span().start);
            match item.into_inner() {
                DeValue::Table(table) => {
                    all.push(self.enter(table, &format!("{key}[{i}]."), at, &mut body));
                }
                other => self.problem(key, expected("a section", &other)),
            }
        }
        all
    }

    fn enter<T>(
        &self,
        table: DeTable<'i>,
        name: &str,
        at: Option<usize>,
        body: impl FnOnce(&mut Reader<'i>) -> T,
    ) -> T {
        let mut inner = Reader {
            table,
            prefix: self.full_name(name),
            at: at.or(self.at),
            text: self.text,
            last: None,
            problems: Rc::clone(&self.problems),
        };
        let value = body(&mut inner);
        inner.finish();
        value
    }

    /// What nobody asked for is unknown.
    fn finish(self) {
        for (key, _) in &self.table {
            let name = self.full_name(key.get_ref());
            note(
                &self.problems,
                self.text,
                Some(key.span().start),
                name,
                "unknown key",
            );
        }
    }
}

fn expected(what: &str, value: &DeValue<'_>) -> String {
    format!("must be {what}, not a value of type {}", value.type_str())
}

fn text_of<'v>(value: &'v DeValue<'_>) -> Result<&'v str, String> {
    value
        .as_str()
        .ok_or_else(|| expected("a text in quotes", value))
}

fn integer_of(value: &DeValue<'_>) -> Option<u64> {
    let integer = value.as_integer()?;
    u64::from_str_radix(integer.as_str(), integer.radix()).ok()
}

fn parse<T>(text: &str) -> Result<T, String>
where
    T: FromStr,
    T::Err: fmt::Display,
{
    text.parse()
        .map_err(|error| format!("{text:?} cannot be used: {error}"))
}

fn absolute(text: &str) -> Result<PathBuf, String> {
    let path = PathBuf::from(text);
    if path.is_absolute() {
        Ok(path)
    } else {
        Err(format!("{text:?} must be an absolute path"))
    }
}

fn within<T: PartialOrd>(
    value: T,
    allowed: &RangeInclusive<T>,
    show: impl Fn(&T) -> String,
) -> Result<T, String> {
    if allowed.contains(&value) {
        Ok(value)
    } else {
        Err(format!(
            "must lie between {} and {}",
            show(allowed.start()),
            show(allowed.end())
        ))
    }
}

/// Units of durations, longest first, in milliseconds.
const DURATION_UNITS: [(&str, u64); 5] = [
    ("d", 86_400_000),
    ("h", 3_600_000),
    ("m", 60_000),
    ("s", 1_000),
    ("ms", 1),
];

/// Units of sizes, largest first, in bytes.
const BYTE_UNITS: [(&str, u64); 4] = [
    ("GiB", 1 << 30),
    ("MiB", 1 << 20),
    ("KiB", 1 << 10),
    ("B", 1),
];

/// Splits "64MiB" into number and factor.
fn number_with_unit(text: &str, units: &[(&str, u64)]) -> Option<u64> {
    let digits = text.bytes().take_while(u8::is_ascii_digit).count();
    let (number, unit) = text.split_at_checked(digits)?;
    let (_, factor) = units.iter().find(|(name, _)| *name == unit.trim_start())?;
    number.parse::<u64>().ok()?.checked_mul(*factor)
}

/// A duration such as `"500ms"`, `"60s"`, `"15m"`, `"12h"` or `"30d"`.
pub fn parse_duration(text: &str) -> Result<Duration, String> {
    number_with_unit(text, &DURATION_UNITS)
        .map(Duration::from_millis)
        .ok_or_else(|| format!("{text:?} is not a duration (a whole number with ms, s, m, h or d)"))
}

fn parse_bytes(text: &str) -> Result<u64, String> {
    number_with_unit(text, &BYTE_UNITS)
        .ok_or_else(|| format!("{text:?} is not a size (a whole number with B, KiB, MiB or GiB)"))
}

fn with_largest_unit(number: u64, units: &[(&str, u64)]) -> String {
    units
        .iter()
        .find(|(_, factor)| number >= *factor && number.is_multiple_of(*factor))
        .map_or_else(
            || format!("0{}", units.last().map_or("", |(name, _)| *name)),
            |(name, factor)| format!("{}{name}", number / factor),
        )
}

/// The shortest form that [`parse_duration`] reads, in whole milliseconds.
pub fn format_duration(duration: Duration) -> String {
    with_largest_unit(
        u64::try_from(duration.as_millis()).unwrap_or(u64::MAX),
        &DURATION_UNITS,
    )
}

fn format_bytes(bytes: u64) -> String {
    with_largest_unit(bytes, &BYTE_UNITS)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_problem_is_reported_with_its_line() {
        let text =
            "count = 'three'\nsize = '5 elephants'\ncolour = 1\n[part]\nwait = '2h'\nmore = 1\n";
        let problems = read("x.toml", text, |top| {
            top.integer("count", 1, 0..=9);
            top.bytes("size", 1, 0..=9);
            top.section("part", |part| {
                part.duration(
                    "wait",
                    Duration::from_secs(1),
                    Duration::from_secs(1)..=Duration::from_mins(1),
                );
                part.required_string("name");
            });
        })
        .unwrap_err();
        let shown = problems.to_string();
        let lines: Vec<&str> = shown.lines().collect();
        assert_eq!(
            lines,
            [
                "x.toml:1: count: must be a whole number, not a value of type string",
                "x.toml:2: size: \"5 elephants\" is not a size (a whole number with B, KiB, MiB or GiB)",
                "x.toml:3: colour: unknown key",
                "x.toml:4: part.name: is missing",
                "x.toml:5: part.wait: must lie between 1s and 1m",
                "x.toml:6: part.more: unknown key",
            ]
        );
    }

    #[test]
    fn syntax_errors_are_all_reported() {
        let problems = read("x.toml", "a = \nb = [1\nc = 2\n", |_| ()).unwrap_err();
        assert!(!problems.list.is_empty());
        assert_eq!(problems.list[0].line, Some(1), "{problems}");
    }

    #[test]
    fn absent_keys_take_their_defaults_in_absent_sections_too() {
        let value = read("x.toml", "", |top| {
            top.section("part", |part| {
                (
                    part.boolean("on", true),
                    part.listen("listen", None),
                    part.list::<u16>("list", vec![7]),
                )
            })
        });
        assert_eq!(value.unwrap(), (true, None, vec![7]));
    }

    #[test]
    fn lists_of_sections_keep_their_order_and_name_the_wrong_one() {
        let text = "[[item]]\nname = 'a'\n[[item]]\nname = 2\n";
        let problems = read("x.toml", text, |top| {
            top.sections("item", |item| item.string("name", ""))
        })
        .unwrap_err();
        assert_eq!(problems.list[0].key, "item[1].name");
        assert_eq!(problems.list[0].line, Some(4));
    }

    #[test]
    fn lists_hold_texts_or_whole_numbers() {
        let value = read("x.toml", "list = [4, '6']", |top| {
            top.list::<u8>("list", Vec::new())
        });
        assert_eq!(value.unwrap(), [4, 6]);
        let problems = read("x.toml", "list = [4,\n 256, true]", |top| {
            top.list::<u8>("list", Vec::new())
        });
        assert_eq!(problems.unwrap_err().list.len(), 2);
    }

    #[test]
    fn durations_and_sizes_are_shown_as_they_are_read() {
        for text in ["0ms", "1ms", "1500ms", "90s", "2m", "36h", "30d"] {
            assert_eq!(format_duration(parse_duration(text).unwrap()), text);
        }
        assert!(parse_duration("1 fortnight").is_err());
        assert!(parse_duration("99999999999999999999d").is_err());
        assert_eq!(parse_bytes("64 MiB").unwrap(), 64 << 20);
        assert_eq!(format_bytes(64 << 20), "64MiB");
    }
}
