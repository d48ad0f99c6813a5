//! What a request looks like on the wire, and where it leaves.

use extranet_agent::probe::Measured;
use extranet_proto::record::{Outcome, Reason};
use extranet_tests::forwarder::Forwarder;

use super::{AMPLE, FAR, Rig, echoes, measure, quiet, verdict};

const GOOD: (Outcome, Reason) = (Outcome::Ok, Reason::None);

/// The first packet of the site with an IP header of this version.
async fn first_request(link: &Forwarder, version: u8) -> Vec<u8> {
    quiet(link).await;
    link.captured()
        .into_iter()
        .find(|captured| captured.forth && captured.packet[0] >> 4 == version)
        .expect("a request left")
        .packet
}

#[test]
fn a_request_without_options_is_an_ordinary_one() {
    Rig::new().with_both_tiers(async |probes, link| {
        for (address, version) in FAR.into_iter().zip([4, 6]) {
            link.capture(100);
            let measured = measure(probes, &echoes(1, 1), address, AMPLE).await;
            assert_eq!(verdict(&measured), GOOD);
            let packet = first_request(link, version).await;
            if version == 4 {
                assert_eq!((packet[1], packet[8], packet.len()), (0, 64, 20 + 8 + 56));
            } else {
                assert_eq!((packet[0], packet[1] >> 4, packet[7]), (0x60, 0, 64));
                assert_eq!(packet.len(), 40 + 8 + 56);
            }
        }
    });
}

#[test]
fn options_are_on_the_wire() {
    let rig = Rig::new();
    rig.site
        .ip(&["address", "add", "10.9.1.77/24", "dev", "up0"]);
    rig.site
        .ip(&["address", "add", "fd00:9:1::77/64", "dev", "up0", "nodad"]);
    rig.with_both_tiers(async |probes, link| {
        for (address, source, version) in [(FAR[0], "10.9.1.77", 4), (FAR[1], "fd00:9:1::77", 6)] {
            let mut icmp = echoes(1, 1);
            icmp.dscp = 46;
            icmp.hop_limit = Some(9);
            icmp.source = source.parse().ok();
            icmp.interface = "up0".to_owned();
            icmp.dont_fragment = true;
            icmp.payload_bytes = 100;
            link.capture(100);
            let measured = measure(probes, &icmp, address, AMPLE).await;
            assert_eq!(verdict(&measured), GOOD);
            let packet = first_request(link, version).await;
            if version == 4 {
                assert_eq!(packet[1], 46 << 2, "DSCP");
                assert_eq!(packet[6] >> 5, 0b010, "don't fragment");
                assert_eq!(packet[8], 9, "TTL");
                assert_eq!(packet[12..16], [10, 9, 1, 77]);
                assert_eq!(packet.len(), 20 + 8 + 100);
            } else {
                let class = packet[0] << 4 | packet[1] >> 4;
                assert_eq!(class, 46 << 2, "DSCP");
                assert_eq!(packet[7], 9, "hop limit");
                assert_eq!(packet[8..10], [0xfd, 0]);
                assert_eq!(packet[23], 0x77);
                assert_eq!(packet.len(), 40 + 8 + 100);
            }
        }
    });
}

#[test]
fn an_address_or_interface_that_is_not_ours_measures_nothing() {
    Rig::new().with_both_tiers(async |probes, link| {
        link.forget_counts();
        for (address, foreign) in FAR.into_iter().zip(["10.66.6.6", "fd66::6"]) {
            let refused = async |change: &dyn Fn(&mut extranet_proto::assignment::IcmpProbe)| {
                let mut icmp = echoes(2, 1);
                change(&mut icmp);
                let measured: Measured = measure(probes, &icmp, address, AMPLE).await;
                assert!(measured.duration < AMPLE / 2);
                verdict(&measured)
            };
            let source = refused(&|icmp| icmp.source = foreign.parse().ok()).await;
            assert_eq!(
                source,
                (Outcome::NotMeasured, Reason::NoAddress),
                "{address}"
            );
            let missing = refused(&|icmp| icmp.interface = "up7".to_owned()).await;
            assert_eq!(missing, (Outcome::NotMeasured, Reason::LocalError));
        }
        assert_eq!(link.counts().forth.received, 0);
    });
}
