use super::*;

fn plan(now: &Inventory, access_points: &[u8], targets: &[u8], actor: &str) -> Planned {
    let files = Files {
        access_points,
        targets,
        villages: b"",
    };
    super::plan(now, &Register::default(), &files, actor)
}

const ACCESS_POINTS: &str = include_str!("../../../../deploy/examples/access-points.csv");
const TARGETS: &str = include_str!("../../../../deploy/examples/targets.csv");

fn centre() -> Inventory {
    let mut inventory = Inventory::default();
    inventory.insert_access_point(wire::AccessPointRow {
        ap_id: "centre".to_owned(),
        name: "centre".to_owned(),
        level: "region".to_owned(),
        medium: "fibre".to_owned(),
        monitoring: "agent".to_owned(),
        ..Default::default()
    });
    inventory
}

fn problems(access_points: &str, targets: &str) -> Vec<String> {
    let planned = plan(
        &centre(),
        access_points.as_bytes(),
        targets.as_bytes(),
        "test",
    );
    assert!(planned.record.is_none(), "nothing may be imported");
    planned.reply.problems
}

#[test]
fn the_examples_import_and_a_second_import_changes_nothing() {
    let mut inventory = centre();
    let first = plan(
        &inventory,
        ACCESS_POINTS.as_bytes(),
        TARGETS.as_bytes(),
        "test",
    );
    assert_eq!(first.reply.problems, Vec::<String>::new());
    assert!(first.reply.added > 5);
    inventory.apply(&first.record.expect("rows to add"));
    let second = plan(
        &inventory,
        ACCESS_POINTS.as_bytes(),
        TARGETS.as_bytes(),
        "test",
    );
    assert_eq!((second.reply.added, second.reply.changed), (0, 0));
    assert_eq!(second.reply.unchanged, first.reply.added);
    assert!(second.record.is_none());
}

#[test]
fn only_rows_that_differ_are_logged() {
    let mut inventory = centre();
    let file = "ap_id,name,level,parent\na,甲,county,centre\nb,乙,township,a\n";
    let first = plan(&inventory, file.as_bytes(), b"", "test");
    inventory.apply(&first.record.expect("rows to add"));
    let edited = file.replace('乙', "丙");
    let second = plan(&inventory, edited.as_bytes(), b"", "test");
    assert_eq!((second.reply.changed, second.reply.unchanged), (1, 1));
    assert_eq!(second.record.expect("a change").access_points.len(), 1);
}

#[test]
fn every_problem_is_reported_with_its_place_at_once() {
    let access_points = "ap_id,name,level,parent,medium,monitoring,division_code\n\
        a b,甲,county,centre,fibre,agent,540100\n\
        b,,hamlet,nowhere,carrier pigeon,sometimes,abc\n\
        c,丙,village,centre,fibre\n\
        d,丁,county,d,fibre,agent,\n\
        d,丁,county,centre,fibre,agent,\n";
    let found = problems(access_points, "").join("\n");
    for expected in [
        "access-points.csv:2: ap_id: 'a b'",
        "access-points.csv:3: name: is empty",
        "access-points.csv:3: level: unknown level 'hamlet' (use region, prefecture, county, township, village)",
        "access-points.csv:3: medium: unknown medium 'carrier pigeon' (use fibre",
        "access-points.csv:3: monitoring: unknown monitoring 'sometimes' (use agent, remote, none)",
        "access-points.csv:3: division_code: 'abc'",
        "access-points.csv:3: parent: no access point 'nowhere'",
        "access-points.csv:4: 5 fields, the header has 7",
        "access-points.csv:6: ap_id: 'd' stands at access-points.csv:5 already",
    ] {
        assert!(
            found.contains(expected),
            "missing {expected:?} in:\n{found}"
        );
    }
}

#[test]
fn parents_may_not_lead_back_or_stand_lower() {
    let cycle = "ap_id,name,level,parent\na,甲,county,b\nb,乙,county,c\nc,丙,county,a\n";
    assert_eq!(problems(cycle, "").len(), 3);
    let own = problems("ap_id,name,level,parent\na,甲,county,a\n", "");
    assert!(own[0].contains("leads back to itself"), "{own:?}");
    let lower = "ap_id,name,level,parent\na,甲,village,centre\nb,乙,county,a\n";
    assert!(problems(lower, "")[0].contains("below this county"));
}

#[test]
fn headers_are_checked() {
    let found = problems("ap_id,name,nickname,name\n", "ap_id,name,kind\n").join("\n");
    for expected in [
        "access-points.csv:1: nickname: unknown column (use ap_id, name, level",
        "access-points.csv:1: name: stands twice",
        "access-points.csv:1: level: column is missing",
        "targets.csv:1: address: column is missing",
    ] {
        assert!(
            found.contains(expected),
            "missing {expected:?} in:\n{found}"
        );
    }
}

#[test]
fn services_are_checked() {
    let targets = "ap_id,name,kind,address,tcp_port,host,path,tls\n\
        centre,a,service,10.0.0.1,443,portal.example,/login,yes\n\
        centre,b,service,10.0.0.1,443,a b,login,perhaps\n\
        centre,c,resolver,10.0.0.53,,,,no\n";
    let found = problems("", targets);
    assert_eq!(found.len(), 3, "{found:?}");
    for expected in [
        "targets.csv:3: host: 'a b' is not an address",
        "targets.csv:3: path: 'login' must start with '/'",
        "targets.csv:3: tls: unknown tls 'perhaps' (use yes, no)",
    ] {
        let found = found.join("\n");
        assert!(
            found.contains(expected),
            "missing {expected:?} in:\n{found}"
        );
    }
}

#[test]
fn targets_are_checked_and_secrets_never_repeated() {
    let targets = "ap_id,name,kind,address,vrf,tcp_port,snmp_version,snmp_community,snmp_user,snmp_auth_protocol,snmp_auth_password\n\
        centre,a,anchor,10.0.0.1/24,,,,,,,\n\
        centre,b,thing,300.1.1.1,,70000,,,,,\n\
        nowhere,c,router,fd00::1,a very long vrf name,,2c,,,,\n\
        centre,d,router,router.example,,,3,,u,SHA-0,hunter2\n\
        centre,e,router,10.0.0.2,,,,hunter3,,,\n";
    let found = problems("", targets).join("\n");
    for expected in [
        "targets.csv:2: address: '10.0.0.1/24' is not an address",
        "targets.csv:3: kind: unknown kind 'thing' (use router, anchor, service, resolver, ntp, echo)",
        "targets.csv:3: address: '300.1.1.1'",
        "targets.csv:3: tcp_port: '70000' is not a port",
        "targets.csv:4: vrf:",
        "targets.csv:4: snmp_community: is needed",
        "targets.csv:4: ap_id: no access point 'nowhere'",
        "targets.csv:5: snmp_auth_protocol: unknown snmp_auth_protocol 'SHA-0' (use MD5",
        "targets.csv:5: snmp_auth_password: use at least 8 characters",
        "targets.csv:6: snmp_version: is needed with snmp_community",
    ] {
        assert!(
            found.contains(expected),
            "missing {expected:?} in:\n{found}"
        );
    }
    assert!(!found.contains("hunter"), "{found}");
}

#[test]
fn a_router_says_how_it_is_recognised() {
    let targets = "ap_id,name,kind,address,mac,link_local,prefixes\n\
        centre,a,router,10.0.0.1,00-00-5E-00-02-0A; 02:00:00:00:00:01,fe80:0::1,2001:db8:0:1::1/64\n";
    let planned = plan(&centre(), b"", targets.as_bytes(), "test");
    let rows = planned.record.expect("rows to add").targets;
    let expected = wire::ApprovedRouter {
        name: String::new(),
        macs: vec![vec![0, 0, 0x5e, 0, 2, 0x0a], vec![2, 0, 0, 0, 0, 1]],
        link_locals: vec!["fe80::1".to_owned()],
        prefixes: vec!["2001:db8:0:1::/64".to_owned()],
    };
    assert_eq!(rows[0].router, Some(expected));

    let targets = "ap_id,name,kind,address,mac,link_local,prefixes\n\
        centre,a,router,10.0.0.1,02:00:00:00:00,fd00::1,10.0.0.0/8\n\
        centre,b,router,10.0.0.2,,,2001:db8::/48\n\
        centre,c,service,10.0.0.3,02:00:00:00:00:01,,\n";
    let found = problems("", targets).join("\n");
    for expected in [
        "targets.csv:2: mac: '02:00:00:00:00' is not a MAC",
        "targets.csv:2: link_local: 'fd00::1' is not an address of fe80::/10",
        "targets.csv:2: prefixes: '10.0.0.0/8' is not a prefix",
        "targets.csv:3: mac: is needed with prefixes",
        "targets.csv:4: mac: mac, link_local and prefixes are only for",
    ] {
        assert!(
            found.contains(expected),
            "missing {expected:?} in:\n{found}"
        );
    }
}

#[test]
fn other_encodings_and_sizes_are_refused_and_a_mark_is_not_a_name() {
    let gbk = b"ap_id,name,level\na,\xc1\xd6\xd6\xdc,county\n";
    let planned = plan(&centre(), gbk, b"", "test");
    assert!(planned.reply.problems[0].contains("access-points.csv:2: name: is not UTF-8"));
    let large = vec![b'x'; limits::IMPORT_BYTES + 1];
    assert!(plan(&centre(), &large, b"", "test").reply.problems[0].contains("bytes, at most"));
    let marked = "\u{feff}ap_id,name,level\na,甲,county\n";
    assert_eq!(
        plan(&centre(), marked.as_bytes(), b"", "test").reply.added,
        1
    );
    assert_eq!(
        plan(&centre(), b"", b"\n", "test").reply,
        wire::ImportReply::default()
    );
}

#[test]
fn what_planners_know_is_read_exactly() {
    let file = "ap_id,name,level,division_code,department,zone,uplinks,isp,contract_mbps,lon,lat,coord_quality,\
        ipv4_prefix,ipv6_prefix,ce_model,ce_install_date,warranty_end,contact_role,remarks\n\
        a,甲,county,540230,区直单位,public,2,中国电信,12.5,89.68,28.56,illustrative,198.18.4.0/30,\
        2001:DB8:1200::/48,R1,2011-07-01,2016-07-01,县政府办,\n";
    let planned = plan(&centre(), file.as_bytes(), b"", "test");
    assert_eq!(planned.reply.problems, Vec::<String>::new());
    let row = &planned.record.expect("a row").access_points[0];
    assert_eq!((row.uplinks, row.contract_kbps), (2, 12_500));
    assert_eq!(
        (row.lon_e6, row.lat_e6),
        (Some(89_680_000), Some(28_560_000))
    );
    assert_eq!(row.ipv6_prefix, "2001:db8:1200::/48");
    assert_eq!(row.network_kind, "extranet");
    assert!(row.border_county, "康马县 is a border county by the table");
}

#[test]
fn what_planners_know_is_checked() {
    let file = "ap_id,name,level,division_code,zone,network_kind,uplinks,contract_mbps,lon,lat,coord_quality,\
        ipv4_prefix,ipv6_prefix,border_county,ce_install_date\n\
        a,甲,county,110101,dmz,intranet,many,-1,181,,guessed,198.18.4.1/30,2001:db8::1,yes,01.07.2011\n\
        b,乙,county,,,other,17,0.0001,89.68,91,,10.0.0.0/33,x/64,2,2011-02-30\n";
    let found = problems(file, "");
    let expected = [
        "csv:2: division_code: '110101' is not a division",
        "csv:2: zone: unknown zone 'dmz' (use public, private, internet)",
        "csv:2: network_kind: the classified intranet",
        "csv:2: uplinks: 'many'",
        "csv:2: contract_mbps: '-1'",
        "csv:2: lon: '181'",
        "csv:2: coord_quality: unknown coord_quality 'guessed'",
        "csv:2: ipv4_prefix: '198.18.4.1/30'",
        "csv:2: ipv6_prefix: '2001:db8::1'",
        "csv:2: border_county: 'yes'",
        "csv:2: ce_install_date: '01.07.2011'",
        "csv:3: network_kind: unknown network_kind 'other'",
        "csv:3: uplinks: '17'",
        "csv:3: contract_mbps: '0.0001'",
        "csv:3: lat: '91'",
        "csv:3: lon: lon and lat are only useful together",
        "csv:3: ipv4_prefix: '10.0.0.0/33'",
        "csv:3: ipv6_prefix: 'x/64'",
        "csv:3: border_county: '2'",
        "csv:3: ce_install_date: '2011-02-30'",
    ];
    for text in expected {
        assert!(
            found.iter().any(|problem| problem.contains(text)),
            "{text}: {found:#?}"
        );
    }
    assert_eq!(found.len(), expected.len(), "{found:#?}");
}

#[test]
fn the_register_of_villages_is_imported_once() {
    let now = centre();
    let csv = "code,name,rural_station\n540121201201,松盘村委会,1\n540121201202,白定村委会,\n";
    let files = Files {
        villages: csv.as_bytes(),
        ..Files::default()
    };
    let planned = super::plan(&now, &Register::default(), &files, "test");
    let record = planned.record.expect("two villages");
    let stations: Vec<bool> = record
        .villages
        .iter()
        .map(|row| row.rural_station)
        .collect();
    assert_eq!(stations, [true, false]);
    let register = record
        .villages
        .into_iter()
        .map(|row| (row.code.clone(), row))
        .collect();
    let again = super::plan(&now, &register, &files, "test");
    assert_eq!((again.reply.unchanged, again.record.is_none()), (2, true));

    let csv = "code,name\n540121201,松盘乡\n540121201201,x\n540121201201,x\n540121201999,x\n";
    let files = Files {
        villages: csv.as_bytes(),
        ..Files::default()
    };
    let found = super::plan(&now, &register, &files, "test").reply.problems;
    for text in [
        "csv:2: code: '540121201'",
        "csv:4: name: '540121201201' stands at",
        "csv:5: code",
    ] {
        assert!(
            found.iter().any(|problem| problem.contains(text)),
            "{text}: {found:#?}"
        );
    }
}
