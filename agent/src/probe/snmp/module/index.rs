//! The index of a row: arcs behind the column, and what they mean (RFC 2578 section 7.7).

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

use crate::config::reader::Reader;
use crate::probe::label::clean;

/// A part of an index, with the label it becomes.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(in crate::probe::snmp) struct IndexPart {
    pub(in crate::probe::snmp) label: String,
    pub(in crate::probe::snmp) form: IndexForm,
}

/// How arcs become a text.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(in crate::probe::snmp) enum IndexForm {
    /// One arc.
    Integer,
    /// Octets behind their number.
    Text,
    /// Octets to the end (IMPLIED).
    Implied,
    /// Six octets.
    Mac,
    /// Four octets.
    Ipv4,
    /// `InetAddressType`, length, octets (RFC 4001).
    InetAddress,
}

pub(super) fn part(reader: &mut Reader<'_>) -> IndexPart {
    let form = match reader.required_string("type").as_str() {
        "integer" => IndexForm::Integer,
        "text" => IndexForm::Text,
        "implied_text" => IndexForm::Implied,
        "mac" => IndexForm::Mac,
        "ipv4" => IndexForm::Ipv4,
        "inet_address" => IndexForm::InetAddress,
        _ => {
            reader.problem(
                "type",
                "use integer, text, implied_text, mac, ipv4, inet_address",
            );
            IndexForm::Integer
        }
    };
    IndexPart {
        label: super::series_name(reader, "name"),
        form,
    }
}

impl IndexForm {
    /// The text of this part, and how many arcs it takes; `None` when the arcs are none of this form.
    fn read(self, arcs: &[u32]) -> Option<(String, usize)> {
        let counted = |from: usize, count: usize| -> Option<(Vec<u8>, usize)> {
            let end = from.checked_add(count)?;
            let arcs = arcs.get(from..end)?;
            let octets: Option<Vec<u8>> = arcs.iter().map(|arc| u8::try_from(*arc).ok()).collect();
            Some((octets?, end))
        };
        let length = |at: usize| usize::try_from(*arcs.get(at)?).ok();
        match self {
            Self::Integer => Some((arcs.first()?.to_string(), 1)),
            Self::Text => counted(1, length(0)?).map(|(octets, end)| (clean(&octets), end)),
            Self::Implied => counted(0, arcs.len()).map(|(octets, end)| (clean(&octets), end)),
            Self::Mac => counted(0, 6).map(|(octets, end)| {
                let pairs: Vec<String> = octets.iter().map(|o| format!("{o:02x}")).collect();
                (pairs.join(":"), end)
            }),
            Self::Ipv4 => counted(0, 4).map(|(octets, end)| (address(&octets), end)),
            Self::InetAddress => {
                counted(2, length(1)?).map(|(octets, end)| (address(&octets), end))
            }
        }
    }
}

/// Label names and texts, and where each part ends.
type IndexLabels = (Vec<(String, String)>, Vec<usize>);

/// Labels of a row, and how many arcs the first parts take; `None` when the arcs are no index of this table.
pub(in crate::probe::snmp) fn labels_of(parts: &[IndexPart], arcs: &[u32]) -> Option<IndexLabels> {
    let mut labels = Vec::with_capacity(parts.len());
    let mut ends = Vec::with_capacity(parts.len());
    let mut at = 0;
    for part in parts {
        let (text, taken) = part.form.read(arcs.get(at..)?)?;
        at += taken;
        labels.push((part.label.clone(), text));
        ends.push(at);
    }
    (at == arcs.len()).then_some((labels, ends))
}

/// The text of 4 or 16 octets (with or without a zone of 4 behind, RFC 4001); empty for what is no address.
pub(super) fn address(octets: &[u8]) -> String {
    let v4 = |octets: &[u8]| {
        <[u8; 4]>::try_from(octets)
            .ok()
            .map(Ipv4Addr::from)
            .map(IpAddr::V4)
    };
    let v6 = |octets: &[u8]| {
        <[u8; 16]>::try_from(octets)
            .ok()
            .map(Ipv6Addr::from)
            .map(IpAddr::V6)
    };
    let found = match octets.len() {
        4 => v4(octets),
        8 => octets.get(..4).and_then(v4),
        16 => v6(octets),
        20 => octets.get(..16).and_then(v6),
        _ => None,
    };
    found.map(|address| address.to_string()).unwrap_or_default()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn read(parts: &[IndexForm], arcs: &[u32]) -> Option<Vec<String>> {
        let parts: Vec<IndexPart> = parts
            .iter()
            .map(|form| IndexPart {
                label: "x".to_owned(),
                form: *form,
            })
            .collect();
        let (labels, _) = labels_of(&parts, arcs)?;
        Some(labels.into_iter().map(|(_, text)| text).collect())
    }

    #[test]
    fn arcs_become_texts() {
        use IndexForm::*;
        for (parts, arcs, texts) in [
            (&[Integer][..], &[7][..], Some(&["7"][..])),
            (&[Integer], &[7, 8], None),
            (&[Integer, Text], &[1, 2, 104, 105], Some(&["1", "hi"])),
            (&[Text], &[3, 104, 105], None),
            (&[Text], &[1, 300], None),
            (&[Text], &[u32::MAX, 1], None),
            (&[Integer, Implied], &[1, 104, 105], Some(&["1", "hi"])),
            (&[Mac], &[0, 1, 2, 3, 4, 255], Some(&["00:01:02:03:04:ff"])),
            (&[Ipv4], &[10, 0, 0, 1], Some(&["10.0.0.1"])),
            (&[InetAddress], &[1, 4, 10, 0, 0, 1], Some(&["10.0.0.1"])),
            (
                &[InetAddress],
                &[
                    2, 16, 0x20, 1, 0xd, 0xb8, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 1,
                ],
                Some(&["2001:db8::1"]),
            ),
            (&[InetAddress], &[1], None),
            (&[Integer], &[], None),
        ] {
            let texts = texts.map(|texts| texts.iter().map(ToString::to_string).collect());
            assert_eq!(read(parts, arcs), texts, "{arcs:?}");
        }
    }
}
