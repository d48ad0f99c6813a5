//! SEC-04: the default gateway answers with another MAC address: its ARP or neighbour entry was forged, or the device
//! was replaced. Pure: what the kernel's neighbour table says, what is approved and the time come in.
//!
//! ```text
//!  first MAC      same for learn_after        unknown MAC: found
//! -----------> learning ------------> settled <----------------> strange
//!  another MAC: learning again          ^   back to a trusted MAC: over   |
//!                                       +-- steady for a day: trusted ----+
//! ```
//!
//! Trusted without a word: MAC addresses that were the gateway's before, those that the assignment approves for any
//! router of the site, and those of virtual routers (VRRP, HSRP), which move between machines by design.

use std::collections::BTreeMap;
use std::net::IpAddr;

use extranet_proto::assignment::Security;
use extranet_proto::mac::MacAddress;
use extranet_proto::record::{SecurityRule, Severity};

use super::{Evidence, Finding, Verdict};

/// Gateways that are remembered. A guess: two families on a few interfaces, each changed a few times.
const GATEWAYS: usize = 32;
/// MAC addresses of one gateway that are trusted; the oldest are forgotten.
const TRUSTED: usize = 8;
/// A strange MAC address that stays is the gateway's new one after this time, ms: a day. Who replaces a device and does
/// not say so in the inventory is reminded for so long.
const STEADY_MS: u64 = 86_400_000;

/// A gateway on an interface.
pub type Key = (String, IpAddr);

/// What is known of the gateways of this machine.
#[derive(Debug)]
pub struct Gateways {
    learn_after_ms: u64,
    known: BTreeMap<Key, Gateway>,
}

#[derive(Debug, Clone, PartialEq, Eq)]
struct Gateway {
    /// The last one is in use, unless there is a strange one.
    trusted: Vec<MacAddress>,
    /// When the trusted one in use was first seen, ms since boot; `None`: before this process.
    since_ms: Option<u64>,
    settled: bool,
    strange: Option<Strange>,
    /// When the gateway was seen last: the oldest makes room.
    seen_ms: u64,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct Strange {
    mac: MacAddress,
    since_ms: u64,
}

impl Gateways {
    /// With the trusted MAC addresses that were settled before.
    pub fn new(learn_after_ms: u64, settled: BTreeMap<Key, Vec<MacAddress>>) -> Self {
        let known = settled.into_iter().map(|(key, trusted)| {
            let gateway = Gateway {
                trusted,
                since_ms: None,
                settled: true,
                strange: None,
                seen_ms: 0,
            };
            (key, gateway)
        });
        Self {
            learn_after_ms,
            known: known.collect(),
        }
    }

    /// Trusted MAC addresses of settled gateways.
    pub fn settled(&self) -> BTreeMap<Key, Vec<MacAddress>> {
        let settled = self.known.iter().filter(|(_, gateway)| gateway.settled);
        settled
            .map(|(key, gateway)| (key.clone(), gateway.trusted.clone()))
            .collect()
    }

    /// The gateway answers with this MAC address now.
    pub fn seen(
        &mut self,
        link: &str,
        address: IpAddr,
        mac: MacAddress,
        security: &Security,
        now_ms: u64,
    ) -> Verdict {
        let key = (link.to_owned(), address);
        if !self.known.contains_key(&key) && self.known.len() >= GATEWAYS {
            self.forget_oldest();
        }
        let gateway = self.known.entry(key).or_insert_with(|| Gateway {
            trusted: vec![mac],
            since_ms: Some(now_ms),
            settled: false,
            strange: None,
            seen_ms: now_ms,
        });
        gateway.seen_ms = now_ms;
        let learnt = gateway
            .since_ms
            .is_some_and(|since_ms| now_ms.saturating_sub(since_ms) >= self.learn_after_ms);
        gateway.settled |= learnt;
        let approved = || {
            security
                .routers
                .iter()
                .any(|router| router.macs.contains(&mac))
        };
        if gateway.trusted.contains(&mac) || mac.is_virtual_router() || approved() {
            gateway.trust(mac, now_ms);
        } else if !gateway.settled {
            gateway.trusted = vec![mac];
            gateway.since_ms = Some(now_ms);
        } else {
            return gateway.strange(link, address, mac, now_ms);
        }
        Verdict::Over(SecurityRule::GatewayMac, vec![object(link, address)])
    }

    fn forget_oldest(&mut self) {
        let oldest = self.known.iter().min_by_key(|(_, gateway)| gateway.seen_ms);
        if let Some(key) = oldest.map(|(key, _)| key.clone()) {
            self.known.remove(&key);
        }
    }

    /// Settles what has been learnt long enough, and trusts strange MAC addresses that stayed: what is over by that.
    pub fn settle(&mut self, now_ms: u64) -> Vec<Verdict> {
        let mut over = Vec::new();
        for ((link, address), gateway) in &mut self.known {
            let since_ms = gateway.since_ms.unwrap_or(now_ms);
            gateway.settled |= now_ms.saturating_sub(since_ms) >= self.learn_after_ms;
            if let Some(strange) = gateway.strange
                && now_ms.saturating_sub(strange.since_ms) >= STEADY_MS
            {
                gateway.trust(strange.mac, now_ms);
                over.push(Verdict::Over(
                    SecurityRule::GatewayMac,
                    vec![object(link, *address)],
                ));
            }
        }
        over
    }
}

impl Gateways {
    /// When the next gateway could settle, ms since boot.
    pub fn next_ms(&self) -> Option<u64> {
        let learning = self.known.values().filter(|gateway| !gateway.settled);
        let since = learning.filter_map(|gateway| gateway.since_ms);
        since.map(|since_ms| since_ms + self.learn_after_ms).min()
    }
}

impl Gateway {
    fn trust(&mut self, mac: MacAddress, now_ms: u64) {
        self.strange = None;
        if self.trusted.last() == Some(&mac) {
            return;
        }
        self.trusted.retain(|known| *known != mac);
        self.trusted.push(mac);
        let surplus = self.trusted.len().saturating_sub(TRUSTED);
        self.trusted.drain(..surplus);
        self.since_ms = Some(now_ms);
    }

    fn strange(&mut self, link: &str, address: IpAddr, mac: MacAddress, now_ms: u64) -> Verdict {
        let strange = match self.strange {
            Some(strange) if strange.mac == mac => strange,
            _ => Strange {
                mac,
                since_ms: now_ms,
            },
        };
        self.strange = Some(strange);
        let mut evidence = Evidence::new();
        let mut fact = |name: &str, value: String| evidence.push((name.to_owned(), value));
        fact("interface", link.to_owned());
        fact("gateway", address.to_string());
        let before = self.trusted.last().map(ToString::to_string);
        fact("mac_before", before.unwrap_or_default());
        fact("mac_now", mac.to_string());
        let known = self.since_ms.map(|since_ms| {
            let known_ms = strange.since_ms.saturating_sub(since_ms);
            (known_ms / 1_000).to_string()
        });
        let before_start = "since before the agent started".to_owned();
        fact("mac_before_known_s", known.unwrap_or(before_start));
        Verdict::Found(Finding {
            rule: SecurityRule::GatewayMac,
            severity: Severity::Critical,
            object: object(link, address),
            evidence,
            lasting: true,
        })
    }
}

/// What an event about a gateway is about.
pub fn object(link: &str, address: IpAddr) -> String {
    format!("gateway {address} on {link}")
}

#[cfg(test)]
mod tests {
    use extranet_proto::assignment::ApprovedRouter;

    use super::*;

    const LEARN_MS: u64 = 600_000;
    const OWN: MacAddress = MacAddress([2, 0, 0, 0, 0, 1]);
    const FORGED: MacAddress = MacAddress([2, 0, 0, 0, 0, 0x66]);
    const VRRP: MacAddress = MacAddress([0, 0, 0x5e, 0, 1, 7]);

    struct Site(Gateways, Security);

    impl Site {
        fn learning() -> Self {
            Self(
                Gateways::new(LEARN_MS, BTreeMap::new()),
                Security::default(),
            )
        }

        /// Knows [`OWN`] for long.
        fn settled() -> Self {
            let mut site = Self::learning();
            site.seen(OWN, 0);
            site.seen(OWN, LEARN_MS);
            site
        }

        fn seen(&mut self, mac: MacAddress, now_ms: u64) -> Verdict {
            self.0
                .seen("eth0", [10, 0, 0, 1].into(), mac, &self.1, now_ms)
        }
    }

    fn over() -> Verdict {
        Verdict::Over(
            SecurityRule::GatewayMac,
            vec!["gateway 10.0.0.1 on eth0".to_owned()],
        )
    }

    fn found(verdict: Verdict) -> Finding {
        match verdict {
            Verdict::Found(finding) => finding,
            other => panic!("{other:?}"),
        }
    }

    #[test]
    fn another_mac_of_a_settled_gateway_is_told_until_the_old_one_is_back() {
        let mut site = Site::settled();
        let finding = found(site.seen(FORGED, LEARN_MS + 7_000));
        assert_eq!(
            (finding.severity, finding.lasting),
            (Severity::Critical, true)
        );
        let expected = [
            ("interface", "eth0"),
            ("gateway", "10.0.0.1"),
            ("mac_before", "02:00:00:00:00:01"),
            ("mac_now", "02:00:00:00:00:66"),
            ("mac_before_known_s", "607"),
        ];
        let expected = expected.map(|(name, value)| (name.to_owned(), value.to_owned()));
        assert_eq!(finding.evidence, expected);
        let again = found(site.seen(FORGED, LEARN_MS + 90_000));
        assert_eq!(again, finding, "nothing changes while it stays");
        assert_eq!(site.seen(OWN, LEARN_MS + 99_000), over());
    }

    #[test]
    fn a_gateway_is_learnt_before_it_is_judged() {
        let mut site = Site::learning();
        assert_eq!(site.seen(OWN, 0), over());
        assert_eq!(site.seen(FORGED, LEARN_MS - 1), over(), "not settled yet");
        assert_eq!(
            site.seen(OWN, LEARN_MS),
            over(),
            "and learning again since then"
        );
        assert!(site.0.settled().is_empty());
        assert!(site.0.settle(2 * LEARN_MS).is_empty());
        assert_eq!(site.0.settled().len(), 1);
        found(site.seen(FORGED, 2 * LEARN_MS));
    }

    #[test]
    fn virtual_routers_and_approved_ones_are_silent() {
        let mut site = Site::settled();
        for mac in [VRRP, OWN, VRRP] {
            assert_eq!(site.seen(mac, LEARN_MS + 1), over(), "failover to {mac}");
        }
        found(site.seen(FORGED, LEARN_MS + 2));
        // Somebody enters the new device into the inventory.
        site.1.routers.push(ApprovedRouter {
            name: "ce".to_owned(),
            macs: vec![FORGED],
            link_locals: Vec::new(),
            prefixes: Vec::new(),
        });
        assert_eq!(site.seen(FORGED, LEARN_MS + 3), over());
    }

    #[test]
    fn a_replaced_device_is_trusted_after_a_day() {
        let mut site = Site::settled();
        found(site.seen(FORGED, LEARN_MS));
        assert_eq!(site.0.settle(LEARN_MS + STEADY_MS - 1), []);
        assert_eq!(site.0.settle(LEARN_MS + STEADY_MS), [over()]);
        assert_eq!(site.seen(FORGED, LEARN_MS + STEADY_MS), over());
        assert_eq!(site.0.settle(LEARN_MS + 3 * STEADY_MS), []);
    }

    #[test]
    fn what_was_settled_before_a_restart_counts_at_once() {
        let kept = Site::settled().0.settled();
        let mut site = Site(Gateways::new(LEARN_MS, kept), Security::default());
        let finding = found(site.seen(FORGED, 5));
        let before = (
            "mac_before_known_s".to_owned(),
            "since before the agent started".to_owned(),
        );
        assert!(finding.evidence.contains(&before));
    }

    #[test]
    fn memory_stays_bounded() {
        let mut site = Site::settled();
        for last in 0..=255 {
            let key = [10, 0, 1, last].into();
            let now_ms = LEARN_MS + u64::from(last);
            site.0.seen("eth0", key, OWN, &site.1, now_ms);
        }
        assert_eq!(site.0.known.len(), GATEWAYS);
        let mut site = Site::settled();
        for last in 0..=255 {
            site.seen(MacAddress([0, 0, 0x5e, 0, 1, last]), LEARN_MS);
        }
        let trusted = site.0.settled().into_values().next().unwrap();
        assert_eq!(trusted.len(), TRUSTED);
    }
}
