//! The echo engine without socket and clock: plays what was recorded, or what a fuzzer makes up.
//!
//! A recording ([`crate::packet::recording`]) of the engine has these verbs:
//!
//! ```text
//! socket v4|v6 [verify]                              first of all; verify: checksums are checked here (raw IPv4)
//! run NAME ADDRESS packets=N payload=BYTES           a run begins
//! TIME send NAME INDEX [allowed=DURATION] [BYTES]    a request leaves; its bytes, if given, must be these
//! TIME recv ADDRESS [ttl=N] BYTES                    an ICMP message arrives
//! TIME error ADDRESS to=ADDRESS type=N code=N BYTES  an error message arrives, with what it quotes
//! TIME refuse NAME INDEX                             this machine refuses to send
//! clock [+|-]DURATION                                somebody sets the clock
//! end NAME                                           the run ends
//! = outcome=.. reason=.. METRIC=VALUE ...            and has exactly these values, in µs and counts
//! counts NAME=VALUE ...                              the engine's own counts, those that are not 0
//! ```

use std::net::IpAddr;
use std::sync::Arc;
use std::time::Duration;

use extranet_proto::assignment::Family;
use extranet_proto::record::Reason;

use super::burst::{Answer, Burst, Departure, Stragglers};
use super::counts::{Counters, Counts};
use super::desk::{Desk, Scratch};
use super::token::Tokens;
use super::values;
use crate::net::departure::Departing;
use crate::net::icmp_socket::ErrorReport;
use crate::net::refusal::Refusal;
use crate::net::stamp::ClockOffset;
use crate::probe::Measured;

/// Key of the tokens in recordings.
const KEY: [u64; 2] = [1, 2];
/// The system clock when a recording begins, ns since 1970: 2026-01-01.
const BEGIN_NS: i64 = 1_767_225_600_000_000_000;

/// An engine that is told what happens.
#[derive(Debug)]
pub struct Player {
    desk: Desk,
    counters: Arc<Counters>,
    runs: Vec<Played>,
    /// By how much the clock was set, ns.
    shift_ns: i64,
    scratch: Scratch,
}

#[derive(Debug)]
struct Played {
    burst: Arc<Burst>,
    first_id: u64,
    begun: Duration,
}

impl Player {
    /// Of one socket.
    pub fn new(family: Family, verify_checksum: bool) -> Self {
        let counters = Arc::<Counters>::default();
        let tokens = Tokens::with_key(KEY);
        Self {
            desk: Desk::new(family, verify_checksum, tokens, Arc::clone(&counters)),
            counters,
            runs: Vec::new(),
            shift_ns: 0,
            scratch: Scratch::default(),
        }
    }

    /// A run begins; returns its number.
    pub fn begin(&mut self, to: IpAddr, packets: u16, payload_bytes: u16, at: Duration) -> usize {
        let burst = Arc::new(Burst::new(to, packets, payload_bytes, Departing::default()));
        let first_id = self.desk.register(&burst);
        self.runs.push(Played {
            burst,
            first_id,
            begun: at,
        });
        self.runs.len() - 1
    }

    /// A request leaves; returns its bytes, none for a run that never began.
    pub fn send(&mut self, run: usize, index: u16, at: Duration, allowed: Duration) -> &[u8] {
        let (real_ns, clock) = self.clocks(at);
        let Some(played) = self.runs.get(run) else {
            return &[];
        };
        let departure = Departure {
            real_ns,
            clock,
            allowed,
        };
        played.burst.leaving(index, departure);
        self.desk.write_request(
            played.first_id + u64::from(index),
            played.burst.payload_bytes,
            &mut self.scratch,
        );
        &self.scratch.packet
    }

    /// This machine refuses to send a request.
    pub fn refuse(&self, run: usize, index: u16) {
        if let Some(played) = self.runs.get(run) {
            let refusal = Refusal::not_measured(Reason::LocalError);
            played.burst.refused(index, refusal);
        }
    }

    /// An ICMP message arrives.
    pub fn receive(&self, from: IpAddr, message: &[u8], at: Duration, hop_limit: Option<u8>) {
        let (real_ns, clock) = self.clocks(at);
        let answer = Answer {
            real_ns,
            clock,
            hop_limit,
        };
        self.desk.message(from, message, answer);
    }

    /// An error message arrives.
    pub fn error(&self, report: &ErrorReport<'_>) {
        self.desk.error(report);
    }

    /// Somebody sets the clock, by so many ns.
    pub fn set_clock(&mut self, by_ns: i64) {
        self.shift_ns = self.shift_ns.saturating_add(by_ns);
    }

    /// A run ends; `None` if it never began. What comes for it later is told at its next end.
    pub fn end(&self, run: usize, at: Duration) -> Option<Measured> {
        let played = self.runs.get(run)?;
        let summary = played.burst.summary(Stragglers::default());
        let duration = at.saturating_sub(played.begun);
        Some(values::measured(&summary, None, None, duration))
    }

    /// What the engine counted.
    pub fn counts(&self) -> Counts {
        self.counters.read()
    }

    fn clocks(&self, at: Duration) -> (i64, ClockOffset) {
        let since_ns = i64::try_from(at.as_nanos()).unwrap_or(i64::MAX);
        let offset_ns = BEGIN_NS.saturating_add(self.shift_ns);
        let clock = ClockOffset {
            offset_ns,
            uncertainty_ns: 1,
        };
        (offset_ns.saturating_add(since_ns), clock)
    }
}

#[cfg(test)]
mod tests;
