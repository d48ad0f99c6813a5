//! Import of access points and targets from CSV files: everything is checked before anything is changed.
//!
//! Each problem names its place and what is allowed: `access-points.csv:17: level: unknown level 'hamlet' (use region,
//! prefecture, county, township, village)`. Any problem, and nothing is imported. Rows upsert: what a file does not
//! mention stays as it is (an access point leaves the network with `monitoring = none`).

mod rows;

use std::collections::HashMap;
use std::fmt::Display;
use std::net::IpAddr;

use extranet_proto::id::ApId;
use extranet_proto::{limits, wire};

use super::villages::Register;
use super::{
    COORD_QUALITIES, Inventory, LEVELS, MEDIA, MONITORING, NETWORK_KINDS, TARGET_KINDS, ZONES, rank,
};
use crate::divisions::Divisions;
use crate::store::Planned;

/// Names under which problems are reported.
const ACCESS_POINTS_FILE: &str = "access-points.csv";
const TARGETS_FILE: &str = "targets.csv";
const VILLAGES_FILE: &str = "villages.csv";
/// Longest name of a network device (IFNAMSIZ without its end), which a VRF is.
const VRF_BYTES: usize = 15;
/// Protocols of SNMP version 3 by their usual names (RFC 3414, 3826, 7860 and the common extensions).
const AUTH_PROTOCOLS: [&str; 6] = ["MD5", "SHA-1", "SHA-224", "SHA-256", "SHA-384", "SHA-512"];
const PRIVACY_PROTOCOLS: [&str; 4] = ["DES", "AES-128", "AES-192", "AES-256"];

/// The files of an import; an empty one has no rows.
#[derive(Debug, Clone, Copy, Default)]
pub struct Files<'a> {
    /// Access points.
    pub access_points: &'a [u8],
    /// Targets.
    pub targets: &'a [u8],
    /// The register of villages.
    pub villages: &'a [u8],
}

/// Checks all files against the inventory and the register.
pub fn plan(now: &Inventory, register: &Register, files: &Files<'_>, actor: &str) -> Planned {
    let mut checker = Checker::new(now);
    rows::access_points(ACCESS_POINTS_FILE, files.access_points, &mut checker);
    rows::targets(TARGETS_FILE, files.targets, &mut checker);
    rows::villages(VILLAGES_FILE, files.villages, &mut checker);
    difference(now, register, checker, actor)
}

/// Collects rows and what is wrong with them.
pub(super) struct Checker<'a> {
    now: &'a Inventory,
    problems: Vec<String>,
    access_points: Vec<(String, wire::AccessPointRow)>,
    targets: Vec<(String, wire::TargetRow)>,
    villages: Vec<wire::VillageRow>,
    first_seen: HashMap<(String, Option<String>), String>,
}

impl<'a> Checker<'a> {
    pub(super) fn new(now: &'a Inventory) -> Self {
        Self {
            now,
            problems: Vec::new(),
            access_points: Vec::new(),
            targets: Vec::new(),
            villages: Vec::new(),
            first_seen: HashMap::new(),
        }
    }

    pub(super) fn problem(&mut self, place: &str, column: &str, problem: impl Display) {
        self.problems.push(if column.is_empty() {
            format!("{place}: {problem}")
        } else {
            format!("{place}: {column}: {problem}")
        });
    }

    fn one_of(&mut self, place: &str, column: &str, value: &str, allowed: &[&str]) {
        if let Err(problem) = check_word(column, value, allowed) {
            self.problem(place, column, problem);
        }
    }

    fn ap_id(&mut self, place: &str, value: &str) {
        if let Err(error) = ApId::new(value) {
            let value = shown(value);
            self.problem(place, "ap_id", format!("'{value}': {}", error.rule));
        }
    }

    fn text(&mut self, place: &str, column: &str, value: &str, max: usize) {
        if value.len() > max {
            let problem = format!("{} bytes, at most {max} are allowed", value.len());
            self.problem(place, column, problem);
        } else if value.chars().any(char::is_control) {
            self.problem(place, column, "control characters are not allowed");
        }
    }

    fn once(&mut self, place: &str, ap_id: &str, name: Option<&str>) {
        let key = (ap_id.to_owned(), name.map(str::to_owned));
        if let Some(first) = self.first_seen.get(&key) {
            let column = if name.is_some() { "name" } else { "ap_id" };
            let problem = format!(
                "'{}' stands at {first} already",
                shown(name.unwrap_or(ap_id))
            );
            self.problem(place, column, problem);
        } else {
            self.first_seen.insert(key, place.to_owned());
        }
    }

    /// Checks everything about a row that does not depend on other rows.
    pub(super) fn access_point(&mut self, place: &str, row: wire::AccessPointRow) {
        self.ap_id(place, &row.ap_id);
        self.once(place, &row.ap_id, None);
        if row.name.is_empty() {
            self.problem(place, "name", "is empty (give the name people use)");
        }
        self.text(place, "name", &row.name, limits::TEXT_BYTES);
        self.one_of(place, "level", &row.level, &LEVELS);
        self.one_of(place, "medium", &row.medium, &MEDIA);
        self.one_of(place, "monitoring", &row.monitoring, &MONITORING);
        // GEO-03: a code that is not in the table is never guessed at.
        if !row.division_code.is_empty() && Divisions::built_in().get(&row.division_code).is_none()
        {
            self.problem(
                place,
                "division_code",
                format!(
                    "'{}' is not a division of the table (use a code of up to 12 digits, or nothing)",
                    shown(&row.division_code)
                ),
            );
        }
        self.details(place, &row);
        self.access_points.push((place.to_owned(), row));
    }

    /// Checks what only planners need; everything may be empty.
    fn details(&mut self, place: &str, row: &wire::AccessPointRow) {
        // SRC-14: the 内网 is classified, this product must not be used there.
        if row.network_kind == "intranet" {
            self.problem(
                place,
                "network_kind",
                "the classified intranet (内网) must not be monitored with this product",
            );
        } else if !row.network_kind.is_empty() {
            self.one_of(place, "network_kind", &row.network_kind, &NETWORK_KINDS);
        }
        for (column, value, allowed) in [
            ("zone", &row.zone, &ZONES),
            ("coord_quality", &row.coord_quality, &COORD_QUALITIES),
        ] {
            if !value.is_empty() {
                self.one_of(place, column, value, allowed);
            }
        }
        for (column, value) in [
            ("department", &row.department),
            ("isp", &row.isp),
            ("ce_model", &row.ce_model),
            ("contact_role", &row.contact_role),
            ("remarks", &row.remarks),
        ] {
            self.text(place, column, value, limits::TEXT_BYTES);
        }
        if row.lon_e6.is_some() != row.lat_e6.is_some() {
            self.problem(place, "lon", "lon and lat are only useful together");
        }
    }

    /// Checks one row of the register of villages.
    pub(super) fn village(&mut self, place: &str, row: wire::VillageRow) {
        let known = Divisions::built_in().get(&row.code);
        if row.code.len() != 12 || known.is_none_or(|division| division.rank != 4) {
            let problem = format!(
                "'{}' is not a village of the table (use its code of 12 digits)",
                shown(&row.code)
            );
            self.problem(place, "code", problem);
        }
        self.once(place, VILLAGES_FILE, Some(&row.code));
        self.text(place, "name", &row.name, limits::TEXT_BYTES);
        self.villages.push(row);
    }

    /// Checks everything about a target that does not depend on other rows.
    pub(super) fn target(&mut self, place: &str, row: wire::TargetRow) {
        self.ap_id(place, &row.ap_id);
        if row.name.is_empty() || row.name.len() > 64 {
            self.problem(
                place,
                "name",
                "use 1 to 64 bytes, unique within the access point",
            );
        }
        self.text(place, "name", &row.name, limits::TEXT_BYTES);
        self.once(place, &row.ap_id, Some(&row.name));
        self.one_of(place, "kind", &row.kind, &TARGET_KINDS);
        if let Err(rule) = check_address(&row.address) {
            self.problem(
                place,
                "address",
                format!("'{}' {rule}", shown(&row.address)),
            );
        }
        let device = |c: char| c.is_ascii_alphanumeric() || matches!(c, '-' | '_' | '.');
        if row.vrf.len() > VRF_BYTES || !row.vrf.chars().all(device) {
            self.problem(
                place,
                "vrf",
                format!("'{}' is not a device name (use up to 15 letters, digits, '-', '_', '.', or nothing)", shown(&row.vrf)),
            );
        }
        if row.tcp_port > u32::from(u16::MAX) {
            self.problem(place, "tcp_port", "use 1 to 65535, or nothing");
        }
        if let Some(snmp) = &row.snmp {
            self.snmp(place, snmp);
        }
        if let Some(service) = &row.service {
            self.service(place, service);
        }
        self.targets.push((place.to_owned(), row));
    }

    /// By the rules that agents apply.
    fn service(&mut self, place: &str, service: &wire::TargetService) {
        if !service.host.is_empty()
            && let Err(rule) = check_address(&service.host)
        {
            self.problem(place, "host", format!("'{}' {rule}", shown(&service.host)));
        }
        let path = service.path.as_str();
        let ascii = path.chars().all(|c| c.is_ascii_graphic());
        let fits = path.len() <= limits::HTTP_PATH_BYTES && ascii;
        let good = path.is_empty() || (path.starts_with('/') && fits);
        if !good {
            let text = "must start with '/' and have no spaces and no letters outside of ASCII";
            self.problem(place, "path", format!("'{}' {text}", shown(path)));
        }
    }

    /// Secrets are never repeated in a problem.
    fn snmp(&mut self, place: &str, snmp: &wire::SnmpProbe) {
        if snmp.port == 0 || snmp.port > u32::from(u16::MAX) {
            self.problem(place, "snmp_port", "use 1 to 65535, or nothing for 161");
        }
        let credential = snmp.credential.clone().unwrap_or_default();
        match snmp.version() {
            wire::SnmpVersion::Unspecified => {
                self.problem(place, "snmp_version", "is missing (use 1, 2c or 3)");
            }
            wire::SnmpVersion::SnmpVersion1 | wire::SnmpVersion::SnmpVersion2c => {
                if credential.community.is_empty() {
                    self.problem(place, "snmp_community", "is needed for version 1 and 2c");
                }
            }
            wire::SnmpVersion::SnmpVersion3 => self.snmp_v3(place, &credential),
        }
        for module in &snmp.modules {
            // Whether the operator's plan has it shows when the plan is compiled.
            if !crate::plan::modules::is_name(module) {
                let text = "is no name of a module (use letters, digits, '-' and '_', with ';' between names)";
                self.problem(place, "snmp_modules", format!("'{}' {text}", shown(module)));
            }
        }
        for secret in [
            ("snmp_community", &credential.community),
            ("snmp_user", &credential.user),
            ("snmp_auth_password", &credential.auth_password),
            ("snmp_privacy_password", &credential.privacy_password),
            ("snmp_context", &credential.context),
            ("snmp_uplink", &snmp.uplink),
        ] {
            self.text(place, secret.0, secret.1, limits::TEXT_BYTES);
        }
    }

    fn snmp_v3(&mut self, place: &str, credential: &wire::SnmpCredential) {
        // RFC 3411: a user name has 1 to 32 octets.
        if credential.user.is_empty() || credential.user.len() > 32 {
            self.problem(place, "snmp_user", "use 1 to 32 bytes with version 3");
        }
        let pairs = [
            (
                "snmp_auth",
                &credential.auth_protocol,
                &credential.auth_password,
                &AUTH_PROTOCOLS[..],
            ),
            (
                "snmp_privacy",
                &credential.privacy_protocol,
                &credential.privacy_password,
                &PRIVACY_PROTOCOLS[..],
            ),
        ];
        for (what, protocol, password, allowed) in pairs {
            if protocol.is_empty() {
                if !password.is_empty() {
                    self.problem(
                        place,
                        &format!("{what}_protocol"),
                        format!("is needed with a password (use {})", allowed.join(", ")),
                    );
                }
                continue;
            }
            self.one_of(place, &format!("{what}_protocol"), protocol, allowed);
            // RFC 3414 section 11.2: at least eight characters.
            if password.chars().count() < 8 {
                self.problem(
                    place,
                    &format!("{what}_password"),
                    "use at least 8 characters",
                );
            }
        }
        if !credential.privacy_protocol.is_empty() && credential.auth_protocol.is_empty() {
            self.problem(
                place,
                "snmp_auth_protocol",
                "is needed with privacy (RFC 3414 has no privacy without)",
            );
        }
    }

    /// Checks that rows fit to each other and to the inventory.
    fn references(&mut self) {
        let mut then = self.now.clone();
        for (_, row) in &self.access_points {
            then.insert_access_point(row.clone());
        }
        let access_points = std::mem::take(&mut self.access_points);
        for (place, row) in &access_points {
            if row.parent.is_empty() {
                continue;
            }
            let Some(parent) = then.access_point(&row.parent) else {
                let known =
                    "(use an ap_id of this file or of the inventory, or nothing for a root)";
                self.problem(
                    place,
                    "parent",
                    format!("no access point '{}' {known}", shown(&row.parent)),
                );
                continue;
            };
            if rank(&parent.level) > rank(&row.level) {
                let problem = format!(
                    "'{}' is a {}, below this {} (use an access point of the same or a higher level)",
                    parent.ap_id, parent.level, row.level
                );
                self.problem(place, "parent", problem);
            }
            let above = then.ancestors(&row.ap_id);
            let top = above.last().map_or(row.parent.as_str(), |top| &top.parent);
            if row.parent == row.ap_id
                || above.iter().any(|ap| ap.parent == row.ap_id)
                || !top.is_empty() && then.access_point(top).is_some()
            {
                self.problem(
                    place,
                    "parent",
                    format!("'{}' leads back to itself", shown(&row.parent)),
                );
            }
        }
        self.access_points = access_points;
        let targets = std::mem::take(&mut self.targets);
        for (place, row) in &targets {
            if then.access_point(&row.ap_id).is_none() {
                let known = "(use one of access-points.csv or of the inventory)";
                self.problem(
                    place,
                    "ap_id",
                    format!("no access point '{}' {known}", shown(&row.ap_id)),
                );
            }
        }
        self.targets = targets;
    }
}

/// What is left to do once everything is checked: the rows that differ, or the problems.
pub(super) fn difference(
    now: &Inventory,
    register: &Register,
    mut checker: Checker<'_>,
    actor: &str,
) -> Planned {
    checker.references();
    let mut reply = wire::ImportReply::default();
    if !checker.problems.is_empty() {
        reply.problems = checker.problems;
        return Planned {
            record: None,
            reply,
        };
    }
    let mut record = wire::InventoryChanged {
        actor: actor.to_owned(),
        ..Default::default()
    };
    for (_, row) in checker.access_points {
        let old = now.access_point(&row.ap_id);
        if tally(&mut reply, old, &row) {
            record.access_points.push(row);
        }
    }
    for (_, row) in checker.targets {
        let old = now.target(&row.ap_id, &row.name);
        if tally(&mut reply, old, &row) {
            record.targets.push(row);
        }
    }
    for row in checker.villages {
        if tally(&mut reply, register.get(&row.code), &row) {
            record.villages.push(row);
        }
    }
    let changes = reply.added + reply.changed > 0;
    Planned {
        record: changes.then_some(record),
        reply,
    }
}

fn tally<T: PartialEq>(reply: &mut wire::ImportReply, old: Option<&T>, new: &T) -> bool {
    match old {
        None => reply.added += 1,
        Some(old) if old == new => {
            reply.unchanged += 1;
            return false;
        }
        Some(_) => reply.changed += 1,
    }
    true
}

/// One of a closed set of words; says what is allowed otherwise.
pub(crate) fn check_word(what: &str, value: &str, allowed: &[&str]) -> Result<(), String> {
    if allowed.contains(&value) {
        return Ok(());
    }
    let (value, allowed) = (shown(value), allowed.join(", "));
    Err(format!("unknown {what} '{value}' (use {allowed})"))
}

/// An IP address or a host name (RFC 1123); says what is wrong otherwise.
pub(crate) fn check_address(text: &str) -> Result<(), &'static str> {
    if text.parse::<IpAddr>().is_ok() {
        return Ok(());
    }
    let label = |label: &str| {
        (1..=63).contains(&label.len())
            && label.chars().all(|c| c.is_ascii_alphanumeric() || c == '-')
            && !label.starts_with('-')
            && !label.ends_with('-')
    };
    let looks_like_ipv4 = text.chars().all(|c| c.is_ascii_digit() || c == '.');
    if text.is_empty() || text.len() > 253 || looks_like_ipv4 || !text.split('.').all(label) {
        return Err(
            "is not an address (use an IPv4 or IPv6 address without prefix length, or a host name)",
        );
    }
    Ok(())
}

/// At most 40 characters of what somebody wrote.
fn shown(text: &str) -> String {
    let mut short: String = text
        .chars()
        .take(40)
        .map(|c| if c.is_control() { '?' } else { c })
        .collect();
    if short.len() < text.len() {
        short.push('…');
    }
    short
}

#[cfg(test)]
mod tests;
