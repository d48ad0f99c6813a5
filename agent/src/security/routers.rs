//! SEC-01: router advertisements that nobody approved. Pure: what was heard, what is approved and the time come in.
//!
//! What is compared, in this order:
//! 1. Where the assignment names approved routers, they alone count for all interfaces.
//! 2. Otherwise each interface learns: every router that advertises itself, or is the default gateway, within
//!    `learn_after` of the first one belongs to the site from then on. Nothing cries before.
//!
//! What is wrong with an advertisement, see [`Deviation`]. It is critical when hosts that listen change their default
//! route by it, major otherwise.

use std::collections::{BTreeMap, BTreeSet};
use std::fmt::Write as _;
use std::net::Ipv6Addr;

use extranet_proto::assignment::{ApprovedRouter, Prefix6, Security};
use extranet_proto::mac::MacAddress;
use extranet_proto::record::{SecurityRule, Severity};

use super::{Evidence, Finding, Verdict};
use crate::packet::router_advert::RouterAdvert;

/// Interfaces that are remembered. A guess: far more than an access point has.
const LINKS: usize = 64;
/// Routers of one interface that are learnt.
const ROUTERS: usize = 8;
/// MAC addresses and prefixes that are learnt of one router.
const MACS: usize = 8;
const PREFIXES: usize = 32;
/// Default routers whose withdrawal is noticed.
const DEFAULTS: usize = 64;

/// A router that made itself known.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Sighting {
    /// Name of the interface.
    pub link: String,
    /// Its link-local address.
    pub source: Ipv6Addr,
    /// Its MAC address, as far as anybody knows.
    pub mac: Option<MacAddress>,
    /// What it advertised; `None`: it is only known from the machine's routes (tier 0).
    pub advert: Option<RouterAdvert>,
    /// This machine uses it as default gateway now.
    pub in_use: bool,
}

impl Sighting {
    fn offers_default_route(&self) -> bool {
        let advert = self.advert.as_ref();
        advert.is_none_or(|advert| advert.lifetime_s > 0)
    }
}

/// A router that belongs to the site.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Known {
    /// In the inventory, or `learnt`.
    pub name: String,
    /// Recognised by any of these,
    pub macs: Vec<MacAddress>,
    /// or any of these.
    pub link_locals: Vec<Ipv6Addr>,
    /// Each advertised prefix must lie within one of these; empty = any.
    pub prefixes: Vec<Prefix6>,
    /// What it said of itself when it was learnt; nobody says it of an approved one.
    pub claims: Option<Claims>,
}

/// What a router says besides prefixes that hosts act on.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Claims {
    /// Flag M.
    pub managed: bool,
    /// Flag O.
    pub other: bool,
    /// `high`, `medium`, `low`
    pub preference: String,
    /// RDNSS, sorted.
    pub name_servers: Vec<Ipv6Addr>,
    /// bytes
    pub mtu: Option<u32>,
}

/// How an advertisement differs from what belongs to the site.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Deviation {
    /// No known router has this MAC or link-local address.
    Sender,
    /// A known address with an unknown MAC that is no virtual router's.
    Mac,
    /// A known MAC with an unknown address.
    Address,
    /// The default gateway says that it is none: hosts drop their default route.
    Withdrawn,
    /// A prefix outside of what the router may advertise.
    Prefix,
    /// Flag M, flag O, preference, MTU or name servers differ from what was learnt.
    Claims,
    /// Options that are damaged or too many to look at: something hides in them.
    Unreadable,
}

impl Deviation {
    /// For evidence.
    pub const fn label(self) -> &'static str {
        match self {
            Self::Sender => "sender",
            Self::Mac => "mac",
            Self::Address => "address",
            Self::Withdrawn => "withdrawn",
            Self::Prefix => "prefix",
            Self::Claims => "claims",
            Self::Unreadable => "unreadable",
        }
    }
}

/// How a sighting differs from the known routers; empty: it is one of them. `was_default`: it was a default router
/// before.
pub fn judge(sighting: &Sighting, known: &[Known], was_default: bool) -> BTreeSet<Deviation> {
    let matching = known.iter().filter(|known| known.recognises(sighting));
    // Of several that share an address, the best fit counts.
    let judged = matching.map(|known| known.judge(sighting, was_default));
    let best = judged.min_by_key(BTreeSet::len);
    best.unwrap_or_else(|| BTreeSet::from([Deviation::Sender]))
}

impl Known {
    fn recognises(&self, sighting: &Sighting) -> bool {
        self.has_mac(sighting) == Some(true) || self.link_locals.contains(&sighting.source)
    }

    /// `None`: the MAC address of the sender is not known.
    fn has_mac(&self, sighting: &Sighting) -> Option<bool> {
        sighting.mac.map(|mac| self.macs.contains(&mac))
    }

    fn judge(&self, sighting: &Sighting, was_default: bool) -> BTreeSet<Deviation> {
        let mut found = BTreeSet::new();
        // A virtual router moves between machines by design (VRRP, HSRP): its address names it.
        let virtual_router = sighting.mac.is_some_and(MacAddress::is_virtual_router);
        if !self.macs.is_empty() && self.has_mac(sighting) == Some(false) && !virtual_router {
            found.insert(Deviation::Mac);
        }
        if !self.link_locals.is_empty() && !self.link_locals.contains(&sighting.source) {
            found.insert(Deviation::Address);
        }
        let Some(advert) = &sighting.advert else {
            return found;
        };
        if advert.lifetime_s == 0 && was_default {
            found.insert(Deviation::Withdrawn);
        }
        let allowed = |address, length| {
            self.prefixes.is_empty() || self.prefixes.iter().any(|own| own.covers(address, length))
        };
        if !advert
            .prefixes
            .iter()
            .all(|prefix| allowed(prefix.address, prefix.length))
        {
            found.insert(Deviation::Prefix);
        }
        if self
            .claims
            .as_ref()
            .is_some_and(|claims| *claims != Claims::of(advert))
        {
            found.insert(Deviation::Claims);
        }
        if advert.incomplete {
            found.insert(Deviation::Unreadable);
        }
        found
    }
}

impl Claims {
    fn of(advert: &RouterAdvert) -> Self {
        let mut name_servers = advert.name_servers.clone();
        name_servers.sort_unstable();
        Self {
            managed: advert.managed,
            other: advert.other,
            preference: advert.preference.label().to_owned(),
            name_servers,
            mtu: advert.mtu,
        }
    }
}

impl From<&ApprovedRouter> for Known {
    fn from(router: &ApprovedRouter) -> Self {
        Self {
            name: router.name.clone(),
            macs: router.macs.clone(),
            link_locals: router.link_locals.clone(),
            prefixes: router.prefixes.clone(),
            claims: None,
        }
    }
}

/// Of hosts that listen to the advertisement.
fn severity(sighting: &Sighting, deviations: &BTreeSet<Deviation>) -> Severity {
    let stranger = [Deviation::Sender, Deviation::Mac, Deviation::Address];
    let stranger = stranger.iter().any(|one| deviations.contains(one));
    let default_router = sighting.offers_default_route();
    if deviations.contains(&Deviation::Withdrawn) || (stranger && default_router) {
        Severity::Critical
    } else {
        Severity::Major
    }
}

/// What is known of the routers of each interface.
#[derive(Debug)]
pub struct Routers {
    learn_after_ms: u64,
    links: BTreeMap<String, Segment>,
    /// Routers that were default routers when they were last heard.
    defaults: BTreeSet<(String, Ipv6Addr)>,
}

/// What is known of an interface.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Segment {
    /// Since the first router was seen, ms since boot.
    Learning {
        /// Then.
        since_ms: u64,
        /// Those so far.
        routers: Vec<Known>,
    },
    /// These belong to it.
    Settled(Vec<Known>),
}

impl Routers {
    /// With what was learnt before.
    pub fn new(learn_after_ms: u64, settled: BTreeMap<String, Vec<Known>>) -> Self {
        let settled = settled.into_iter();
        Self {
            learn_after_ms,
            links: settled
                .map(|(link, known)| (link, Segment::Settled(known)))
                .collect(),
            defaults: BTreeSet::new(),
        }
    }

    /// What is known of each interface.
    pub fn links(&self) -> &BTreeMap<String, Segment> {
        &self.links
    }

    /// Judges a sighting.
    pub fn seen(&mut self, sighting: &Sighting, security: &Security, now_ms: u64) -> Verdict {
        let key = (sighting.link.clone(), sighting.source);
        let was_default = self.defaults.contains(&key);
        let approved: Vec<Known> = security.routers.iter().map(Into::into).collect();
        let known = if !approved.is_empty() {
            &approved
        } else if let Some(learnt) = self.learn(sighting, now_ms) {
            learnt
        } else {
            self.note_default(key, sighting);
            return Verdict::Quiet;
        };
        let deviations = judge(sighting, known, was_default);
        let object = object(sighting.source, &sighting.link);
        let withdrawal = format!("withdrawal of {object}");
        if deviations.is_empty() {
            let mut over = vec![object];
            over.extend(sighting.offers_default_route().then_some(withdrawal));
            self.note_default(key, sighting);
            return Verdict::Over(SecurityRule::RogueRa, over);
        }
        // An event of its own: it is not over when the route is gone, which is what it brings about.
        let withdrawn = deviations.contains(&Deviation::Withdrawn);
        Verdict::Found(Finding {
            rule: SecurityRule::RogueRa,
            severity: severity(sighting, &deviations),
            object: if withdrawn { withdrawal } else { object },
            evidence: evidence(sighting, &deviations, known, !approved.is_empty()),
            lasting: sighting.in_use || withdrawn,
        })
    }

    /// The routers of a settled interface; `None` while it learns.
    fn learn(&mut self, sighting: &Sighting, now_ms: u64) -> Option<&Vec<Known>> {
        if !self.links.contains_key(&sighting.link) && self.links.len() >= LINKS {
            return None;
        }
        let segment = self.links.entry(sighting.link.clone());
        let segment = segment.or_insert_with(|| Segment::Learning {
            since_ms: now_ms,
            routers: Vec::new(),
        });
        if let Segment::Learning { since_ms, routers } = segment {
            if now_ms.saturating_sub(*since_ms) < self.learn_after_ms {
                note(routers, sighting);
                return None;
            }
            if routers.is_empty() {
                note(routers, sighting);
            }
            *segment = Segment::Settled(std::mem::take(routers));
        }
        match segment {
            Segment::Settled(known) => Some(known),
            Segment::Learning { .. } => None,
        }
    }

    /// Settles what has been learnt long enough; the names of those interfaces.
    pub fn settle(&mut self, now_ms: u64) -> Vec<String> {
        let mut settled = Vec::new();
        for (link, segment) in &mut self.links {
            if let Segment::Learning { since_ms, routers } = segment
                && now_ms.saturating_sub(*since_ms) >= self.learn_after_ms
            {
                *segment = Segment::Settled(std::mem::take(routers));
                settled.push(link.clone());
            }
        }
        settled
    }

    /// When the next interface could settle, ms since boot.
    pub fn next_ms(&self) -> Option<u64> {
        let settles = |segment: &Segment| match segment {
            Segment::Learning { since_ms, .. } => Some(since_ms + self.learn_after_ms),
            Segment::Settled(_) => None,
        };
        self.links.values().filter_map(settles).min()
    }

    fn note_default(&mut self, key: (String, Ipv6Addr), sighting: &Sighting) {
        if sighting.offers_default_route() && self.defaults.len() < DEFAULTS {
            self.defaults.insert(key);
        }
    }
}

/// What an event about a router is about.
pub fn object(source: Ipv6Addr, link: &str) -> String {
    format!("router {source} on {link}")
}

/// Adds a router to those of a learning interface, or what it says now to what it said before.
fn note(routers: &mut Vec<Known>, sighting: &Sighting) {
    let seen_before = |known: &Known| known.link_locals.contains(&sighting.source);
    let at = routers
        .iter()
        .position(seen_before)
        .unwrap_or(routers.len());
    if at == routers.len() && at < ROUTERS {
        routers.push(Known {
            name: "learnt".to_owned(),
            macs: Vec::new(),
            link_locals: vec![sighting.source],
            prefixes: Vec::new(),
            claims: None,
        });
    }
    let Some(known) = routers.get_mut(at) else {
        return;
    };
    if let Some(mac) = sighting.mac
        && known.macs.len() < MACS
        && !known.macs.contains(&mac)
    {
        known.macs.push(mac);
    }
    let Some(advert) = &sighting.advert else {
        return;
    };
    for prefix in &advert.prefixes {
        if let Ok(prefix) = prefix.to_string().parse()
            && known.prefixes.len() < PREFIXES
            && !known.prefixes.contains(&prefix)
        {
            known.prefixes.push(prefix);
        }
    }
    known.claims = Some(Claims::of(advert));
}

fn evidence(
    sighting: &Sighting,
    deviations: &BTreeSet<Deviation>,
    known: &[Known],
    approved: bool,
) -> Evidence {
    let mut evidence = Evidence::new();
    let mut fact = |name: &str, value: String| evidence.push((name.to_owned(), value));
    fact("interface", sighting.link.clone());
    fact("source", sighting.source.to_string());
    fact(
        "mac",
        sighting
            .mac
            .map_or_else(|| "unknown".to_owned(), |mac| mac.to_string()),
    );
    fact(
        "deviations",
        joined(deviations.iter().map(|one| one.label())),
    );
    if let Some(advert) = &sighting.advert {
        fact("router_lifetime_s", advert.lifetime_s.to_string());
        fact("preference", advert.preference.label().to_owned());
        fact("prefixes", joined(&advert.prefixes));
        fact("name_servers", joined(&advert.name_servers));
        fact("managed", advert.managed.to_string());
        fact("other", advert.other.to_string());
        let mtu = advert.mtu.map(|mtu| mtu.to_string());
        fact("mtu", mtu.unwrap_or_default());
    }
    fact("in_use_here", sighting.in_use.to_string());
    fact(
        "seen_by",
        if sighting.advert.is_some() {
            "sensor"
        } else {
            "routes"
        }
        .to_owned(),
    );
    fact(
        "compared_with",
        if approved { "inventory" } else { "learnt" }.to_owned(),
    );
    fact("known_routers", joined(known.iter().map(shown)));
    evidence
}

fn shown(known: &Known) -> String {
    let addresses = known.link_locals.iter().map(ToString::to_string);
    let macs = known.macs.iter().map(ToString::to_string);
    let all: Vec<String> = addresses.chain(macs).collect();
    format!("{}({})", known.name, all.join(","))
}

fn joined<T: std::fmt::Display>(items: impl IntoIterator<Item = T>) -> String {
    let mut text = String::new();
    for item in items {
        let space = if text.is_empty() { "" } else { " " };
        write!(text, "{space}{item}").expect("writing into a string cannot fail");
    }
    text
}

#[cfg(test)]
mod tests;
