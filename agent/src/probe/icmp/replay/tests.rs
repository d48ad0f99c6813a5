//! Every recording in `agent/testdata/recordings/icmp` gives exactly what it says.

use std::collections::HashMap;
use std::fs;
use std::path::Path;

use super::*;
use crate::packet::recording::{Line, duration, parse};

/// Plays a recording, and returns what it differs in.
struct Stage {
    player: Player,
    names: HashMap<String, usize>,
    ended: Option<Measured>,
    /// Expectations that were compared.
    compared: usize,
}

impl Stage {
    fn play(&mut self, line: &Line) {
        let number = |text: &str| -> u16 { text.parse().expect("a number") };
        let address = |text: &str| -> IpAddr { text.parse().expect("an address") };
        let word = |index: usize| line.words[index].as_str();
        let run = |names: &HashMap<String, usize>| names[&line.words[0]];
        match line.verb.as_str() {
            "run" => {
                let packets = number(line.field("packets", "1"));
                let payload = number(line.field("payload", "56"));
                let begun = self
                    .player
                    .begin(address(word(1)), packets, payload, line.at);
                self.names.insert(word(0).to_owned(), begun);
            }
            "send" => {
                let allowed = duration(line.field("allowed", "1s")).expect("a duration");
                let (run, index) = (run(&self.names), number(word(1)));
                let sent = self.player.send(run, index, line.at, allowed);
                if !line.bytes.is_empty() {
                    assert_eq!(sent, line.bytes, "line {}", line.number);
                }
            }
            "recv" => {
                let hop_limit = line.field("ttl", "").parse().ok();
                let from = address(word(0));
                self.player.receive(from, &line.bytes, line.at, hop_limit);
            }
            "error" => self.player.error(&ErrorReport {
                destination: address(line.field("to", "")),
                offender: address(word(0)),
                kind: line.field("type", "").parse().expect("a type"),
                code: line.field("code", "").parse().expect("a code"),
                quoted: &line.bytes,
            }),
            "refuse" => self.player.refuse(run(&self.names), number(word(1))),
            "clock" => {
                let backwards = word(0).starts_with('-');
                let by = duration(word(0).trim_start_matches(['+', '-'])).expect("a duration");
                let by_ns = i64::try_from(by.as_nanos()).expect("fits");
                self.player
                    .set_clock(if backwards { -by_ns } else { by_ns });
            }
            "end" => self.ended = self.player.end(run(&self.names), line.at),
            "=" => {
                let ended = self.ended.take().expect("a run ended before");
                assert_eq!(of_measured(&ended), fields(line), "line {}", line.number);
                self.compared += 1;
            }
            "counts" => {
                let counts = self.player.counts();
                let found = counts.named().filter(|(_, count)| *count > 0);
                let found: Vec<_> = found
                    .map(|(name, count)| (name.to_owned(), count.to_string()))
                    .collect();
                assert_eq!(sorted(found), fields(line), "line {}", line.number);
                self.compared += 1;
            }
            other => panic!("line {}: unknown verb {other}", line.number),
        }
    }
}

fn fields(line: &Line) -> Vec<(String, String)> {
    line.fields.clone().into_iter().collect()
}

fn sorted(mut list: Vec<(String, String)>) -> Vec<(String, String)> {
    list.sort();
    list
}

/// Names of metrics without what all of them have in common.
fn of_measured(measured: &Measured) -> Vec<(String, String)> {
    let values = measured.values.iter().map(|value| {
        let info = value.metric.info().expect("a known metric");
        let name = info.name.trim_start_matches("extranet_icmp_");
        let name = name.trim_start_matches("probe_icmp_");
        let name = match info.label {
            Some(("quantile", quantile)) => format!("p{quantile}"),
            _ => name.trim_end_matches("_seconds").to_owned(),
        };
        (name, value.raw.to_string())
    });
    let verdict = [
        ("outcome".to_owned(), measured.outcome.to_string()),
        ("reason".to_owned(), measured.reason.to_string()),
    ];
    sorted(verdict.into_iter().chain(values).collect())
}

fn play(text: &str) -> usize {
    let lines = parse(text).unwrap();
    let (socket, rest) = lines.split_first().expect("a socket");
    assert_eq!(socket.verb, "socket");
    let family = match socket.words[0].as_str() {
        "v4" => Family::V4,
        _ => Family::V6,
    };
    let mut stage = Stage {
        player: Player::new(family, socket.words.get(1).is_some()),
        names: HashMap::new(),
        ended: None,
        compared: 0,
    };
    for line in rest {
        stage.play(line);
    }
    stage.compared
}

#[test]
fn every_recording_gives_exactly_what_it_says() {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("testdata/recordings/icmp");
    let mut played = 0;
    for entry in fs::read_dir(folder).unwrap() {
        let path = entry.unwrap().path();
        let text = fs::read_to_string(&path).unwrap();
        println!("{}", path.display());
        assert!(play(&text) > 0, "{} expects nothing", path.display());
        played += 1;
    }
    assert!(played >= 5, "only {played} recordings");
}

#[test]
fn a_recording_that_says_something_else_fails() {
    let text = "socket v4\nrun a 10.0.0.1\n0ms send a 0\n5ms end a\n= outcome=ok";
    assert!(std::panic::catch_unwind(|| play(text)).is_err());
}
