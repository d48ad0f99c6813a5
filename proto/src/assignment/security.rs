//! What security detections compare with: domain form and both conversions.

use std::net::Ipv6Addr;

use super::application::Prefix6;
use crate::error::ProtoError;
use crate::mac::MacAddress;
use crate::{limits, wire};

/// What the access point may look like. Empty = nobody said.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Security {
    /// Routers that may advertise themselves, and be the gateway.
    pub routers: Vec<ApprovedRouter>,
}

/// A router that belongs to the access point. Recognised by any of its MAC or link-local addresses.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ApprovedRouter {
    /// Name of the target in the inventory, for people.
    pub name: String,
    /// Its MAC addresses, real and virtual.
    pub macs: Vec<MacAddress>,
    /// Link-local addresses that it sends from.
    pub link_locals: Vec<Ipv6Addr>,
    /// Each prefix that it advertises must lie within one of these; empty = any.
    pub prefixes: Vec<Prefix6>,
}

impl TryFrom<wire::Security> for Security {
    type Error = ProtoError;

    fn try_from(security: wire::Security) -> Result<Self, ProtoError> {
        let found = security.routers.len();
        ProtoError::check_len("security.routers", found, limits::APPROVED_ROUTERS)?;
        let routers = security.routers.into_iter().map(ApprovedRouter::try_from);
        Ok(Self {
            routers: routers.collect::<Result<_, _>>()?,
        })
    }
}

impl TryFrom<wire::ApprovedRouter> for ApprovedRouter {
    type Error = ProtoError;

    fn try_from(router: wire::ApprovedRouter) -> Result<Self, ProtoError> {
        let most = limits::APPROVED_ROUTER_ITEMS;
        ProtoError::check_len("router.name", router.name.len(), limits::TEXT_BYTES)?;
        ProtoError::check_len("router.macs", router.macs.len(), most)?;
        ProtoError::check_len("router.link_locals", router.link_locals.len(), most)?;
        ProtoError::check_len("router.prefixes", router.prefixes.len(), most)?;
        if router.macs.is_empty() && router.link_locals.is_empty() {
            return Err(ProtoError::Invalid {
                field: "router.macs",
                rule: "a router needs a MAC or a link-local address to be recognised by",
            });
        }
        let macs = router.macs.into_iter().map(|bytes| {
            let octets = bytes.try_into().map_err(|_| ProtoError::Invalid {
                field: "router.macs",
                rule: "must have 6 bytes",
            })?;
            Ok(MacAddress(octets))
        });
        let link_locals = router.link_locals.iter().map(|text| {
            let address = text.parse().ok().filter(Ipv6Addr::is_unicast_link_local);
            address.ok_or(ProtoError::Invalid {
                field: "router.link_locals",
                rule: "must be an address of fe80::/10",
            })
        });
        let prefixes = router.prefixes.iter().map(|text| {
            text.parse().map_err(|_| ProtoError::Invalid {
                field: "router.prefixes",
                rule: "must be a prefix such as 2001:db8::/48",
            })
        });
        Ok(Self {
            name: router.name,
            macs: macs.collect::<Result<_, ProtoError>>()?,
            link_locals: link_locals.collect::<Result<_, ProtoError>>()?,
            prefixes: prefixes.collect::<Result<_, ProtoError>>()?,
        })
    }
}

impl From<&Security> for wire::Security {
    fn from(security: &Security) -> Self {
        Self {
            routers: security.routers.iter().map(Into::into).collect(),
        }
    }
}

impl From<&ApprovedRouter> for wire::ApprovedRouter {
    fn from(router: &ApprovedRouter) -> Self {
        let texts = |address: &Ipv6Addr| address.to_string();
        Self {
            name: router.name.clone(),
            macs: router.macs.iter().map(|mac| mac.0.to_vec()).collect(),
            link_locals: router.link_locals.iter().map(texts).collect(),
            prefixes: router.prefixes.iter().map(ToString::to_string).collect(),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn router() -> wire::ApprovedRouter {
        wire::ApprovedRouter {
            name: "ce".to_owned(),
            macs: vec![vec![2, 0, 0, 0, 0, 1]],
            link_locals: vec!["fe80::1".to_owned()],
            prefixes: vec!["2001:db8::/48".to_owned()],
        }
    }

    #[test]
    fn a_router_is_read_as_it_was_written() {
        let valid = ApprovedRouter::try_from(router()).unwrap();
        assert_eq!(wire::ApprovedRouter::from(&valid), router());
    }

    #[test]
    fn each_rule_refuses() {
        type Break = fn(&mut wire::ApprovedRouter);
        let cases: [(&str, Break); 6] = [
            ("router.macs", |router| router.macs[0].truncate(5)),
            ("router.macs", |router| {
                router.macs.clear();
                router.link_locals.clear();
            }),
            ("router.link_locals", |router| {
                router.link_locals[0] = "2001:db8::1".to_owned();
            }),
            ("router.prefixes", |router| {
                router.prefixes[0] = "2001:db8::/129".to_owned();
            }),
            ("router.macs", |router| {
                router.macs = vec![vec![0; 6]; limits::APPROVED_ROUTER_ITEMS + 1];
            }),
            ("router.name", |router| router.name = "x".repeat(256)),
        ];
        for (field, break_it) in cases {
            let mut wrong = router();
            break_it(&mut wrong);
            let error = ApprovedRouter::try_from(wrong).unwrap_err();
            assert!(error.to_string().starts_with(field), "{error}");
        }
        let many = wire::Security {
            routers: vec![router(); limits::APPROVED_ROUTERS + 1],
        };
        assert!(Security::try_from(many).is_err());
    }
}
