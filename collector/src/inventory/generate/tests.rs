use super::*;
use crate::inventory::Inventory;
use crate::inventory::import::{self, Files};
use crate::plan::Plan;
use crate::plan::compile::Compiled;

fn wish(profile: Profile, seed: u64) -> Wish {
    Wish {
        profile,
        seed,
        media: MediaShares::default(),
    }
}

fn bytes(generated: &Generated) -> Vec<Vec<u8>> {
    vec![
        files::access_points(&generated.access_points),
        files::targets(&generated.targets),
        files::villages(&generated.villages),
    ]
}

fn count(generated: &Generated, is: impl Fn(&wire::AccessPointRow) -> bool) -> usize {
    generated.access_points.iter().filter(|row| is(row)).count()
}

#[test]
fn both_profiles_hold_exactly_what_was_reported() {
    for profile in [Profile::A, Profile::B] {
        let made = generate(&wish(profile, 1)).unwrap();
        assert_eq!(made.access_points.len(), 6_918);
        for (level, expected) in LEVELS.iter().zip(profile.totals()) {
            assert_eq!(
                count(&made, |row| row.level == *level),
                expected,
                "{profile:?} {level}"
            );
        }
        assert_eq!(made.villages.len(), REGISTER);
        assert_eq!(
            made.villages.iter().filter(|row| row.rural_station).count(),
            STATIONS
        );
        assert_eq!(made.targets.len(), 6_919);
    }
}

#[test]
fn details_of_the_profiles() {
    let a = generate(&wish(Profile::A, 1)).unwrap();
    let in_lhasa = |row: &wire::AccessPointRow| {
        row.level == "prefecture" && row.division_code.starts_with("5401")
    };
    assert_eq!(count(&a, in_lhasa), 66);
    let one_county = |row: &wire::AccessPointRow| {
        row.level == "county" && row.division_code.starts_with("542523")
    };
    assert_eq!(count(&a, one_county), 48);
    let b = generate(&wish(Profile::B, 1)).unwrap();
    assert_eq!(count(&b, in_lhasa), 21);
    assert_eq!(count(&b, one_county), 9, "噶尔县 is one of the smallest");
    let samzhubze = |row: &wire::AccessPointRow| {
        row.level == "county" && row.division_code.starts_with("540202")
    };
    assert_eq!(count(&b, samzhubze), 10, "桑珠孜区 is one of the largest");
}

#[test]
fn the_same_seed_gives_the_same_bytes_and_another_one_does_not() {
    for profile in [Profile::A, Profile::B] {
        let once = bytes(&generate(&wish(profile, 1)).unwrap());
        assert_eq!(once, bytes(&generate(&wish(profile, 1)).unwrap()));
        assert_ne!(once, bytes(&generate(&wish(profile, 2)).unwrap()));
    }
    // What a seed means must not change with a release: files of customers' demonstrations depend on it.
    let made = bytes(&generate(&wish(Profile::A, 1)).unwrap());
    let digest = ring::digest::digest(&ring::digest::SHA256, &made.concat());
    assert_eq!(
        format!("{:02x?}", &digest.as_ref()[..8]),
        "[88, dc, a7, df, 64, e1, 3b, db]",
        "profile A, seed 1"
    );
}

#[test]
fn rows_are_in_the_order_of_codes_and_every_parent_is_there() {
    for profile in [Profile::A, Profile::B] {
        let made = generate(&wish(profile, 7)).unwrap();
        assert!(
            made.access_points
                .is_sorted_by_key(|row| &row.division_code)
        );
        assert!(made.villages.is_sorted_by_key(|row| &row.code));
        let ids: HashSet<&str> = made
            .access_points
            .iter()
            .map(|row| row.ap_id.as_str())
            .collect();
        assert_eq!(ids.len(), 6_918, "ids are unique");
        for row in &made.access_points {
            let orphan = row.parent.is_empty() && row.ap_id != CENTRE_AP;
            assert!(!orphan && (row.parent.is_empty() || ids.contains(row.parent.as_str())));
        }
    }
}

#[test]
fn villages_are_sampled_in_proportion_to_the_size_of_counties() {
    let made = generate(&wish(Profile::A, 3)).unwrap();
    let divisions = Divisions::built_in();
    for county in divisions.of_rank(2) {
        let committees = divisions.of_rank(4).filter(|village| {
            village.kind == Kind::VillagersCommittee && village.code.starts_with(&county.code)
        });
        let exact = committees.count() as f64 * 2_120.0 / 5_303.0;
        let sampled = count(&made, |row| {
            row.level == "village" && row.division_code.starts_with(&county.code)
        });
        assert!(
            (sampled as f64 - exact).abs() < 1.0,
            "{}: {sampled} of {exact}",
            county.code
        );
    }
}

#[test]
fn border_counties_media_and_coordinates_are_as_required() {
    let made = generate(&wish(Profile::A, 1)).unwrap();
    let divisions = Divisions::built_in();
    let media =
        |level: &str, medium: &str| count(&made, |row| row.level == level && row.medium == medium);
    for level in ["region", "prefecture", "county"] {
        assert_eq!(media(level, "mobile") + media(level, "satellite"), 0);
    }
    let expected = [("township", [680, 14, 7]), ("village", [1_696, 318, 106])];
    for (level, numbers) in expected {
        assert_eq!(
            ["fibre", "mobile", "satellite"].map(|medium| media(level, medium)),
            numbers
        );
    }
    for row in &made.access_points {
        let division = divisions.get(&row.division_code).unwrap();
        let county = divisions.at_rank(division, 2);
        assert_eq!(
            row.border_county,
            county.is_some_and(|county| county.border)
        );
        let seat = divisions.path(division).find_map(|at| at.seat).unwrap();
        let at = (row.lon_e6.unwrap(), row.lat_e6.unwrap());
        let metres = great_circle_metres(seat, at);
        assert!(metres <= 25_000.0, "{}: {metres} m", row.ap_id);
        assert_eq!(row.coord_quality, "illustrative");
    }
    let tags: HashSet<&str> = made
        .access_points
        .iter()
        .filter(|row| row.border_county)
        .filter_map(|row| row.division_code.get(..6))
        .collect();
    assert_eq!(tags.len(), 21);
}

fn great_circle_metres(a: (i32, i32), b: (i32, i32)) -> f64 {
    let radians = |e6: i32| (f64::from(e6) / 1e6).to_radians();
    let (dlon, dlat) = (radians(b.0 - a.0), radians(b.1 - a.1));
    let h = (dlat / 2.0).sin().powi(2)
        + radians(a.1).cos() * radians(b.1).cos() * (dlon / 2.0).sin().powi(2);
    2.0 * 6_371_008.8 * h.sqrt().asin()
}

#[test]
fn addresses_are_unique_and_lie_in_those_of_the_divisions_around() {
    let mut prefixes: HashSet<String> = HashSet::new();
    let made = generate(&wish(Profile::B, 1)).unwrap();
    for row in &made.access_points {
        assert!(row.ipv4_prefix.starts_with("198.18.") || row.ipv4_prefix.starts_with("198.19."));
        assert!(
            row.ipv6_prefix.starts_with("2001:db8:1"),
            "{}",
            row.ipv6_prefix
        );
        assert!(prefixes.insert(row.ipv4_prefix.clone()));
        assert!(prefixes.insert(row.ipv6_prefix.clone()));
    }
    // Read from the rows alone: all of a county in one /48, of a prefecture in one /40, and no county in two.
    let mut of_counties: BTreeMap<&str, HashSet<ipnet::Ipv6Net>> = BTreeMap::new();
    for row in &made.access_points {
        let Some(county) = row
            .division_code
            .get(..6)
            .filter(|code| !code.ends_with("00"))
        else {
            continue;
        };
        let net: ipnet::Ipv6Net = row.ipv6_prefix.parse().unwrap();
        let around = net.supernet_of(48);
        of_counties.entry(county).or_default().insert(around);
    }
    assert_eq!(of_counties.len(), 74);
    assert!(of_counties.values().all(|nets| nets.len() == 1));
    let distinct: HashSet<_> = of_counties.values().flatten().collect();
    assert_eq!(distinct.len(), 74);
}

trait Supernet {
    fn supernet_of(&self, length: u8) -> Self;
}

impl Supernet for ipnet::Ipv6Net {
    fn supernet_of(&self, length: u8) -> Self {
        Self::new(self.network(), length).unwrap().trunc()
    }
}

#[test]
fn a_proof_that_cannot_hold_fails() {
    let keys = [1, 2].map(|site| SiteKey {
        prefecture: 1,
        county: 1,
        township: 0,
        site,
    });
    let plan = AddressPlan::new(keys.into_iter()).unwrap();
    let row = |ap_id: &str, key: SiteKey| wire::AccessPointRow {
        ap_id: ap_id.to_owned(),
        ipv4_prefix: plan.ipv4(key).unwrap().to_string(),
        ipv6_prefix: plan.ipv6(key).to_string(),
        ..Default::default()
    };
    let good = [row("a", keys[0]), row("b", keys[1])];
    plan.prove(&good).unwrap();
    let twice = [row("a", keys[0]), row("b", keys[0])];
    assert!(
        plan.prove(&twice)
            .unwrap_err()
            .to_string()
            .contains("given out twice")
    );
    let mut wide = good;
    wide[0].ipv4_prefix = "198.18.0.0/24".to_owned();
    assert!(
        plan.prove(&wide)
            .unwrap_err()
            .to_string()
            .contains("overlap")
    );
}

#[test]
fn shares_must_add_up() {
    let mut wish = wish(Profile::A, 1);
    wish.media.village = [80, 15, 6];
    let error = generate(&wish).unwrap_err().to_string();
    assert!(error.contains("villages add up to 101 %"), "{error}");
}

#[test]
fn the_files_import_without_a_problem_and_the_plan_fits() {
    for profile in [Profile::A, Profile::B] {
        let made = generate(&wish(profile, 1)).unwrap();
        let [access_points, targets, villages] = bytes(&made).try_into().unwrap();
        let files = Files {
            access_points: &access_points,
            targets: &targets,
            villages: &villages,
        };
        let mut now = Inventory::default();
        let planned = import::plan(&now, &BTreeMap::new(), &files, "test");
        assert_eq!(planned.reply.problems, Vec::<String>::new());
        assert_eq!(planned.reply.added, 6_918 + 6_919 + 5_259);
        let record = planned.record.unwrap();
        assert_eq!(
            record.access_points, made.access_points,
            "nothing is lost on the way"
        );
        now.apply(&record);
        let plan = Plan::parse("plan", include_str!("../../../data/plan-province.toml")).unwrap();
        let compiled = Compiled::new(&plan, &now);
        for row in &made.access_points {
            let checks = compiled
                .desired("x", &row.ap_id, &["x".to_owned()])
                .unwrap()
                .checks;
            assert!(
                checks.len() < extranet_proto::limits::ASSIGNMENT_CHECKS,
                "{}: {} checks",
                row.ap_id,
                checks.len()
            );
        }
    }
}
