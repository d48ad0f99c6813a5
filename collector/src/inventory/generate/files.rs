//! The files of a generated inventory, in the form that `import` and `plan apply` take.

use std::path::Path;

use extranet_proto::wire;

use super::{GenerateError, Generated};

/// Names of the files that [`write()`] makes.
pub const FILES: [&str; 4] = [
    "access-points.csv",
    "targets.csv",
    "villages.csv",
    "plan.toml",
];

/// A plan for thousands of sites: the centre alone cannot look at all of them.
const PLAN: &str = include_str!("../../../data/plan-province.toml");

const ACCESS_POINTS: [&str; 20] = [
    "ap_id",
    "name",
    "level",
    "parent",
    "medium",
    "monitoring",
    "division_code",
    "department",
    "zone",
    "network_kind",
    "uplinks",
    "isp",
    "contract_mbps",
    "lon",
    "lat",
    "coord_quality",
    "ipv4_prefix",
    "ipv6_prefix",
    "border_county",
    "remarks",
];

/// Writes all files into a folder that exists.
pub fn write(generated: &Generated, folder: &Path) -> Result<(), GenerateError> {
    let contents = [
        access_points(&generated.access_points),
        targets(&generated.targets),
        villages(&generated.villages),
        PLAN.as_bytes().to_vec(),
    ];
    for (name, bytes) in FILES.iter().zip(contents) {
        let path = folder.join(name);
        std::fs::write(&path, bytes).map_err(|source| GenerateError::File {
            path: path.display().to_string(),
            source,
        })?;
    }
    Ok(())
}

/// `access-points.csv`.
pub(super) fn access_points(rows: &[wire::AccessPointRow]) -> Vec<u8> {
    table(&ACCESS_POINTS, rows, |row| {
        [
            row.ap_id.clone(),
            row.name.clone(),
            row.level.clone(),
            row.parent.clone(),
            row.medium.clone(),
            row.monitoring.clone(),
            row.division_code.clone(),
            row.department.clone(),
            row.zone.clone(),
            row.network_kind.clone(),
            row.uplinks.to_string(),
            row.isp.clone(),
            decimal(i128::from(row.contract_kbps), 3),
            row.lon_e6
                .map_or_else(String::new, |e6| decimal(e6.into(), 6)),
            row.lat_e6
                .map_or_else(String::new, |e6| decimal(e6.into(), 6)),
            row.coord_quality.clone(),
            row.ipv4_prefix.clone(),
            row.ipv6_prefix.clone(),
            u8::from(row.border_county).to_string(),
            row.remarks.clone(),
        ]
    })
}

/// `targets.csv`.
pub(super) fn targets(rows: &[wire::TargetRow]) -> Vec<u8> {
    table(&["ap_id", "name", "kind", "address"], rows, |row| {
        [&row.ap_id, &row.name, &row.kind, &row.address].map(Clone::clone)
    })
}

/// `villages.csv`.
pub(super) fn villages(rows: &[wire::VillageRow]) -> Vec<u8> {
    table(&["code", "name", "rural_station"], rows, |row| {
        let station = u8::from(row.rural_station).to_string();
        [row.code.clone(), row.name.clone(), station]
    })
}

fn table<T, const N: usize>(
    header: &[&str; N],
    rows: &[T],
    fields: impl Fn(&T) -> [String; N],
) -> Vec<u8> {
    let mut writer = csv::Writer::from_writer(Vec::new());
    writer
        .write_record(header)
        .expect("a vector takes everything");
    for row in rows {
        writer
            .write_record(fields(row))
            .expect("a vector takes everything, and all rows have as many fields as the header");
    }
    writer.into_inner().expect("a vector takes everything")
}

/// "12.5" of 12,500 with three decimals; no zeros behind.
fn decimal(value: i128, decimals: u32) -> String {
    let unit = 10_i128.pow(decimals);
    let sign = if value < 0 { "-" } else { "" };
    let (whole, rest) = (value.abs() / unit, value.abs() % unit);
    if rest == 0 {
        return format!("{sign}{whole}");
    }
    let width = decimals as usize;
    let rest = format!("{rest:0width$}");
    format!("{sign}{whole}.{}", rest.trim_end_matches('0'))
}
