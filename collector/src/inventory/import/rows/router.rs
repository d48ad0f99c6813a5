//! Columns that say by what a router is recognised on the segment of its access point: `mac`, `link_local`, `prefixes`.
//! Each holds several, separated by spaces or ';'.

use std::net::Ipv6Addr;

use extranet_proto::mac::MacAddress;
use extranet_proto::{limits, wire};
use ipnet::Ipv6Net;

use super::super::{Checker, shown};
use super::Row;

/// `None` when the row says nothing about it.
pub(super) fn router(row: &Row<'_>, checker: &mut Checker<'_>) -> Option<wire::ApprovedRouter> {
    let mac = |text: &str| Some(text.parse::<MacAddress>().ok()?.0.to_vec());
    let macs = list(
        row,
        "mac",
        checker,
        mac,
        "is not a MAC address (use 00:11:22:aa:bb:cc)",
    );
    let link_local = |text: &str| {
        let address: Ipv6Addr = text.parse().ok()?;
        address.is_unicast_link_local().then(|| address.to_string())
    };
    let link_locals = list(
        row,
        "link_local",
        checker,
        link_local,
        "is not an address of fe80::/10",
    );
    let prefix = |text: &str| Some(text.parse::<Ipv6Net>().ok()?.trunc().to_string());
    let prefixes = list(
        row,
        "prefixes",
        checker,
        prefix,
        "is not a prefix such as 2001:db8::/48",
    );
    let router = wire::ApprovedRouter {
        name: String::new(),
        macs,
        link_locals,
        prefixes,
    };
    if router == wire::ApprovedRouter::default() {
        return None;
    }
    if row.get("kind") != "router" {
        let problem = "mac, link_local and prefixes are only for targets of kind router";
        checker.problem(&row.place, "mac", problem);
    }
    if router.macs.is_empty() && router.link_locals.is_empty() {
        let problem = "is needed with prefixes (or link_local), to recognise the router by";
        checker.problem(&row.place, "mac", problem);
    }
    Some(router)
}

fn list<T>(
    row: &Row<'_>,
    column: &str,
    checker: &mut Checker<'_>,
    parse: impl Fn(&str) -> Option<T>,
    rule: &str,
) -> Vec<T> {
    let mut items = Vec::new();
    for text in row
        .get(column)
        .split([' ', ';'])
        .filter(|text| !text.is_empty())
    {
        match parse(text) {
            Some(item) => items.push(item),
            None => checker.problem(&row.place, column, format!("'{}' {rule}", shown(text))),
        }
    }
    if items.len() > limits::APPROVED_ROUTER_ITEMS {
        let most = limits::APPROVED_ROUTER_ITEMS;
        checker.problem(&row.place, column, format!("at most {most} are allowed"));
    }
    items
}
