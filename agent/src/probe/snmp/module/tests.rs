use extranet_proto::metric::{self, Metric};

use super::*;

#[test]
fn every_built_in_module_is_valid() {
    for name in NAMES {
        if let Err(problems) = Module::parse(name, text_of(name).unwrap()) {
            panic!("{problems}");
        }
        assert!(text_of(name).unwrap().len() < extranet_proto::limits::SNMP_MODULE_BYTES);
    }
    assert_eq!(built_in("from_the_future"), None);
}

#[test]
fn every_interface_metric_of_the_registry_has_one_column() {
    let module = built_in("if_mib").unwrap();
    let mut read: Vec<&str> = module.tables[0]
        .columns
        .iter()
        .filter(|column| matches!(column.form, Form::Metric { .. }))
        .map(|column| column.name.as_str())
        .collect();
    let mut registered: Vec<&str> = metric::REGISTRY
        .iter()
        .filter(|info| {
            (metric::IF_TYPE..=metric::IF_COUNTER_DISCONTINUITY_TIME).contains(&info.metric)
        })
        .map(|info| info.name)
        .collect();
    read.sort_unstable();
    registered.sort_unstable();
    assert_eq!(read, registered);
}

#[test]
fn types_of_registered_metrics_are_those_of_the_registry() {
    for name in NAMES {
        let module = built_in(name).unwrap();
        let columns = module.tables.iter().flat_map(|table| &table.columns);
        for column in columns.chain(&module.scalars) {
            let known = metric::REGISTRY
                .iter()
                .find(|info| info.name == column.name);
            if let (Some(info), Form::Metric { series, .. }) = (known, &column.form) {
                assert_eq!(info.kind, series.kind, "{name}: {}", column.name);
                assert!(info.metric < Metric(200) && series.scale.to_bits() == 1.0_f64.to_bits());
            }
        }
    }
}

#[test]
fn every_mistake_is_reported_with_its_line() {
    let text = "\
mibs = ['X']
colour = 'red'
[[scalar]]
name = 'bad name'
oid = '1.3.x'
type = 'gauge'
[[table]]
rows_by = ['nothing']
[[table.index]]
name = 'i'
type = 'float'
[[table.column]]
name = 'a'
oid = '1.3.6.1'
type = 'float'
[[table.column]]
name = 'b'
oid = '1.3.6.2'
type = 'gauge'
scale = '0'
index_parts = 3
";
    let problems = Module::parse("m.toml", text).unwrap_err().to_string();
    for expected in [
        "m.toml:2: colour",
        "m.toml:4: scalar[0].name",
        "m.toml:5: scalar[0].oid",
        "m.toml:8: table[0].rows_by: no column is called 'nothing'",
        "m.toml:11: table[0].index[0].type: use integer",
        "m.toml:15: table[0].column[0].type: use gauge",
        "m.toml:20: table[0].column[1].scale",
        "'b' has more index parts than the table",
    ] {
        assert!(problems.contains(expected), "{expected} / {problems}");
    }
    let empty = Module::parse("m", "mibs = []").unwrap_err().to_string();
    assert!(empty.contains("has no [[scalar]]"), "{empty}");
}

#[test]
fn labels_are_written_by_their_form() {
    let words = LabelForm::Word(vec![(8, "celsius".to_owned())]);
    for (form, datum, text) in [
        (
            LabelForm::Text,
            Datum::Octets(b"ge-0/0/1\0".to_vec()),
            "ge-0/0/1",
        ),
        (LabelForm::Octets, Datum::Octets(vec![0, 0x1b]), "00:1b"),
        (
            LabelForm::Address,
            Datum::Octets(vec![10, 0, 0, 1]),
            "10.0.0.1",
        ),
        (LabelForm::Address, Datum::Octets(vec![10]), ""),
        (LabelForm::Number, Datum::Signed(-3), "-3"),
        (LabelForm::Oid, Datum::Oid(Oid(vec![1, 3])), "1.3"),
        (words.clone(), Datum::Signed(8), "celsius"),
        (words, Datum::Signed(9), "9"),
        (LabelForm::Text, Datum::Missing, ""),
        (LabelForm::Octets, Datum::Signed(1), ""),
    ] {
        assert_eq!(form.text(&datum), text, "{form:?} {datum:?}");
    }
}
