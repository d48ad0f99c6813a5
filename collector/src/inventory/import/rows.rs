//! From the bytes of a CSV file to rows: encoding, header, columns, numbers.

mod details;
mod router;

use csv::{ByteRecord, ReaderBuilder};
use extranet_proto::{limits, wire};

use super::super::SNMP_MODULES;
use super::{Checker, shown};

/// Most rows of one file: the whole network has 6,918 access points with a few targets each.
const ROWS: usize = 200_000;

const ACCESS_POINT_COLUMNS: Columns = Columns {
    required: &["ap_id", "name", "level"],
    optional: &[
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
        "ce_model",
        "ce_install_date",
        "warranty_end",
        "contact_role",
        "remarks",
    ],
};

const VILLAGE_COLUMNS: Columns = Columns {
    required: &["code", "name"],
    optional: &["rural_station"],
};

const TARGET_COLUMNS: Columns = Columns {
    required: &["ap_id", "name", "kind", "address"],
    optional: &[
        "vrf",
        "tcp_port",
        "host",
        "path",
        "tls",
        "mac",
        "link_local",
        "prefixes",
        "snmp_version",
        "snmp_port",
        "snmp_community",
        "snmp_user",
        "snmp_auth_protocol",
        "snmp_auth_password",
        "snmp_privacy_protocol",
        "snmp_privacy_password",
        "snmp_context",
        "snmp_modules",
        "snmp_uplink",
    ],
};

struct Columns {
    required: &'static [&'static str],
    optional: &'static [&'static str],
}

/// One row with its columns by name; a column that the file does not have is empty.
struct Row<'a> {
    place: String,
    header: &'a [String],
    fields: Vec<&'a str>,
}

impl Row<'_> {
    fn get(&self, column: &str) -> &str {
        self.header
            .iter()
            .position(|name| name == column)
            .and_then(|at| self.fields.get(at))
            .copied()
            .unwrap_or_default()
    }

    fn or(&self, column: &str, default: &str) -> String {
        match self.get(column) {
            "" => default.to_owned(),
            text => text.to_owned(),
        }
    }
}

pub(super) fn access_points(file: &str, bytes: &[u8], checker: &mut Checker<'_>) {
    read(
        file,
        bytes,
        &ACCESS_POINT_COLUMNS,
        checker,
        |row, checker| {
            let parsed = wire::AccessPointRow {
                ap_id: row.get("ap_id").to_owned(),
                name: row.get("name").to_owned(),
                level: row.get("level").to_owned(),
                parent: row.get("parent").to_owned(),
                medium: row.or("medium", "other"),
                monitoring: row.or("monitoring", "agent"),
                division_code: row.get("division_code").to_owned(),
                department: row.get("department").to_owned(),
                zone: row.get("zone").to_owned(),
                network_kind: row.or("network_kind", "extranet"),
                uplinks: details::uplinks(row, checker),
                isp: row.get("isp").to_owned(),
                contract_kbps: details::contract_kbps(row, checker),
                lon_e6: details::degrees(row, "lon", 180, checker),
                lat_e6: details::degrees(row, "lat", 90, checker),
                coord_quality: row.get("coord_quality").to_owned(),
                ipv4_prefix: details::prefix::<ipnet::Ipv4Net>(row, "ipv4_prefix", checker),
                ipv6_prefix: details::prefix::<ipnet::Ipv6Net>(row, "ipv6_prefix", checker),
                border_county: details::border(row, checker),
                ce_model: row.get("ce_model").to_owned(),
                ce_install_date: details::date(row, "ce_install_date", checker),
                warranty_end: details::date(row, "warranty_end", checker),
                contact_role: row.get("contact_role").to_owned(),
                remarks: row.get("remarks").to_owned(),
            };
            checker.access_point(&row.place, parsed);
        },
    );
}

pub(super) fn targets(file: &str, bytes: &[u8], checker: &mut Checker<'_>) {
    read(file, bytes, &TARGET_COLUMNS, checker, |row, checker| {
        let tcp_port = port(row, "tcp_port", 0, checker);
        let snmp = snmp(row, checker);
        let service = service(row, checker);
        let router = router::router(row, checker);
        let parsed = wire::TargetRow {
            ap_id: row.get("ap_id").to_owned(),
            name: row.get("name").to_owned(),
            kind: row.get("kind").to_owned(),
            address: row.get("address").to_owned(),
            vrf: row.get("vrf").to_owned(),
            tcp_port,
            snmp,
            service,
            router,
        };
        checker.target(&row.place, parsed);
    });
}

pub(super) fn villages(file: &str, bytes: &[u8], checker: &mut Checker<'_>) {
    read(file, bytes, &VILLAGE_COLUMNS, checker, |row, checker| {
        let parsed = wire::VillageRow {
            code: row.get("code").to_owned(),
            name: row.get("name").to_owned(),
            rural_station: details::yes(row, "rural_station", checker).unwrap_or_default(),
        };
        checker.village(&row.place, parsed);
    });
}

fn port(row: &Row<'_>, column: &str, default: u32, checker: &mut Checker<'_>) -> u32 {
    match row.get(column) {
        "" => default,
        text => match text.parse::<u16>() {
            Ok(port) if port > 0 => u32::from(port),
            _ => {
                let problem = format!(
                    "'{}' is not a port (use 1 to 65535, or nothing)",
                    shown(text)
                );
                checker.problem(&row.place, column, problem);
                default
            }
        },
    }
}

fn service(row: &Row<'_>, checker: &mut Checker<'_>) -> Option<wire::TargetService> {
    let tls = match row.get("tls") {
        "yes" => true,
        "" | "no" => false,
        other => {
            let problem = format!("unknown tls '{}' (use yes, no)", shown(other));
            checker.problem(&row.place, "tls", problem);
            false
        }
    };
    let service = wire::TargetService {
        host: row.get("host").to_owned(),
        path: row.get("path").to_owned(),
        tls,
    };
    (service != wire::TargetService::default()).then_some(service)
}

fn snmp(row: &Row<'_>, checker: &mut Checker<'_>) -> Option<wire::SnmpProbe> {
    let version = match row.get("snmp_version") {
        "" => {
            let lonely = row
                .header
                .iter()
                .find(|column| column.starts_with("snmp_") && !row.get(column).is_empty());
            if let Some(column) = lonely {
                let problem = format!("is needed with {column} (use 1, 2c or 3)");
                checker.problem(&row.place, "snmp_version", problem);
            }
            return None;
        }
        "1" => wire::SnmpVersion::SnmpVersion1,
        "2c" => wire::SnmpVersion::SnmpVersion2c,
        "3" => wire::SnmpVersion::SnmpVersion3,
        other => {
            let problem = format!("unknown version '{}' (use 1, 2c or 3)", shown(other));
            checker.problem(&row.place, "snmp_version", problem);
            return None;
        }
    };
    let text = |column: &str| row.get(column).to_owned();
    let modules = match row.get("snmp_modules") {
        "" => SNMP_MODULES.map(str::to_owned).to_vec(),
        list => list
            .split([' ', ';'])
            .filter(|module| !module.is_empty())
            .map(str::to_owned)
            .collect(),
    };
    Some(wire::SnmpProbe {
        port: port(row, "snmp_port", 161, checker),
        version: version.into(),
        credential: Some(wire::SnmpCredential {
            community: text("snmp_community"),
            user: text("snmp_user"),
            auth_protocol: text("snmp_auth_protocol"),
            auth_password: text("snmp_auth_password"),
            privacy_protocol: text("snmp_privacy_protocol"),
            privacy_password: text("snmp_privacy_password"),
            context: text("snmp_context"),
        }),
        modules,
        uplink: text("snmp_uplink"),
    })
}

fn read(
    file: &str,
    bytes: &[u8],
    columns: &Columns,
    checker: &mut Checker<'_>,
    mut each: impl FnMut(&Row<'_>, &mut Checker<'_>),
) {
    if bytes.len() > limits::IMPORT_BYTES {
        let problem = format!(
            "{} bytes, at most {} are allowed",
            bytes.len(),
            limits::IMPORT_BYTES
        );
        checker.problem(file, "", problem);
        return;
    }
    // Spreadsheets put a byte order mark in front of UTF-8.
    let bytes = bytes.strip_prefix(b"\xEF\xBB\xBF").unwrap_or(bytes);
    if bytes.iter().all(u8::is_ascii_whitespace) {
        return;
    }
    let mut reader = ReaderBuilder::new()
        .has_headers(false)
        .flexible(true)
        .trim(csv::Trim::All)
        .from_reader(bytes);
    let mut records = reader.byte_records();
    let header = match records.next() {
        Some(Ok(record)) => match header(file, &record, columns, checker) {
            Some(header) => header,
            None => return,
        },
        Some(Err(error)) => return checker.problem(&format!("{file}:1"), "", error),
        None => return,
    };
    for (number, record) in records.enumerate() {
        let record = match record {
            Ok(record) => record,
            Err(error) => return checker.problem(file, "", error),
        };
        let line = record.position().map_or(0, csv::Position::line);
        let place = format!("{file}:{line}");
        if number >= ROWS {
            return checker.problem(&place, "", format!("more than {ROWS} rows"));
        }
        if let Some(fields) = fields(&place, &record, &header, checker) {
            let row = Row {
                place,
                header: &header,
                fields,
            };
            each(&row, checker);
        }
    }
}

fn header(
    file: &str,
    record: &ByteRecord,
    columns: &Columns,
    checker: &mut Checker<'_>,
) -> Option<Vec<String>> {
    let place = format!("{file}:1");
    let known: Vec<&str> = [columns.required, columns.optional].concat();
    let mut header: Vec<String> = Vec::new();
    let mut good = true;
    for field in record {
        let name = String::from_utf8_lossy(field).into_owned();
        if !known.contains(&name.as_str()) {
            checker.problem(
                &place,
                &shown(&name),
                format!("unknown column (use {})", known.join(", ")),
            );
            good = false;
        } else if header.contains(&name) {
            checker.problem(&place, &name, "stands twice in the header");
            good = false;
        }
        header.push(name);
    }
    for missing in columns
        .required
        .iter()
        .filter(|name| !header.iter().any(|have| have == *name))
    {
        let problem = format!(
            "column is missing (needed are {})",
            columns.required.join(", ")
        );
        checker.problem(&place, missing, problem);
        good = false;
    }
    good.then_some(header)
}

fn fields<'a>(
    place: &str,
    record: &'a ByteRecord,
    header: &[String],
    checker: &mut Checker<'_>,
) -> Option<Vec<&'a str>> {
    if record.len() != header.len() {
        let problem = format!("{} fields, the header has {}", record.len(), header.len());
        checker.problem(place, "", problem);
        return None;
    }
    let mut fields = Vec::with_capacity(record.len());
    for (field, column) in record.iter().zip(header) {
        let Ok(text) = std::str::from_utf8(field) else {
            let problem = "is not UTF-8 (save the file as \"CSV UTF-8\")";
            checker.problem(place, column, problem);
            return None;
        };
        fields.push(text);
    }
    Some(fields)
}
