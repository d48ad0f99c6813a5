//! A whole province goes through the running service, and a report is made beside it.

use std::time::Duration;

use extranet_agent::clock::Clock;
use extranet_collector::inventory::generate::{self, MediaShares, Profile, Wish};
use extranet_collector::report::files::{About, Output, write};
use extranet_collector::report::{Language, Query, source, tables};
use extranet_proto::wire;
use extranet_proto::wire::admin_server::Admin;
use time::macros::date;
use tonic::Request;

use crate::place::Site;

/// How long an import of 6,918 access points may take on a busy machine, debug build.
const IMPORT: Duration = Duration::from_mins(1);

#[tokio::test]
async fn a_province_is_imported_and_reported_while_the_service_runs() {
    let site = Site::start_in(tempfile::tempdir().unwrap()).await;
    let files = tempfile::tempdir().unwrap();
    let wish = Wish {
        profile: Profile::A,
        seed: 1,
        media: MediaShares::default(),
    };
    generate::write(&generate::generate(&wish).unwrap(), files.path()).unwrap();
    let read = |name: &str| std::fs::read(files.path().join(name)).unwrap();
    let plan = wire::ApplyPlanRequest {
        plan_toml: String::from_utf8(read("plan.toml")).unwrap(),
        actor: "test".to_owned(),
    };
    let admin = &site.running().admin;
    let applied = admin.apply_plan(Request::new(plan)).await.unwrap();
    assert_eq!(applied.into_inner().problems, Vec::<String>::new());
    let request = wire::ImportRequest {
        access_points_csv: read("access-points.csv"),
        targets_csv: read("targets.csv"),
        villages_csv: read("villages.csv"),
        actor: "test".to_owned(),
    };
    let clock = Clock::system();
    let begin = clock.read().boottime_us;
    let reply = admin.import(Request::new(request.clone())).await.unwrap();
    let took = Duration::from_micros(clock.read().boottime_us - begin);
    let reply = reply.into_inner();
    assert_eq!(reply.problems, Vec::<String>::new());
    // The centre is there already and gets its details.
    assert_eq!((reply.added, reply.changed), (6_917 + 6_919 + 5_259, 1));
    assert!(took < IMPORT, "{took:?}");
    let again = admin
        .import(Request::new(request))
        .await
        .unwrap()
        .into_inner();
    assert_eq!(
        (again.added, again.changed, again.unchanged),
        (0, 0, 6_918 + 6_919 + 5_259)
    );

    let query = Query::new(
        date!(2026 - 11 - 01),
        date!(2099 - 01 - 01),
        "54",
        Vec::new(),
        None,
    );
    let query = query.unwrap();
    let facts = source::read(&site.config.state_dir, &query).unwrap();
    assert_eq!((facts.sites.len(), facts.register.len()), (6_918, 5_259));
    let tables = tables::build(&facts, &query, Language::Zh);
    let out = tempfile::tempdir().unwrap();
    let about = About::new(&facts, &query);
    let names = write(&tables, &about, &query, &Output::default(), out.path()).unwrap();
    assert!(names.contains(&"report.xlsx".to_owned()), "{names:?}");
    // The service still takes changes.
    site.ticket("t-540121201").await;
}
