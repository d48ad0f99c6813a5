//! What `@gateway` and `@resolver` mean on this machine now, from the kernel's tables and /etc/resolv.conf. Read anew
//! for each run: DHCP may have changed them.

use std::fs;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

use extranet_proto::assignment::Family;

/// Flags of a route (linux/route.h): usable, and through a gateway.
const RTF_UP: u32 = 1;
const RTF_GATEWAY: u32 = 2;

/// Next hop of the default route with the lowest metric.
pub(super) fn gateway(family: Family) -> Option<IpAddr> {
    match family {
        Family::V4 => gateway_v4(&fs::read_to_string("/proc/net/route").ok()?).map(IpAddr::V4),
        Family::V6 => gateway_v6(&fs::read_to_string("/proc/net/ipv6_route").ok()?).map(IpAddr::V6),
    }
}

/// First name server of the family.
pub(super) fn resolver(family: Family) -> Option<IpAddr> {
    first_resolver(&fs::read_to_string("/etc/resolv.conf").ok()?, family)
}

/// Columns: interface, destination, gateway, flags, reference count, use, metric, mask, ...; addresses as hexadecimal
/// numbers in the machine's byte order.
fn gateway_v4(table: &str) -> Option<Ipv4Addr> {
    let hex = |text: &str| u32::from_str_radix(text, 16).ok();
    table
        .lines()
        .skip(1)
        .filter_map(|line| {
            let columns: Vec<&str> = line.split_whitespace().collect();
            let [_, destination, gateway, flags, _, _, metric, mask, ..] = columns.as_slice()
            else {
                return None;
            };
            let is_default = hex(destination)? == 0 && hex(mask)? == 0;
            let usable = hex(flags)? & (RTF_UP | RTF_GATEWAY) == RTF_UP | RTF_GATEWAY;
            let metric: u32 = metric.parse().ok()?;
            (is_default && usable).then_some((metric, Ipv4Addr::from(hex(gateway)?.to_ne_bytes())))
        })
        .min_by_key(|(metric, _)| *metric)
        .map(|(_, gateway)| gateway)
}

/// Columns: destination, prefix length, source, prefix length, next hop, metric, reference count, use, flags,
/// interface; all in hexadecimal digits. A link-local next hop is left out: without its zone it cannot be probed
/// (RFC 4007 section 6), and an address of a target has none.
fn gateway_v6(table: &str) -> Option<Ipv6Addr> {
    let address = |text: &str| u128::from_str_radix(text, 16).map(Ipv6Addr::from).ok();
    let hex = |text: &str| u32::from_str_radix(text, 16).ok();
    table
        .lines()
        .filter_map(|line| {
            let columns: Vec<&str> = line.split_whitespace().collect();
            let [destination, length, _, _, next_hop, metric, _, _, flags, ..] = columns.as_slice()
            else {
                return None;
            };
            let is_default = address(destination)?.is_unspecified() && hex(length)? == 0;
            let usable = hex(flags)? & (RTF_UP | RTF_GATEWAY) == RTF_UP | RTF_GATEWAY;
            let next_hop = address(next_hop)?;
            let can_be_probed = !next_hop.is_unicast_link_local();
            (is_default && usable && can_be_probed).then_some((hex(metric)?, next_hop))
        })
        .min_by_key(|(metric, _)| *metric)
        .map(|(_, gateway)| gateway)
}

fn first_resolver(text: &str, family: Family) -> Option<IpAddr> {
    text.lines()
        .filter_map(|line| {
            let mut words = line.split_whitespace();
            (words.next() == Some("nameserver")).then(|| words.next())?
        })
        .filter_map(|word| word.split('%').next()?.parse::<IpAddr>().ok())
        .find(|address| Family::of(*address) == family)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    #[cfg(target_endian = "little")]
    fn the_default_route_with_the_lowest_metric_wins() {
        let table = "Iface\tDestination\tGateway \tFlags\tRefCnt\tUse\tMetric\tMask\t\tMTU\tWindow\tIRTT\n\
            eth0\t00000000\t0100A8C0\t0003\t0\t0\t200\t00000000\t0\t0\t0\n\
            eth1\t00000000\t0101A8C0\t0003\t0\t0\t100\t00000000\t0\t0\t0\n\
            eth2\t00000000\t00000000\t0001\t0\t0\t1\t00000000\t0\t0\t0\n\
            eth0\t0000A8C0\t00000000\t0001\t0\t0\t0\t00FFFFFF\t0\t0\t0\n";
        assert_eq!(gateway_v4(table), Some("192.168.1.1".parse().unwrap()));
        assert_eq!(gateway_v4(""), None);
        assert_eq!(gateway_v4("garbage\nmore garbage here\n"), None);
    }

    #[test]
    fn a_link_local_next_hop_is_no_target() {
        let route = |hop: &str, metric: &str| {
            format!(
                "{zero} 00 {zero} 00 {hop} {metric} 00000001 00000000 00000003     eth0\n",
                zero = "0".repeat(32)
            )
        };
        let local = route("fe800000000000000000000000000001", "00000001");
        let global = route("fd000000000000000000000000000001", "00000400");
        assert_eq!(
            gateway_v6(&format!("{local}{global}")),
            Some("fd00::1".parse().unwrap())
        );
        assert_eq!(gateway_v6(&local), None);
        assert_eq!(gateway_v6("nonsense"), None);
    }

    #[test]
    fn the_first_name_server_of_the_family_is_the_resolver() {
        let text = "# x\nsearch a b\nnameserver 192.0.2.53\nnameserver fe80::1%eth0\nnameserver 192.0.2.54\n";
        assert_eq!(
            first_resolver(text, Family::V4),
            Some("192.0.2.53".parse().unwrap())
        );
        assert_eq!(
            first_resolver(text, Family::V6),
            Some("fe80::1".parse().unwrap())
        );
        assert_eq!(first_resolver("nameserver\n", Family::V4), None);
    }
}
