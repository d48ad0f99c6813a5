use super::super::module::Module;
use super::super::numbers::Numbers;
use super::super::session::{Binding, Cost};
use super::*;

/// A device that holds these objects.
struct Device(BTreeMap<Oid, Datum>);

impl Device {
    fn new(objects: &[(&str, Datum)]) -> Self {
        let parsed = |(oid, datum): &(&str, Datum)| (oid.parse().unwrap(), datum.clone());
        Self(objects.iter().map(parsed).collect())
    }
}

impl Session for Device {
    fn has_counter64(&self) -> bool {
        true
    }

    fn cost(&self) -> Cost {
        Cost::default()
    }

    async fn get(&self, oids: &[Oid]) -> Result<Vec<Binding>, Failure> {
        let found = oids.iter().map(|oid| Binding {
            oid: oid.clone(),
            datum: self.0.get(oid).cloned().unwrap_or(Datum::Missing),
        });
        Ok(found.collect())
    }

    async fn successors(&self, oids: &[Oid], repetitions: u32) -> Result<Vec<Binding>, Failure> {
        let mut answer = Vec::new();
        let mut cursors = oids.to_vec();
        for _ in 0..repetitions {
            for cursor in &mut cursors {
                use std::ops::Bound::{Excluded, Unbounded};
                let next = self.0.range((Excluded(cursor.clone()), Unbounded)).next();
                let (oid, datum) = match next {
                    Some((oid, datum)) => (oid.clone(), datum.clone()),
                    None => (cursor.clone(), Datum::EndOfView),
                };
                *cursor = oid.clone();
                answer.push(Binding { oid, datum });
            }
        }
        Ok(answer)
    }
}

fn module(text: &str) -> Module {
    let mut module = Module::parse("test", text).unwrap();
    Numbers::default().give_to(&mut module);
    module
}

async fn read(module: &Module, device: &Device, known: &[Vec<Vec<u32>>]) -> Scrape {
    scrape(device, module, known, &Window::new()).await.unwrap()
}

fn text(text: &str) -> Datum {
    Datum::Octets(text.as_bytes().to_vec())
}

fn shown(module: &Module, found: &Found) -> String {
    let labels: Vec<String> = found
        .labels
        .iter()
        .map(|(n, t)| format!("{n}={t}"))
        .collect();
    let values: Vec<String> = found
        .values
        .iter()
        .map(|(metric, raw)| {
            let series = module
                .series()
                .find(|series| series.number == *metric)
                .unwrap();
            format!("{}={}", series.name, raw.cast_signed())
        })
        .collect();
    format!("{{{}}} {}", labels.join(","), values.join(" "))
}

#[tokio::test]
async fn sensors_have_labels_of_another_table_and_a_value_in_whole_units() {
    let device = Device::new(&[
        ("1.3.6.1.2.1.47.1.1.1.1.2.7", text("SFP receive power")),
        ("1.3.6.1.2.1.47.1.1.1.1.7.7", text("Rx 1")),
        ("1.3.6.1.2.1.99.1.1.1.1.7", Datum::Signed(14)),
        ("1.3.6.1.2.1.99.1.1.1.2.7", Datum::Signed(9)),
        ("1.3.6.1.2.1.99.1.1.1.3.7", Datum::Signed(2)),
        ("1.3.6.1.2.1.99.1.1.1.4.7", Datum::Signed(-1_234)),
        ("1.3.6.1.2.1.99.1.1.1.5.7", Datum::Signed(1)),
    ]);
    let module = module(super::super::module::text_of("entity_sensor").unwrap());
    let scrape = read(&module, &device, &[]).await;
    assert_eq!(
        shown(&module, &scrape.objects[0]),
        "{entPhysicalIndex=7,entPhySensorType=dBm,entPhysicalName=Rx 1,entPhysicalDescr=SFP receive power} \
         entPhySensorValue=-1234 entPhySensorScale=9 entPhySensorPrecision=2 entPhySensorOperStatus=1 \
         extranet_sensor_value=-12340000"
    );
    assert_eq!(scrape.indexes, [vec![vec![7]]]);
}

#[tokio::test]
async fn milli_and_kilo_are_applied() {
    for (scale, precision, value, millionths) in [
        (8, 0, 3_300, Some(3_300_000)),
        (9, 1, 235, Some(23_500_000)),
        (10, 0, 2, Some(2_000_000_000)),
        (7, 3, 5, Some(0)),
        (14, 0, i64::MAX, None),
        (i64::MAX, 0, 1, None),
    ] {
        let data = [
            Datum::Signed(value),
            Datum::Signed(scale),
            Datum::Signed(precision),
        ];
        let data: Vec<Option<&Datum>> = data.iter().map(Some).collect();
        let module = module(super::super::module::text_of("entity_sensor").unwrap());
        let derived = &module.tables[0].derived[0];
        let derived = Derived {
            value: 0,
            scale: 1,
            precision: 2,
            ..derived.clone()
        };
        let found = computed(&derived, &data).map(|(_, raw)| raw.cast_signed());
        assert_eq!(found, millionths, "{scale} {precision} {value}");
    }
}

#[tokio::test]
async fn what_a_device_does_not_know_is_no_value() {
    let device = Device::new(&[
        ("1.3.6.1.4.1.25506.2.6.1.1.1.1.6.1", Datum::Signed(0)),
        ("1.3.6.1.4.1.25506.2.6.1.1.1.1.6.2", Datum::Signed(37)),
        ("1.3.6.1.4.1.25506.2.6.1.1.1.1.12.2", Datum::Signed(65_535)),
    ]);
    let module = module(super::super::module::text_of("h3c_entity").unwrap());
    let scrape = read(&module, &device, &[]).await;
    let all: Vec<String> = scrape.objects.iter().map(|o| shown(&module, o)).collect();
    assert_eq!(
        all,
        ["{entPhysicalIndex=2,entPhysicalName=} hh3cEntityExtCpuUsage=37"]
    );
}

const NAMED: &str = "\
[[table]]
identity = ['name']
rows_by = ['name']
[[table.index]]
name = 'i'
type = 'integer'
[[table.column]]
name = 'name'
oid = '1.3.1'
type = 'text'
[[table.column]]
name = 'v'
oid = '1.3.2'
type = 'gauge'
";

fn keys(scrape: &Scrape) -> Vec<&str> {
    scrape
        .objects
        .iter()
        .map(|object| object.key.as_str())
        .collect()
}

#[tokio::test]
async fn a_renumbered_row_stays_what_it_is() {
    let module = module(NAMED);
    let before = Device::new(&[("1.3.1.1", text("a")), ("1.3.2.1", Datum::Signed(5))]);
    let after = Device::new(&[("1.3.1.9", text("a")), ("1.3.2.9", Datum::Signed(6))]);
    let first = read(&module, &before, &[]).await;
    let second = read(&module, &after, &first.indexes).await;
    assert_eq!(keys(&first), ["0 a"]);
    assert_eq!(keys(&second), ["0 a"]);
    assert_eq!(shown(&module, &second.objects[0]), "{i=9,name=a} v=6");
}

#[tokio::test]
async fn rows_of_one_name_and_of_none_are_told_apart_by_their_index() {
    let module = module(NAMED);
    let device = Device::new(&[
        ("1.3.1.1", text("a")),
        ("1.3.1.2", text("a")),
        ("1.3.1.3", text("")),
        ("1.3.2.1", Datum::Signed(1)),
        ("1.3.2.2", Datum::Signed(2)),
        ("1.3.2.3", Datum::Signed(3)),
    ]);
    let scrape = read(&module, &device, &[]).await;
    assert_eq!(keys(&scrape), ["0 #3", "0 a 1", "0 a 2"]);
}

#[tokio::test]
async fn of_a_history_only_the_newest_row_counts() {
    let owner_test = "3.110.111.99.4.112.105.110.103";
    let column = |arc: u32, test: u32| {
        format!("1.3.6.1.4.1.2011.5.25.111.4.1.1.{arc}.{owner_test}.{test}.1")
    };
    let names = [column(3, 4), column(26, 4), column(3, 5), column(26, 5)];
    let device = Device::new(&[
        (&names[0], Datum::Signed(1)),
        (&names[1], Datum::Unsigned(20)),
        (&names[2], Datum::Signed(1)),
        (&names[3], Datum::Unsigned(30)),
    ]);
    let module = module(super::super::module::text_of("huawei_nqa").unwrap());
    let scrape = read(&module, &device, &[]).await;
    let all: Vec<String> = scrape.objects.iter().map(|o| shown(&module, o)).collect();
    assert_eq!(
        all,
        ["{nqaOwner=noc,nqaTest=ping,nqaHopIndex=1} nqaResultsCompletions=1 nqaResultsRttAvg=30"]
    );
}

#[tokio::test]
async fn scalars_that_are_texts_become_labels_of_the_device() {
    let device = Device::new(&[
        ("1.3.6.1.2.1.33.1.1.1.0", text("ACME")),
        ("1.3.6.1.2.1.33.1.2.2.0", Datum::Signed(0)),
    ]);
    let module = module(super::super::module::text_of("ups_mib").unwrap());
    let scrape = read(&module, &device, &[]).await;
    assert_eq!(scrape.own.len(), 1);
    assert_eq!(
        shown(&module, &scrape.objects[0]),
        "{upsIdentManufacturer=ACME,upsIdentModel=,upsIdentName=} extranet_ups_info=1"
    );
}
