//! What the dashboards ask: every query of a panel and of a variable, with the variables filled in.

use std::collections::BTreeSet;

use super::Dashboard;
use super::lint::{list, text};

/// One question.
#[derive(Debug, Clone)]
pub(crate) struct Query {
    /// Dashboard, panel and target, for a finding.
    pub(crate) at: String,
    /// File of its dashboard.
    pub(crate) file: String,
    /// The query text without variables.
    pub(crate) promql: String,
    /// Labels that its legend or its table shows.
    pub(crate) labels: BTreeSet<String>,
}

/// Values of the variables, those of Grafana among them. Longer names come before their beginnings.
const VALUES: &[(&str, &str)] = &[
    ("$__rate_interval", "10s"),
    ("$__range", "2m"),
    ("$collector", ".*"),
    ("$agent", ".*"),
    ("$parent", ".*"),
    ("$medium", ".*"),
    ("$level", ".*"),
    ("$ap", "site"),
];

/// Fields of a table that are no labels.
const NO_LABELS: [&str; 2] = ["Time", "Value"];

fn filled(promql: &str) -> String {
    let text = VALUES
        .iter()
        .fold(promql.to_owned(), |text, (name, value)| {
            text.replace(name, value)
        });
    assert!(
        !text.replace("\"$1\"", "").contains('$'),
        "a variable is left in {text}"
    );
    text
}

fn legend_labels(legend: &str) -> BTreeSet<String> {
    let opened = legend.split("{{").skip(1);
    opened
        .filter_map(|rest| rest.split_once("}}"))
        .map(|(name, _)| name.trim().to_owned())
        .collect()
}

/// Everything that is asked, in order.
pub(crate) fn all(dashboards: &[Dashboard]) -> Vec<Query> {
    let mut queries = Vec::new();
    for Dashboard { file, json } in dashboards {
        for variable in list(&json["templating"], "list") {
            let definition = text(variable, "definition");
            let Some(inside) = definition
                .strip_prefix("label_values(")
                .and_then(|rest| rest.strip_suffix(')'))
            else {
                assert_eq!(variable["type"], "datasource", "{file}: {variable}");
                continue;
            };
            assert_eq!(definition, text(&variable["query"], "query"));
            let (selector, label) = inside.rsplit_once(',').expect("a selector and a label");
            queries.push(Query {
                at: format!("{file} variable {}", variable["name"]),
                file: file.clone(),
                promql: filled(selector),
                labels: BTreeSet::from([label.trim().to_owned()]),
            });
        }
        for panel in list(json, "panels") {
            let columns = list(panel, "transformations")
                .iter()
                .filter_map(|one| one["options"]["renameByName"].as_object())
                .flat_map(|names| names.keys())
                .filter(|name| !NO_LABELS.contains(&name.as_str()) && !name.starts_with("Value #"));
            let columns: BTreeSet<String> = columns.cloned().collect();
            for target in list(panel, "targets") {
                let mut labels = legend_labels(text(target, "legendFormat"));
                labels.extend(columns.iter().cloned());
                queries.push(Query {
                    at: format!("{file} panel {} {}", panel["title"], target["refId"]),
                    file: file.clone(),
                    promql: filled(text(target, "expr")),
                    labels,
                });
            }
        }
    }
    queries
}

/// Names of metrics in a query: ours and those of the community exporters begin with these words.
pub(crate) fn metrics(promql: &str) -> BTreeSet<&str> {
    let outside_quotes = promql.split('"').step_by(2);
    outside_quotes
        .flat_map(|part| part.split(|c: char| !(c.is_ascii_alphanumeric() || c == '_')))
        .filter(|word| {
            let community = [
                "probe_", "snmp_", "ifHC", "ifIn", "ifOut", "ifOper", "sysUp",
            ];
            word.starts_with("extranet_") || community.iter().any(|begin| word.starts_with(begin))
        })
        // A label of the interfaces.
        .filter(|word| *word != "ifIndex")
        .collect()
}

/// A query without what it shows when there is nothing.
pub(crate) fn without_fallback(promql: &str) -> String {
    let text = promql.replace(" or vector(0)", "");
    match text.split_once(" or label_replace(vector(0)") {
        Some((before, _)) => before.to_owned(),
        None => text,
    }
}
