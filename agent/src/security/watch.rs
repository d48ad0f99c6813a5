//! The task of the security watch: follows the kernel's tables and the sensor, asks the rules, and records what becomes
//! of their findings. All decisions stand in [`super::routers`], [`super::gateways`] and [`super::life`].

use std::collections::{BTreeMap, BTreeSet};
use std::io;
use std::net::{IpAddr, Ipv6Addr};
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use extranet_proto::id::BootId;
use extranet_proto::mac::MacAddress;
use extranet_proto::record::{SecurityAction, SecurityEvent, SecurityRule};
use tokio::sync::{mpsc, watch};
use tokio::time::sleep;

use super::Verdict;
use super::gateways::Gateways;
use super::life::Life;
use super::memory::{Memory, MemoryError, path};
use super::routers::{Routers, Sighting};
use crate::clock::Clock;
use crate::config::SecurityConfig;
use crate::control::Plan;
use crate::net::netlink::Netlink;
use crate::net::segment_news::{SegmentNews, Told};
use crate::packet::rtnetlink::Dump;
use crate::packet::rtnetlink::segment::{DefaultRoute, Neighbour, News};
use crate::result::Recorder;
use crate::self_stats::{Stats, count};
use crate::sensor::message::Received;
use crate::shell::{Shutdown, Stage, error_chain};
use crate::state_file;

/// Neighbours that are remembered: as many as the kernel keeps by default (`gc_thresh3`).
const NEIGHBOURS: usize = 1_024;
/// Default routes that are remembered.
const ROUTES: usize = 64;
/// How often time alone may change something: what is learnt settles, what is steady is trusted.
const TICK_MS: u64 = 60_000;
/// What was learnt is written at most this often, ms.
const KEEP_MS: u64 = 1_000;
/// Pause after the kernel refused to tell news.
const RETRY: Duration = Duration::from_secs(10);

/// What the task needs.
#[derive(Debug)]
pub struct Watch {
    /// Times.
    pub config: SecurityConfig,
    /// Where the memory is kept.
    pub state_dir: PathBuf,
    /// This boot.
    pub boot: BootId,
    /// What is approved.
    pub plans: watch::Receiver<Arc<Plan>>,
    /// What the sensor hears.
    pub adverts: mpsc::Receiver<Received>,
    /// Whether there is a sensor.
    pub sensor: watch::Receiver<bool>,
    /// Where events go.
    pub recorder: Recorder,
    /// Times of findings.
    pub clock: Clock,
    /// Counts.
    pub stats: Arc<Stats>,
}

impl Watch {
    /// Watches until the shutdown.
    pub async fn run(self, shutdown: Shutdown) {
        let mut task = Task::new(self);
        let mut complained = false;
        loop {
            let ended = tokio::select! {
                ended = task.follow() => ended,
                () = shutdown.reached(Stage::NoNewWork) => Ok(()),
            };
            match ended {
                Ok(()) => break,
                Err(error) => {
                    // Where the kernel never tells (a container without netlink), one line is enough.
                    if !std::mem::replace(&mut complained, true) {
                        let error = error_chain(&error);
                        tracing::error!(error, "the segment cannot be watched, trying again");
                    }
                    tokio::select! {
                        () = sleep(RETRY) => {}
                        () = shutdown.reached(Stage::NoNewWork) => break,
                    }
                }
            }
        }
        task.keep().await;
    }
}

struct Task {
    given: Watch,
    segment: Segment,
    routers: Routers,
    gateways: Gateways,
    life: Life,
    kept: Memory,
    kept_ms: u64,
}

/// The kernel's tables as far as they matter.
#[derive(Debug, Default)]
struct Segment {
    names: BTreeMap<u32, String>,
    macs: BTreeMap<(u32, IpAddr), MacAddress>,
    /// With whether a router advertisement made the route.
    defaults: BTreeMap<(u32, IpAddr), bool>,
}

impl Task {
    fn new(given: Watch) -> Self {
        let kept = match Memory::load(&given.state_dir, given.boot) {
            Ok(memory) => memory.unwrap_or_default(),
            Err(error) => {
                // Learning again is safer than not watching; the damaged file is kept for people.
                tracing::error!(
                    error = error_chain(&error),
                    "what the watch had learnt is lost"
                );
                drop(state_file::set_aside(&path(&given.state_dir)));
                Memory::default()
            }
        };
        let ms = |duration: Duration| u64::try_from(duration.as_millis()).unwrap_or(u64::MAX);
        let learn_after_ms = ms(given.config.learn_after);
        let now = given.clock.read().record_time();
        let hold_down_ms = ms(given.config.hold_down);
        Self {
            segment: Segment::default(),
            routers: Routers::new(learn_after_ms, kept.routers.clone()),
            gateways: Gateways::new(learn_after_ms, kept.gateways.clone()),
            life: Life::new(hold_down_ms, kept.open.clone(), now),
            kept,
            kept_ms: 0,
            given,
        }
    }

    /// Until the kernel's news fail.
    async fn follow(&mut self) -> io::Result<()> {
        // Listened to before the tables are read, so that nothing falls between.
        let mut news = SegmentNews::open()?;
        self.read_all()?;
        loop {
            let wait = self.rest().await;
            tokio::select! {
                told = news.next() => match told? {
                    Told::News(news) => self.news(news)?,
                    Told::Lost => {
                        self.given.stats.security_resyncs.inc();
                        self.read_all()?;
                    }
                },
                Some(received) = self.given.adverts.recv() => self.advert(received),
                Ok(()) = self.given.plans.changed() => {
                    self.given.plans.mark_unchanged();
                    // What is approved may be other than before.
                    self.judge_all();
                }
                () = sleep(wait) => {}
            }
        }
    }

    /// What time alone brings: clears, settles, keeps. How long nothing more is to be done.
    async fn rest(&mut self) -> Duration {
        let now = self.given.clock.read().record_time();
        for link in self.routers.settle(now.boottime_ms) {
            tracing::info!(link, "the routers of this interface are learnt");
        }
        for verdict in self.gateways.settle(now.boottime_ms) {
            self.take(verdict);
        }
        for event in self.life.tick(now) {
            self.record(event);
        }
        let open = i64::try_from(self.life.open().len()).unwrap_or(i64::MAX);
        self.given.stats.security_open.set(open);
        let mut wait_ms = TICK_MS;
        if Memory::of(&self.routers, &self.gateways, &self.life) != self.kept {
            let due_ms = self.kept_ms.saturating_add(KEEP_MS);
            if due_ms <= now.boottime_ms {
                self.keep().await;
            } else {
                wait_ms = due_ms - now.boottime_ms;
            }
        }
        let next = [
            self.life.next_ms(),
            self.routers.next_ms(),
            self.gateways.next_ms(),
        ];
        for next_ms in next.into_iter().flatten() {
            wait_ms = wait_ms.min(next_ms.saturating_sub(now.boottime_ms));
        }
        Duration::from_millis(wait_ms.max(1))
    }

    /// Writes down what is known, when it is other than what was written last.
    async fn keep(&mut self) {
        let memory = Memory::of(&self.routers, &self.gateways, &self.life);
        if memory == self.kept {
            return;
        }
        self.kept_ms = self.given.clock.read().record_time().boottime_ms;
        let (path, boot) = (path(&self.given.state_dir), self.given.boot);
        let text = memory.text(boot);
        self.kept = memory;
        let written = tokio::task::spawn_blocking(move || -> Result<(), MemoryError> {
            Ok(state_file::write(&path, text?.as_bytes())?)
        });
        if let Ok(Err(error)) = written.await {
            tracing::warn!(
                error = error_chain(&error),
                "what the watch has learnt is not kept"
            );
        }
    }

    /// Reads the kernel's tables from the beginning.
    fn read_all(&mut self) -> io::Result<()> {
        let mut netlink = Netlink::open()?;
        let before = std::mem::take(&mut self.segment);
        for dump in [Dump::Links, Dump::Neighbours, Dump::Routes] {
            for news in netlink.state(dump)? {
                self.segment.apply(&news);
            }
        }
        let gone: Vec<_> = before
            .defaults
            .into_keys()
            .filter(|key| !self.segment.defaults.contains_key(key))
            .collect();
        for (link, gateway) in gone {
            if let Some(name) = before.names.get(&link) {
                self.gateway_gone(name, gateway);
            }
        }
        self.judge_all();
        Ok(())
    }

    /// Judges everything that is there now.
    fn judge_all(&mut self) {
        let gateways: Vec<_> = self.segment.defaults.keys().copied().collect();
        for (link, gateway) in gateways {
            self.judge_gateway(link, gateway);
        }
    }

    fn news(&mut self, news: Vec<News>) -> io::Result<()> {
        let mut touched = BTreeSet::new();
        let mut read_again = false;
        for one in news {
            match &one {
                News::Neighbour(Neighbour { link, address, .. }) => {
                    self.segment.apply(&one);
                    // Each change counts, also one that is over a moment later.
                    self.judge_gateway_if(*link, *address);
                }
                News::DefaultRoute { route, gone } => {
                    if *gone {
                        // Another route through the same gateway may be left.
                        read_again = true;
                    } else {
                        self.segment.apply(&one);
                        touched.insert((route.link, route.gateway));
                    }
                }
                // IPv4 routes go with their link without a word.
                News::Link { .. } => read_again = true,
            }
        }
        if read_again {
            return self.read_all();
        }
        for (link, gateway) in touched {
            self.judge_gateway_if(link, gateway);
        }
        Ok(())
    }

    fn judge_gateway_if(&mut self, link: u32, address: IpAddr) {
        if self.segment.defaults.contains_key(&(link, address)) {
            self.judge_gateway(link, address);
        }
    }

    /// A default gateway with what is known of it now.
    fn judge_gateway(&mut self, link: u32, gateway: IpAddr) {
        let Some(name) = self.segment.names.get(&link).cloned() else {
            return;
        };
        let plan = Arc::clone(&self.given.plans.borrow());
        let now_ms = self.given.clock.read().record_time().boottime_ms;
        let mac = self.segment.macs.get(&(link, gateway)).copied();
        if let Some(mac) = mac {
            let security = &plan.security;
            let verdict = self.gateways.seen(&name, gateway, mac, security, now_ms);
            self.take(verdict);
        }
        let by_advert = self.segment.defaults.get(&(link, gateway)) == Some(&true);
        let IpAddr::V6(source) = gateway else {
            return;
        };
        if !by_advert {
            return;
        }
        if *self.given.sensor.borrow() {
            // The sensor tells more about it, sooner or later; what it told already holds as long as the route.
            let object = super::routers::object(source, &name);
            self.life.lasts(SecurityRule::RogueRa, &object);
            return;
        }
        // A route comes before its gateway is resolved: the MAC follows as news of the neighbour.
        if mac.is_some() {
            let sighting = Sighting {
                link: name,
                source,
                mac,
                advert: None,
                in_use: true,
            };
            let verdict = self.routers.seen(&sighting, &plan.security, now_ms);
            self.take(verdict);
        }
    }

    /// The machine no longer uses a gateway: whatever was wrong about it is so no longer.
    fn gateway_gone(&mut self, link: &str, gateway: IpAddr) {
        let object = super::gateways::object(link, gateway);
        self.take(Verdict::Over(SecurityRule::GatewayMac, vec![object]));
        if let IpAddr::V6(source) = gateway {
            let object = super::routers::object(source, link);
            self.take(Verdict::Over(SecurityRule::RogueRa, vec![object]));
        }
    }

    /// A router advertisement from the sensor.
    fn advert(&mut self, received: Received) {
        let Received {
            link,
            source,
            advert,
        } = received;
        let name = self.segment.names.get(&link).cloned();
        let plan = Arc::clone(&self.given.plans.borrow());
        let now_ms = self.given.clock.read().record_time().boottime_ms;
        let sighting = Sighting {
            link: name.unwrap_or_else(|| format!("interface {link}")),
            source,
            // What hosts believe is what the advertisement says (RFC 4861 section 6.3.4), then what they resolved.
            mac: advert.mac.or_else(|| self.mac_of(link, source)),
            advert: Some(advert),
            in_use: self.segment.defaults.contains_key(&(link, source.into())),
        };
        let verdict = self.routers.seen(&sighting, &plan.security, now_ms);
        self.take(verdict);
    }

    fn mac_of(&self, link: u32, source: Ipv6Addr) -> Option<MacAddress> {
        self.segment.macs.get(&(link, source.into())).copied()
    }

    fn take(&mut self, verdict: Verdict) {
        let now = self.given.clock.read().record_time();
        match verdict {
            Verdict::Quiet => {}
            Verdict::Over(rule, objects) => {
                for object in objects {
                    self.life.over(rule, &object, now);
                }
            }
            Verdict::Found(finding) => {
                if let Some(event) = self.life.found(finding, now) {
                    self.record(event);
                }
            }
        }
    }

    fn record(&self, event: SecurityEvent) {
        let (rule, object) = (event.rule, event.object.as_str());
        if event.action == SecurityAction::Raised {
            tracing::warn!(%rule, object, severity = %event.severity, evidence = ?event.evidence, "security event");
        } else {
            tracing::info!(%rule, object, "security event is over");
        }
        count(&self.given.stats.security_events, event.action.label(), 1);
        self.given.recorder.security(event);
    }
}

impl Segment {
    fn apply(&mut self, news: &News) {
        match news {
            News::Link { link, gone } => {
                if *gone {
                    self.names.remove(&link.index);
                } else {
                    self.names.insert(link.index, link.name.clone());
                }
            }
            News::Neighbour(Neighbour { link, address, mac }) => {
                let key = (*link, *address);
                match mac {
                    Some(mac) if self.macs.len() < NEIGHBOURS || self.macs.contains_key(&key) => {
                        self.macs.insert(key, *mac);
                    }
                    Some(_) => {}
                    None => {
                        self.macs.remove(&key);
                    }
                }
            }
            News::DefaultRoute { route, gone } => {
                let DefaultRoute {
                    link,
                    gateway,
                    by_advert,
                } = *route;
                let key = (link, gateway);
                if *gone {
                    self.defaults.remove(&key);
                } else if self.defaults.len() < ROUTES || self.defaults.contains_key(&key) {
                    self.defaults.insert(key, by_advert);
                }
            }
        }
    }
}
