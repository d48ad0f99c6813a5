//! Up, down or unknown: pure functions from evidence to a state, without clock, log or database.
//!
//! Time is cut into slots. What was measured in a slot of an access point is its [`Evidence`]; counts only add up, so
//! the order in which records arrive does not matter. [`Evidence::signal`] decides one slot by the ordered table below;
//! [`intervals`] turns a sequence of slots into states. Late records change the evidence of their own slot, and the
//! sequence is judged again from there.
//!
//! ```text
//! row  condition                                             signal
//!  1   not monitored                                         off
//!  2   own probes reach an anchor                            good
//!  3,4 own probes reach no anchor, the gateway answers       bad: link
//!  5   ... the gateway does not answer, IN is not good       bad: device
//!  5a  ... the gateway does not answer, IN is good           good (a fault of the agent's own network)
//!  6   no own probes, IN is good or there was a heartbeat    good (a fault of the agent)
//!  7-9 no own probes, IN is bad                              bad: unattributed
//!  10  nothing, and the collector itself did not watch       gap
//!  11  nothing                                               silent; from silent_slots on: bad, from the first
//! ```
//!
//! IN are probes of the access point's router from outside. It is good when one prober gets answers, bad when two agree
//! that there are none; where only one prober exists, that one decides. A prober that reaches no anchor itself in the
//! slot says nothing bad about others.
//!
//! ```text
//!              bad_slots bad, from the first
//!        up ----------------------------------> down
//!         ^ <---------------------------------- |
//!         |    good_slots good, from the first  |
//!   first good                            bad_slots bad
//!         +------------- not seen yet ----------+
//! ```
//!
//! A gap shows as unknown until the next decided slot; what was up or down before still counts for the rules above, so
//! that a restart of the collector neither closes nor opens an incident.

use std::collections::BTreeMap;

/// Number of a slot: milliseconds since 1970 divided by the slot length.
pub type Slot = i64;

/// Live state of an access point.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum State {
    /// It cannot be reached, or cannot reach the core.
    Down,
    /// It can reach the core.
    Up,
    /// Nothing is known: not decided yet, or we ourselves did not watch.
    Unknown,
    /// Not monitored, or never seen yet.
    NotInService,
}

impl State {
    /// Number in the catalogue and value of `extranet_ap_state`.
    pub const fn number(self) -> u8 {
        match self {
            Self::Down => 0,
            Self::Up => 1,
            Self::Unknown => 2,
            Self::NotInService => 3,
        }
    }

    /// The state with this number.
    pub const fn from_number(number: u8) -> Option<Self> {
        match number {
            0 => Some(Self::Down),
            1 => Some(Self::Up),
            2 => Some(Self::Unknown),
            3 => Some(Self::NotInService),
            _ => None,
        }
    }

    /// Word for people and labels.
    pub const fn label(self) -> &'static str {
        match self {
            Self::Down => "down",
            Self::Up => "up",
            Self::Unknown => "unknown",
            Self::NotInService => "not_in_service",
        }
    }
}

/// Why an access point is down, as far as a machine can tell.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Cause {
    /// It is not down.
    None,
    /// Its gateway answers, the core does not.
    Link,
    /// Its gateway does not answer either.
    Device,
    /// It cannot be reached from outside.
    Unattributed,
    /// Nothing was heard of it at all.
    Silence,
}

impl Cause {
    /// Number in the catalogue.
    pub const fn number(self) -> u8 {
        match self {
            Self::None => 0,
            Self::Link => 1,
            Self::Device => 2,
            Self::Unattributed => 3,
            Self::Silence => 4,
        }
    }

    /// The cause with this number; a number of a newer release counts as unattributed.
    pub const fn from_number(number: u8) -> Self {
        match number {
            0 => Self::None,
            1 => Self::Link,
            2 => Self::Device,
            4 => Self::Silence,
            _ => Self::Unattributed,
        }
    }
}

/// What one slot says.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Signal {
    /// The access point is not monitored.
    Off,
    /// It works.
    Good,
    /// It does not.
    Bad(Cause),
    /// Nothing was heard, and we were watching.
    Silent,
    /// Nothing was heard, and we were not watching.
    Gap,
}

impl Signal {
    /// Number in the catalogue.
    pub const fn number(self) -> u8 {
        match self {
            Self::Off => 0,
            Self::Good => 1,
            Self::Silent => 2,
            Self::Gap => 3,
            Self::Bad(cause) => 10 + cause.number(),
        }
    }

    /// The signal with this number; a number of a newer release counts as a gap.
    pub const fn from_number(number: u8) -> Self {
        match number {
            0 => Self::Off,
            1 => Self::Good,
            2 => Self::Silent,
            10.. => Self::Bad(Cause::from_number(number - 10)),
            _ => Self::Gap,
        }
    }
}

/// Probes of one thing in one slot. Protobuf because it is stored.
#[derive(Clone, Copy, PartialEq, Eq, prost::Message)]
pub struct Probes {
    /// Sent.
    #[prost(uint32, tag = "1")]
    pub sent: u32,
    /// Answered in time.
    #[prost(uint32, tag = "2")]
    pub answered: u32,
}

impl Probes {
    /// Whether the thing can be reached (AV-05): the more probes, the less loss it takes to say no. Fewer than five
    /// probes give no verdict, because three percent of independent loss alone would make a hundred outages a month.
    pub fn verdict(self) -> Option<bool> {
        let tolerated_percent = match self.sent {
            0..5 => return None,
            5..20 => 60,
            20..60 => 30,
            _ => 20,
        };
        let lost = u64::from(self.sent.saturating_sub(self.answered));
        Some(lost * 100 < u64::from(self.sent) * tolerated_percent)
    }

    fn add(&mut self, other: Self) {
        self.sent = self.sent.saturating_add(other.sent);
        self.answered = self.answered.saturating_add(other.answered);
    }
}

/// Everything that was measured about one access point in one slot. Protobuf because it is stored.
#[derive(Clone, PartialEq, Eq, prost::Message)]
pub struct Evidence {
    /// OUT: own probes by anchor.
    #[prost(btree_map = "string, message", tag = "1")]
    pub anchors: BTreeMap<String, Probes>,
    /// Own probes of the gateway.
    #[prost(message, optional, tag = "2")]
    pub gateway: Option<Probes>,
    /// IN: probes from outside by prober.
    #[prost(btree_map = "string, message", tag = "3")]
    pub inbound: BTreeMap<String, Probes>,
    /// HB: something arrived from an agent of the access point.
    #[prost(bool, tag = "4")]
    pub heartbeat: bool,
}

/// What a slot's signal depends on besides its own evidence.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Around {
    /// How many probers look at the access point from outside.
    pub probers: usize,
    /// Probers that reached no anchor themselves.
    pub blind: Vec<String>,
    /// Whether the collector itself did not watch.
    pub gap: bool,
}

impl Evidence {
    /// Adds what another part of the records of the same slot says.
    pub fn add(&mut self, other: &Self) {
        for (anchor, probes) in &other.anchors {
            self.anchors.entry(anchor.clone()).or_default().add(*probes);
        }
        for (prober, probes) in &other.inbound {
            self.inbound.entry(prober.clone()).or_default().add(*probes);
        }
        if let Some(probes) = other.gateway {
            self.gateway.get_or_insert_default().add(probes);
        }
        self.heartbeat |= other.heartbeat;
    }

    /// Whether own probes reach an anchor; `None` without a verdict on any.
    pub fn out(&self) -> Option<bool> {
        let verdicts = self.anchors.values().filter_map(|probes| probes.verdict());
        verdicts.reduce(|a, b| a || b)
    }

    /// Whether the access point can be reached from outside.
    pub fn inbound(&self, around: &Around) -> Option<bool> {
        let mut bad = 0;
        for (prober, probes) in &self.inbound {
            match probes.verdict() {
                Some(true) => return Some(true),
                Some(false) if !around.blind.contains(prober) => bad += 1,
                _ => {}
            }
        }
        (bad >= around.probers.clamp(1, 2)).then_some(false)
    }

    /// Decides the slot, rows 2 to 11.
    #[expect(
        clippy::match_same_arms,
        reason = "the rows stand in the order in which they are tried"
    )]
    pub fn signal(&self, around: &Around) -> Signal {
        let inbound = self.inbound(around);
        let gateway = self.gateway.and_then(Probes::verdict);
        match (self.out(), gateway, inbound) {
            // 2, 5a
            (Some(true), _, _) | (Some(false), Some(false), Some(true)) => Signal::Good,
            // 5
            (Some(false), Some(false), _) => Signal::Bad(Cause::Device),
            // 3, 4
            (Some(false), _, _) => Signal::Bad(Cause::Link),
            // 6
            (None, _, Some(true)) => Signal::Good,
            (None, _, _) if self.heartbeat => Signal::Good,
            // 7, 8, 9
            (None, _, Some(false)) => Signal::Bad(Cause::Unattributed),
            // 10
            (None, _, None) if around.gap => Signal::Gap,
            // 11
            (None, _, None) => Signal::Silent,
        }
    }

    /// Whether no later record can change the signal, short of absurd ones: the evidence need not be kept.
    pub fn is_settled_good(&self, owes_own_probes: bool) -> bool {
        self.out() == Some(true)
            || !owes_own_probes
                && self
                    .inbound
                    .values()
                    .any(|probes| probes.verdict() == Some(true))
    }
}

/// How many slots it takes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Rule {
    /// Bad ones to go down.
    pub bad_slots: i64,
    /// Good ones to come up again.
    pub good_slots: i64,
    /// Silent ones that count as bad.
    pub silent_slots: i64,
}

impl Rule {
    /// How many slots behind a slot can still change its state: a streak may have short silences between its slots.
    pub fn lookahead(&self) -> i64 {
        self.bad_slots.max(self.good_slots) * self.silent_slots.max(1)
    }
}

/// A state from a slot on.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Interval {
    /// First slot.
    pub from: Slot,
    /// What is shown.
    pub state: State,
    /// Whether it was last decided up or down.
    pub firm_up: Option<bool>,
    /// Why it is down.
    pub cause: Cause,
}

/// Slots of one kind from a slot on, up to the next run.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Run {
    /// First slot.
    pub from: Slot,
    /// What each of them says.
    pub signal: Signal,
}

/// The states that follow from `runs` (sorted, up to `end`), after `before` (`None`: nothing was known). The first
/// interval starts at the first run.
pub fn intervals(rule: &Rule, before: Option<&Interval>, runs: &[Run], end: Slot) -> Vec<Interval> {
    let mut machine = Machine {
        firm_up: before.and_then(|interval| interval.firm_up),
        cause: before.map_or(Cause::None, |interval| interval.cause),
        unknown: before.is_some_and(|interval| interval.state == State::Unknown),
        off: before.is_none_or(|interval| interval.state == State::NotInService),
        streak: None,
        found: Vec::new(),
    };
    for (i, run) in runs.iter().enumerate() {
        let next = runs.get(i + 1).map_or(end, |next| next.from);
        machine.run(rule, *run, next - run.from);
    }
    machine.found
}

/// From which run on states have to be judged again when slot `changed` changes: far enough back that the state before
/// it depends on nothing from `changed` on. `None`: from the very first.
///
/// The state of a slot depends on at most `lookahead` slots behind it, and a silent run counts as a whole: so
/// `lookahead` slots back to the start of a run, and the same once more, because splitting a silent run changes what
/// its first slots mean. `start_of` finds the start of the run that holds a slot.
pub fn rejudge_from<E>(
    rule: &Rule,
    changed: Slot,
    start_of: impl Fn(Slot) -> Result<Option<Slot>, E>,
) -> Result<Option<Slot>, E> {
    match start_of(changed - rule.lookahead())? {
        Some(start) => start_of(start - rule.lookahead()),
        None => Ok(None),
    }
}

struct Machine {
    firm_up: Option<bool>,
    cause: Cause,
    unknown: bool,
    off: bool,
    /// Slots against the firm state: good ones while down, bad ones while up.
    streak: Option<Streak>,
    found: Vec<Interval>,
}

struct Streak {
    good: bool,
    first: Slot,
    count: i64,
    cause: Cause,
}

impl Machine {
    fn run(&mut self, rule: &Rule, run: Run, length: i64) {
        if length <= 0 {
            return;
        }
        match run.signal {
            Signal::Off => {
                (self.firm_up, self.streak, self.unknown, self.off) = (None, None, false, true);
            }
            Signal::Gap => {
                (self.streak, self.unknown, self.off) = (None, true, false);
            }
            Signal::Silent if length < rule.silent_slots => {}
            Signal::Silent => self.decided(rule, false, run.from, length, Cause::Silence),
            Signal::Good => self.decided(rule, true, run.from, length, Cause::None),
            Signal::Bad(cause) => self.decided(rule, false, run.from, length, cause),
        }
        self.emit(run.from);
    }

    fn decided(&mut self, rule: &Rule, good: bool, from: Slot, length: i64, cause: Cause) {
        (self.unknown, self.off) = (false, false);
        if self.firm_up == Some(good) {
            self.streak = None;
            return;
        }
        let needed = match (good, self.firm_up) {
            (true, None) => 1,
            (true, Some(_)) => rule.good_slots,
            (false, _) => rule.bad_slots,
        };
        let streak = match self.streak.take() {
            Some(streak) if streak.good == good => Streak {
                count: streak.count + length,
                ..streak
            },
            _ => Streak {
                good,
                first: from,
                count: length,
                cause,
            },
        };
        if streak.count >= needed {
            self.firm_up = Some(good);
            self.cause = streak.cause;
            // What was said since the first of them is replaced.
            self.found.retain(|interval| interval.from < streak.first);
            self.emit(streak.first);
        } else {
            self.streak = Some(streak);
        }
    }

    fn emit(&mut self, from: Slot) {
        let state = match self.firm_up {
            _ if self.off => State::NotInService,
            _ if self.unknown => State::Unknown,
            None => State::Unknown,
            Some(true) => State::Up,
            Some(false) => State::Down,
        };
        let cause = if self.firm_up == Some(false) {
            self.cause
        } else {
            Cause::None
        };
        let next = Interval {
            from,
            state,
            firm_up: self.firm_up,
            cause,
        };
        match self.found.last() {
            Some(last)
                if (Interval {
                    from: last.from,
                    ..next
                }) == *last => {}
            _ => self.found.push(next),
        }
    }
}

#[cfg(test)]
mod tests;
