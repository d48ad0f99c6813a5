//! The inventory: access points and their targets as they are valid now, and how it changes.
//!
//! A row is never overwritten: a change ends the validity of the old row and begins a new one, so that every result
//! can be joined with the inventory as it was when it was measured.

pub mod add;
pub mod generate;
pub mod import;
pub(crate) mod stored;
pub mod villages;

use std::collections::{BTreeMap, HashMap};

use extranet_proto::wire;
use rusqlite::{Connection, Transaction, params};

use crate::store::StoreError;
use crate::store::catalogue::Doing;

/// The access point at which the collector's own vantage stands; the catalogue is created with it.
pub const CENTRE_AP: &str = "centre";

/// Levels of the network from the top (行政层级): the order matters, a parent is never below its child.
pub const LEVELS: [&str; 5] = ["region", "prefecture", "county", "township", "village"];
/// Media of uplinks (接入方式).
pub const MEDIA: [&str; 5] = ["fibre", "mobile", "satellite", "microwave", "other"];
/// How an access point is monitored: by an agent of its own, from vantages, or not at all.
pub const MONITORING: [&str; 3] = ["agent", "remote", "none"];
/// What a target is: the access point's own device, something every site must reach, a service, or the name server that
/// the site and all below it use.
pub const TARGET_KINDS: [&str; 6] = ["router", "anchor", "service", "resolver", "ntp", "echo"];

/// Zones of the extranet (网络区域): 公用网络区, 专用网络区, 互联网接入区.
pub const ZONES: [&str; 3] = ["public", "private", "internet"];
/// What network a line belongs to (网络类型): 电子政务外网, 县乡党政信息网, 部门专网. The classified 内网 is no choice.
pub const NETWORK_KINDS: [&str; 3] = ["extranet", "party", "department"];
/// How good coordinates are (坐标精度): 实测, 估计, 示意.
pub const COORD_QUALITIES: [&str; 3] = ["surveyed", "estimated", "illustrative"];

/// SNMP modules that are read where a target names none.
pub const SNMP_MODULES: [&str; 2] = ["system", "if_mib"];

/// Place of a level in [`LEVELS`]; unknown levels are below all.
pub fn rank(level: &str) -> usize {
    LEVELS
        .iter()
        .position(|known| *known == level)
        .unwrap_or(LEVELS.len())
}

/// Everything that is valid now.
#[derive(Debug, Clone, Default)]
pub struct Inventory {
    access_points: BTreeMap<String, wire::AccessPointRow>,
    targets: BTreeMap<(String, String), wire::TargetRow>,
}

impl Inventory {
    /// Reads what is valid now.
    pub(crate) fn load(connection: &Connection) -> Result<Self, StoreError> {
        let mut inventory = Self::default();
        let mut statement = connection
            .prepare_cached(&format!(
                "SELECT {} FROM access_points WHERE valid_to_us IS NULL",
                stored::ACCESS_POINT
            ))
            .doing("reading access points")?;
        let rows = statement
            .query_map([], stored::access_point)
            .doing("reading access points")?;
        for row in rows {
            inventory.insert_access_point(row.doing("reading access points")?);
        }
        let mut statement = connection
            .prepare_cached(&format!(
                "SELECT {} FROM targets WHERE valid_to_us IS NULL",
                stored::TARGET
            ))
            .doing("reading targets")?;
        let rows = statement
            .query_map([], stored::target)
            .doing("reading targets")?;
        for row in rows {
            inventory.insert_target(row.doing("reading targets")?);
        }
        Ok(inventory)
    }

    /// One access point.
    pub fn access_point(&self, ap_id: &str) -> Option<&wire::AccessPointRow> {
        self.access_points.get(ap_id)
    }

    /// All access points by id.
    pub fn access_points(&self) -> impl Iterator<Item = &wire::AccessPointRow> {
        self.access_points.values()
    }

    /// One target.
    pub fn target(&self, ap_id: &str, name: &str) -> Option<&wire::TargetRow> {
        self.targets.get(&(ap_id.to_owned(), name.to_owned()))
    }

    /// All targets, ordered by access point and name.
    pub fn targets(&self) -> impl Iterator<Item = &wire::TargetRow> {
        self.targets.values()
    }

    /// Targets of one access point, ordered by name.
    pub fn targets_of<'a>(&'a self, ap_id: &'a str) -> impl Iterator<Item = &'a wire::TargetRow> {
        self.targets
            .range((ap_id.to_owned(), String::new())..)
            .take_while(move |((owner, _), _)| owner == ap_id)
            .map(|(_, target)| target)
    }

    /// Adds or replaces.
    pub fn insert_access_point(&mut self, row: wire::AccessPointRow) {
        self.access_points.insert(row.ap_id.clone(), row);
    }

    /// Adds or replaces.
    pub fn insert_target(&mut self, row: wire::TargetRow) {
        self.targets
            .insert((row.ap_id.clone(), row.name.clone()), row);
    }

    /// Adds or replaces everything in a change.
    pub fn apply(&mut self, change: &wire::InventoryChanged) {
        for row in &change.access_points {
            self.insert_access_point(row.clone());
        }
        for row in &change.targets {
            self.insert_target(row.clone());
        }
    }

    /// Access points of which `ap_id` is the parent.
    pub fn children(&self) -> HashMap<&str, Vec<&str>> {
        let mut children: HashMap<&str, Vec<&str>> = HashMap::new();
        for ap in self.access_points.values() {
            children.entry(&ap.parent).or_default().push(&ap.ap_id);
        }
        children
    }

    /// The parents of an access point from the nearest to the root. Ends at a missing parent and, should one ever have
    /// been stored, at a cycle.
    pub fn ancestors<'a>(&'a self, ap_id: &str) -> Vec<&'a wire::AccessPointRow> {
        let mut found: Vec<&wire::AccessPointRow> = Vec::new();
        let mut at = self.access_point(ap_id);
        while let Some(parent) = at.and_then(|ap| self.access_point(&ap.parent)) {
            if parent.ap_id == ap_id || found.iter().any(|seen| seen.ap_id == parent.ap_id) {
                break;
            }
            found.push(parent);
            at = Some(parent);
        }
        found
    }
}

/// Stores a logged change: ends the rows it replaces, begins new ones. Rows that change nothing are left alone.
pub(crate) fn store(
    transaction: &Transaction<'_>,
    now_us: i64,
    change: &wire::InventoryChanged,
) -> Result<(), StoreError> {
    let now = Inventory::load(transaction)?;
    for row in &change.access_points {
        if now.access_point(&row.ap_id) != Some(row) {
            stored::store_access_point(transaction, now_us, row)
                .doing("storing an access point")?;
        }
    }
    for row in &change.targets {
        if now.target(&row.ap_id, &row.name) != Some(row) {
            stored::store_target(transaction, now_us, row).doing("storing a target")?;
        }
    }
    villages::store(transaction, now_us, &change.villages)?;
    transaction
        .execute(
            "INSERT INTO inventory_changes (wall_us, actor, access_points, targets) VALUES (?1, ?2, ?3, ?4)",
            params![
                now_us,
                change.actor,
                i64::try_from(change.access_points.len()).unwrap_or(i64::MAX),
                i64::try_from(change.targets.len()).unwrap_or(i64::MAX)
            ],
        )
        .doing("storing an inventory change")?;
    Ok(())
}
