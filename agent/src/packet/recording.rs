//! Recordings: packets as text, and what must come of them. Files for tests, readable and editable by hand.
//!
//! ```text
//! # A comment. Empty lines mean nothing.
//! socket v4 verify
//! 1ms recv 10.9.1.1 ttl=64 0000 f7ff 0000 0001
//! = received=1
//! ```
//!
//! A line is an optional time since the beginning (`250us`, `1ms`, `2s`), a verb, words, fields (`name=value`), and
//! bytes in groups of an even number of hexadecimal digits, at least four, at the end of the line. What verbs mean is for
//! the reader of the recording: [`crate::probe::icmp::replay`] has those of the echo engine.

use std::collections::BTreeMap;
use std::time::Duration;

/// A line of a recording.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Line {
    /// Its number in the file, from 1.
    pub number: usize,
    /// Since the beginning.
    pub at: Duration,
    /// What happened.
    pub verb: String,
    /// Words without a name.
    pub words: Vec<String>,
    /// Words with a name.
    pub fields: BTreeMap<String, String>,
    /// The packet.
    pub bytes: Vec<u8>,
}

impl Line {
    /// A field, or what stands for it when it is not there.
    pub fn field<'a>(&'a self, name: &str, default: &'a str) -> &'a str {
        self.fields.get(name).map_or(default, String::as_str)
    }
}

/// Reads a recording; an error names the line.
pub fn parse(text: &str) -> Result<Vec<Line>, String> {
    let meaningful = |(_, line): &(usize, &str)| !line.is_empty() && !line.starts_with('#');
    text.lines()
        .map(str::trim)
        .enumerate()
        .filter(meaningful)
        .map(|(index, line)| parse_line(index + 1, line))
        .collect()
}

fn parse_line(number: usize, text: &str) -> Result<Line, String> {
    let mut line = Line {
        number,
        ..Line::default()
    };
    let mut words: Vec<&str> = text.split_whitespace().collect();
    if let Some(at) = words.first().copied().and_then(duration) {
        line.at = at;
        words.remove(0);
    }
    if words.is_empty() {
        return Err(format!("line {number}: a time and nothing that happens"));
    }
    words.remove(0).clone_into(&mut line.verb);
    // Bytes are at the end: a word before them may look like some, as an interface `cafe`.
    let bytes_from = words.iter().rposition(|word| !is_hex(word));
    let bytes = words.split_off(bytes_from.map_or(0, |last| last + 1));
    for group in bytes {
        let octets = group.as_bytes().chunks(2).map(|pair| {
            let digits = std::str::from_utf8(pair).ok()?;
            u8::from_str_radix(digits, 16).ok()
        });
        let octets: Option<Vec<u8>> = octets.collect();
        line.bytes
            .extend(octets.ok_or_else(|| format!("line {number}: {group} is no bytes"))?);
    }
    for word in words {
        match word.split_once('=') {
            Some((name, value)) => {
                let before = line.fields.insert(name.to_owned(), value.to_owned());
                if before.is_some() {
                    return Err(format!("line {number}: {name} stands there twice"));
                }
            }
            None => line.words.push(word.to_owned()),
        }
    }
    Ok(line)
}

/// `250us`, `1ms`, `2s`; `None` for anything else.
pub fn duration(text: &str) -> Option<Duration> {
    let digits = text.trim_end_matches(|c: char| c.is_ascii_alphabetic());
    let number: u64 = digits.parse().ok()?;
    match text.strip_prefix(digits)? {
        "us" => Some(Duration::from_micros(number)),
        "ms" => Some(Duration::from_millis(number)),
        "s" => Some(Duration::from_secs(number)),
        _ => None,
    }
}

fn is_hex(word: &str) -> bool {
    word.len() >= 4
        && word.len().is_multiple_of(2)
        && word.bytes().all(|byte| byte.is_ascii_hexdigit())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_line_is_time_verb_words_fields_and_bytes() {
        let text = "# recorded on a satellite link\n\n socket v4\n12ms recv 10.9.1.1 ttl=64 0000f7ff 0001\n= lost=1\n";
        let lines = parse(text).unwrap();
        assert_eq!(lines.len(), 3);
        assert_eq!((lines[0].verb.as_str(), lines[0].number), ("socket", 3));
        assert_eq!(lines[1].at, Duration::from_millis(12));
        assert_eq!(lines[1].words, ["10.9.1.1"]);
        assert_eq!(lines[1].field("ttl", ""), "64");
        assert_eq!(lines[1].field("tos", "0"), "0");
        assert_eq!(lines[1].bytes, [0, 0, 0xf7, 0xff, 0, 1]);
        assert_eq!(
            (lines[2].verb.as_str(), lines[2].field("lost", "")),
            ("=", "1")
        );
    }

    #[test]
    fn what_makes_no_sense_names_its_line() {
        assert!(parse("\n5ms").unwrap_err().starts_with("line 2:"));
        assert!(parse("recv ttl=1 ttl=2").unwrap_err().contains("twice"));
        assert_eq!(duration("5"), None);
        assert_eq!(duration("5min"), None);
        assert_eq!(duration("250us"), Some(Duration::from_micros(250)));
    }
}
