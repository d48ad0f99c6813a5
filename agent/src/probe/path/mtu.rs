//! Path MTU discovery: packets that may not be fragmented, of the sizes that [`super::search`] asks for.
//!
//! With ICMP the target sends back what it got, so a size passes when it passes both ways; a reply that is too large for
//! the way back comes in fragments, which IPv4 targets make at once and IPv6 targets after the first "packet too big"
//! that they get themselves. With UDP the target answers with a short error, of which most give a few at once and then
//! one a second: one size at a time.

use std::collections::BTreeSet;
use std::net::IpAddr;
use std::time::Duration;

use extranet_proto::assignment::PathTransport;
use extranet_proto::record::Reason;
use tokio::time::{Instant, timeout_at};

use super::line::{Line, NotSent};
use super::search::{Found, Next, Search};
use crate::net::refusal::Refusal;
use crate::packet::answer::Said;

/// Sizes tried at the same time with ICMP: three rounds from 576 to 1,500.
const WIDTH: u16 = 8;
/// How often a size is tried before it counts as silent: with 10 % of loss each way three fail once in 150 times, and
/// then the search goes on below, to find nothing between; with 1 % never.
const ATTEMPTS: u32 = 3;
/// How long an answer is waited for before any came, as in a trace.
const FIRST_PATIENCE: Duration = Duration::from_secs(3);
/// Three round trips and this much, behind the last attempt.
const PATIENCE_EXTRA: Duration = Duration::from_millis(150);
/// Between two attempts: longer than a round trip, so that a target that learns of a narrow way back from the first
/// reply can act upon it, and that routers are not asked for more messages than they give.
const SPACING_MIN: Duration = Duration::from_millis(60);

/// What a discovery came to.
#[derive(Debug, Clone, Copy)]
pub(super) struct Discovered {
    /// What was found, or why nothing was.
    pub(super) found: Result<Found, Refusal>,
    /// "Packet too big" messages for our packets.
    pub(super) too_big: u64,
    /// The last MTU that was told and could be, and by whom.
    pub(super) told: Option<(u16, Option<IpAddr>)>,
    /// How long it took.
    pub(super) took: Duration,
}

struct Discovery<'a> {
    line: &'a mut Line,
    search: Search,
    sizes: Vec<u16>,
    round_trip: Option<Duration>,
    refusal: Option<Reason>,
    too_big: u64,
    told: Option<(u16, Option<IpAddr>)>,
}

/// Finds the path MTU, at the latest until the deadline.
pub(super) async fn discover(
    line: &mut Line,
    transport: PathTransport,
    before: Option<u16>,
    deadline: Instant,
) -> Discovered {
    let width = match transport {
        PathTransport::Icmp => WIDTH,
        PathTransport::Udp | PathTransport::Tcp => 1,
    };
    let mut discovery = Discovery {
        search: Search::new(line.family(), width, before),
        line,
        sizes: Vec::new(),
        round_trip: None,
        refusal: None,
        too_big: 0,
        told: None,
    };
    let started = Instant::now();
    let found = discovery.run(deadline).await;
    Discovered {
        took: started.elapsed(),
        found,
        too_big: discovery.too_big,
        told: discovery.told,
    }
}

impl Discovery<'_> {
    async fn run(&mut self, deadline: Instant) -> Result<Found, Refusal> {
        self.line.forbid_fragments()?;
        loop {
            let sizes = match self.search.next() {
                Next::Try(sizes) => sizes,
                Next::Found(found) => return Ok(found),
                Next::NoAnswer => {
                    return Err(Refusal::failed(self.refusal.unwrap_or(Reason::Timeout)));
                }
            };
            self.round(sizes, deadline).await?;
            if Instant::now() >= deadline {
                // That large packets vanish is known even if the last byte is not.
                return self
                    .search
                    .so_far()
                    .filter(|found| found.black_hole)
                    .ok_or(Refusal::failed(self.refusal.unwrap_or(Reason::Timeout)));
            }
        }
    }

    /// Tries some sizes until each has its verdict.
    async fn round(&mut self, sizes: Vec<u16>, deadline: Instant) -> Result<(), Refusal> {
        let mut open: BTreeSet<u16> = sizes.into_iter().collect();
        for attempt in 1..=ATTEMPTS {
            for size in open.clone() {
                let index = u16::try_from(self.sizes.len()).unwrap_or(u16::MAX);
                self.sizes.push(size);
                match self.line.send(index, size).await {
                    Ok(()) => {}
                    Err(NotSent::TooLarge(mtu)) => {
                        self.search.too_large_here(size, mtu);
                        open.remove(&size);
                    }
                    Err(NotSent::Refused(refusal)) => return Err(refusal),
                }
            }
            let wait = if attempt < ATTEMPTS {
                self.spacing()
            } else {
                self.patience()
            };
            self.listen(&mut open, deadline.min(Instant::now() + wait))
                .await?;
            if open.is_empty() || Instant::now() >= deadline {
                break;
            }
        }
        if Instant::now() < deadline {
            for size in open {
                self.search.silent(size);
            }
        }
        Ok(())
    }

    fn spacing(&self) -> Duration {
        self.round_trip
            .map_or(Duration::from_secs(1), |round_trip| {
                (round_trip * 2).max(SPACING_MIN)
            })
    }

    fn patience(&self) -> Duration {
        let usual = self
            .round_trip
            .map(|round_trip| round_trip * 3 + PATIENCE_EXTRA);
        usual.unwrap_or(FIRST_PATIENCE).min(FIRST_PATIENCE)
    }

    /// Takes in what comes until every open size has its verdict or the time is over.
    async fn listen(&mut self, open: &mut BTreeSet<u16>, until: Instant) -> Result<(), Refusal> {
        loop {
            for event in self.line.read() {
                // Who quotes too little means the largest that is out.
                let size = match event.index {
                    Some(index) => self.sizes.get(usize::from(index)).copied(),
                    None => open.last().copied(),
                };
                let Some(size) = size else { continue };
                match event.said {
                    Said::Arrived => {
                        if let Some(index) = event.index {
                            let round_trip = self.line.round_trip(index, &event);
                            self.round_trip = self.round_trip.max(round_trip);
                        }
                        self.search.passed(size);
                        open.remove(&size);
                    }
                    Said::TooBig { mtu } => {
                        self.too_big += 1;
                        if let Some(told) = self.search.too_big(size, mtu) {
                            self.told = Some((told, event.from));
                            open.retain(|open| *open <= told);
                        }
                        open.remove(&size);
                    }
                    Said::Passing => self.refusal = Some(Reason::TimeExceeded),
                    Said::Refused(reason) => self.refusal = Some(reason),
                }
            }
            if open.is_empty() {
                return Ok(());
            }
            match timeout_at(until, self.line.readable()).await {
                Err(_) => return Ok(()),
                Ok(Ok(())) => {}
                Ok(Err(_)) => return Err(Refusal::not_measured(Reason::LocalError)),
            }
        }
    }
}
