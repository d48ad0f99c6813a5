//! Rules that every dashboard keeps, so that Grafana loads it and a reader understands it. They follow Grafana's
//! dashboard-linter where that makes sense here; what differs says why.
//!
//! A rule gives its findings as text; no finding is a pass.

use std::collections::{BTreeMap, BTreeSet, HashSet};

use serde_json::Value;

use super::Dashboard;

/// The only data source that a dashboard may name.
const SOURCE: &str = "${datasource}";

/// Columns of Grafana's grid.
const COLUMNS: u64 = 24;

/// Ids of Grafana's units that make sense here.
const UNITS: &[&str] = &[
    "none",
    "short",
    "percent",
    "percentunit",
    "s",
    "ms",
    "dtdurations",
    "bytes",
    "decbytes",
    "bps",
    "Bps",
    "pps",
    "ops",
    "reqps",
    "dBm",
    "celsius",
];

/// A rule and its name.
pub(crate) type Rule = (&'static str, fn(&[Dashboard], &mut Vec<String>));

/// All of them.
pub(crate) const RULES: &[Rule] = &[
    ("identity", identity),
    ("data source", data_source),
    ("ids", ids),
    ("grid", grid),
    ("words", words),
    ("units", units),
    ("thresholds", thresholds),
    ("windows", windows),
    ("targets", targets),
    ("variables", variables),
    ("links", links),
    ("columns", columns),
    ("keys", keys),
    ("external", external),
];

/// Everything that any rule finds.
pub(crate) fn findings(dashboards: &[Dashboard]) -> Vec<String> {
    let mut found = Vec::new();
    for (name, rule) in RULES {
        let mut here = Vec::new();
        rule(dashboards, &mut here);
        found.extend(here.iter().map(|finding| format!("{name}: {finding}")));
    }
    found
}

/// A text of a JSON object, empty when it is missing.
pub(crate) fn text<'a>(value: &'a Value, key: &str) -> &'a str {
    value[key].as_str().unwrap_or_default()
}

/// The elements of a list, none when it is missing.
pub(crate) fn list<'a>(value: &'a Value, key: &str) -> &'a [Value] {
    value[key].as_array().map_or(&[], Vec::as_slice)
}

/// Runs over all panels with the words for a finding.
fn each_panel(dashboards: &[Dashboard], mut look: impl FnMut(&str, &Value)) {
    for dashboard in dashboards {
        for panel in list(&dashboard.json, "panels") {
            let at = format!(
                "{} panel {} {:?}",
                dashboard.file, panel["id"], panel["title"]
            );
            look(&at, panel);
        }
    }
}

/// Runs over the panels that show data.
fn each_data_panel(dashboards: &[Dashboard], mut look: impl FnMut(&str, &Value)) {
    each_panel(dashboards, |at, panel| {
        if text(panel, "type") != "row" {
            look(at, panel);
        }
    });
}

fn is_bilingual(words: &str) -> bool {
    let chinese = words
        .chars()
        .any(|c| ('\u{4e00}'..='\u{9fff}').contains(&c));
    chinese && words.chars().any(|c| c.is_ascii_alphabetic())
}

/// A uid that links can rely on, a schema that Grafana still migrates, and no edits that the next start would undo.
fn identity(dashboards: &[Dashboard], found: &mut Vec<String>) {
    let mut seen = HashSet::new();
    for Dashboard { file, json } in dashboards {
        let uid = text(json, "uid");
        let expected = format!("extranet-{}", file.trim_end_matches(".json"));
        if uid != expected {
            found.push(format!("{file} has the uid {uid:?}, not {expected:?}"));
        }
        if !seen.insert(uid) {
            found.push(format!("{file} has the uid of another"));
        }
        if json["schemaVersion"].as_u64() < Some(39) {
            found.push(format!("{file} has a schemaVersion below 39"));
        }
        if json["editable"] != false {
            found.push(format!("{file} is editable"));
        }
        if !json["id"].is_null() {
            found.push(format!("{file} has the id of one database"));
        }
    }
}

/// One variable for the data source, and nothing that goes around it.
fn data_source(dashboards: &[Dashboard], found: &mut Vec<String>) {
    for Dashboard { file, json } in dashboards {
        let variables = list(&json["templating"], "list");
        let sources: Vec<&str> = variables
            .iter()
            .filter(|variable| variable["type"] == "datasource")
            .map(|variable| text(variable, "name"))
            .collect();
        if sources != ["datasource"] {
            found.push(format!("{file} has the data source variables {sources:?}"));
        }
        for variable in variables.iter().filter(|one| one["type"] == "query") {
            if variable["datasource"]["uid"] != SOURCE {
                found.push(format!(
                    "{file} variable {}: not {SOURCE}",
                    variable["name"]
                ));
            }
        }
    }
    each_data_panel(dashboards, |at, panel| {
        let targets = list(panel, "targets").iter();
        if std::iter::once(panel)
            .chain(targets)
            .any(|one| one["datasource"]["uid"] != SOURCE)
        {
            found.push(format!("{at}: not {SOURCE} everywhere"));
        }
    });
}

fn ids(dashboards: &[Dashboard], found: &mut Vec<String>) {
    let mut seen = HashSet::new();
    each_panel(dashboards, |at, panel| {
        let file = at.split(' ').next().map(str::to_owned);
        match panel["id"].as_u64() {
            Some(id) if seen.insert((file, id)) => {}
            _ => found.push(format!("{at}: no id of its own")),
        }
        let mut letters = HashSet::new();
        for target in list(panel, "targets") {
            if !letters.insert(text(target, "refId")) {
                found.push(format!("{at}: two targets {}", target["refId"]));
            }
        }
    });
}

fn grid(dashboards: &[Dashboard], found: &mut Vec<String>) {
    for dashboard in dashboards {
        let mut taken: BTreeMap<(u64, u64), u64> = BTreeMap::new();
        each_panel(std::slice::from_ref(dashboard), |at, panel| {
            let place = &panel["gridPos"];
            let [x, y, w, h] = ["x", "y", "w", "h"].map(|key| place[key].as_u64().unwrap_or(0));
            if w == 0 || h == 0 || x + w > COLUMNS {
                found.push(format!("{at}: outside the grid"));
                return;
            }
            let mut cells =
                (x..x + w).flat_map(|column| (y..y + h).map(move |line| (column, line)));
            let id = panel["id"].as_u64().unwrap_or(0);
            let other = cells.find_map(|cell| taken.insert(cell, id));
            if let Some(other) = other {
                found.push(format!("{at}: overlaps panel {other}"));
            }
        });
    }
}

fn words(dashboards: &[Dashboard], found: &mut Vec<String>) {
    for Dashboard { file, json } in dashboards {
        for key in ["title", "description"] {
            if !is_bilingual(text(json, key)) {
                found.push(format!("{file}: no {key} in Chinese and English"));
            }
        }
        for variable in list(&json["templating"], "list") {
            if !is_bilingual(text(variable, "label")) {
                found.push(format!("{file} variable {}: no label", variable["name"]));
            }
        }
    }
    each_panel(dashboards, |at, panel| {
        if !is_bilingual(text(panel, "title")) {
            found.push(format!("{at}: no title in Chinese and English"));
        }
        if text(panel, "type") != "row" && !is_bilingual(text(panel, "description")) {
            found.push(format!("{at}: no description in Chinese and English"));
        }
    });
}

fn units(dashboards: &[Dashboard], found: &mut Vec<String>) {
    each_data_panel(dashboards, |at, panel| {
        let defaults = &panel["fieldConfig"]["defaults"];
        let overridden = list(&panel["fieldConfig"], "overrides")
            .iter()
            .flat_map(|one| list(one, "properties"))
            .filter(|property| property["id"] == "unit")
            .map(|property| text(property, "value"));
        let own = defaults["unit"].as_str();
        if own.is_none() && list(defaults, "mappings").is_empty() {
            found.push(format!("{at}: neither unit nor mappings"));
        }
        for unit in own.into_iter().chain(overridden) {
            if !UNITS.contains(&unit) {
                found.push(format!("{at}: unknown unit {unit:?}"));
            }
        }
    });
}

/// What is coloured says where a colour begins.
fn thresholds(dashboards: &[Dashboard], found: &mut Vec<String>) {
    each_data_panel(dashboards, |at, panel| {
        let steps = list(&panel["fieldConfig"]["defaults"]["thresholds"], "steps");
        let coloured = ["stat", "table", "bargauge", "gauge"].contains(&text(panel, "type"));
        if steps.is_empty() {
            if coloured {
                found.push(format!("{at}: no thresholds"));
            }
            return;
        }
        let values: Vec<Option<f64>> = steps.iter().map(|step| step["value"].as_f64()).collect();
        let grows = values.windows(2).all(|pair| pair[0] < pair[1]);
        if values[0].is_some() || !grows {
            found.push(format!(
                "{at}: thresholds do not grow from null: {values:?}"
            ));
        }
    });
}

/// A fixed window is empty when a target is scraped more seldom. Totals over what the reader chose are as good.
fn windows(dashboards: &[Dashboard], found: &mut Vec<String>) {
    each_data_panel(dashboards, |at, panel| {
        for target in list(panel, "targets") {
            let expression = text(target, "expr");
            for function in ["rate(", "increase("] {
                for (start, _) in expression.match_indices(function) {
                    let window = expression
                        .get(start..)
                        .and_then(|rest| rest.split_once('['))
                        .and_then(|(_, rest)| rest.split_once(']'))
                        .map_or("", |(window, _)| window);
                    let total = function == "increase(" && window == "$__range";
                    if window != "$__rate_interval" && !total {
                        found.push(format!("{at}: {function}[{window}]"));
                    }
                }
            }
        }
    });
}

fn targets(dashboards: &[Dashboard], found: &mut Vec<String>) {
    each_data_panel(dashboards, |at, panel| {
        let kind = text(panel, "type");
        if list(panel, "targets").is_empty() {
            found.push(format!("{at}: asks nothing"));
        }
        for target in list(panel, "targets") {
            if text(target, "expr").is_empty() {
                found.push(format!("{at}: an empty query"));
            }
            let over_time = ["timeseries", "state-timeline", "status-history"].contains(&kind);
            if target["range"] != over_time || target["instant"] == over_time {
                found.push(format!("{at}: range and instant do not suit {kind}"));
            }
            if (kind == "table") != (target["format"] == "table") {
                found.push(format!("{at}: the format does not suit {kind}"));
            }
            if over_time && text(target, "legendFormat").is_empty() {
                found.push(format!("{at}: no legend"));
            }
        }
    });
}

/// Names after `$` in a text, without Grafana's own and `$1` of `label_replace`.
fn mentioned(text: &str) -> BTreeSet<&str> {
    let after = text.split('$').skip(1);
    after
        .map(|rest| {
            let rest = rest.strip_prefix('{').unwrap_or(rest);
            rest.split(|c: char| !(c.is_ascii_alphanumeric() || c == '_'))
                .next()
                .unwrap_or_default()
        })
        .filter(|name| !name.is_empty() && !name.starts_with("__") && *name != "1")
        .collect()
}

fn variables(dashboards: &[Dashboard], found: &mut Vec<String>) {
    for Dashboard { file, json } in dashboards {
        let everything = json.to_string();
        let used = mentioned(&everything);
        let defined: BTreeSet<&str> = list(&json["templating"], "list")
            .iter()
            .map(|variable| text(variable, "name"))
            .collect();
        for name in used.symmetric_difference(&defined) {
            found.push(format!(
                "{file}: variable {name} is not both defined and used"
            ));
        }
        for variable in list(&json["templating"], "list") {
            if variable["type"] == "query" && variable["refresh"] != 2 {
                found.push(format!("{file}: variable {} grows stale", variable["name"]));
            }
        }
    }
}

/// Every `url` anywhere in a value.
fn urls(value: &Value, into: &mut Vec<String>) {
    match value {
        Value::Object(fields) => {
            for (key, value) in fields {
                match value {
                    Value::String(url) if key == "url" && !url.is_empty() => into.push(url.clone()),
                    other => urls(other, into),
                }
            }
        }
        Value::Array(values) => values.iter().for_each(|value| urls(value, into)),
        _ => {}
    }
}

/// Links lead to dashboards that come with these, and hand over variables that those have.
fn links(dashboards: &[Dashboard], found: &mut Vec<String>) {
    let known: BTreeMap<&str, BTreeSet<&str>> = dashboards
        .iter()
        .map(|one| {
            let variables = list(&one.json["templating"], "list").iter();
            let names = variables.map(|variable| text(variable, "name")).collect();
            (text(&one.json, "uid"), names)
        })
        .collect();
    let tags: BTreeSet<&str> = dashboards
        .iter()
        .flat_map(|one| list(&one.json, "tags"))
        .filter_map(Value::as_str)
        .collect();
    for Dashboard { file, json } in dashboards {
        let mut all = Vec::new();
        urls(json, &mut all);
        for url in all {
            let (path, query) = url.split_once('?').unwrap_or((&url, ""));
            let Some(variables) = path.strip_prefix("/d/").and_then(|uid| known.get(uid)) else {
                found.push(format!("{file}: {url} leads nowhere"));
                continue;
            };
            let handed = query.split('&').filter_map(|pair| {
                let (name, _) = pair.split_once('=')?;
                name.strip_prefix("var-")
            });
            for name in handed.filter(|name| !variables.contains(name)) {
                found.push(format!(
                    "{file}: {url} hands over {name}, which is unknown there"
                ));
            }
        }
        for link in list(json, "links") {
            for tag in list(link, "tags").iter().filter_map(Value::as_str) {
                if !tags.contains(tag) {
                    found.push(format!("{file}: no dashboard has the tag {tag}"));
                }
            }
        }
    }
}

/// Overrides and sorting of a table name columns that it has.
fn columns(dashboards: &[Dashboard], found: &mut Vec<String>) {
    each_data_panel(dashboards, |at, panel| {
        if text(panel, "type") != "table" {
            return;
        }
        let organized = list(panel, "transformations")
            .iter()
            .filter_map(|one| one["options"]["renameByName"].as_object());
        let shown: BTreeSet<&str> = organized
            .flat_map(|names| names.values())
            .filter_map(Value::as_str)
            .collect();
        let overridden = list(&panel["fieldConfig"], "overrides")
            .iter()
            .map(|one| text(&one["matcher"], "options"));
        let sorted = list(&panel["options"], "sortBy")
            .iter()
            .map(|one| text(one, "displayName"));
        for name in overridden
            .chain(sorted)
            .filter(|name| !shown.contains(name))
        {
            found.push(format!("{at}: no column {name:?}"));
        }
    });
}

/// What Grafana's schema has at a place that is written here; a misspelt key is dropped silently on load.
const DASHBOARD_KEYS: &[&str] = &[
    "uid",
    "title",
    "description",
    "tags",
    "schemaVersion",
    "version",
    "editable",
    "graphTooltip",
    "timezone",
    "fiscalYearStartMonth",
    "weekStart",
    "liveNow",
    "refresh",
    "time",
    "timepicker",
    "annotations",
    "links",
    "templating",
    "panels",
];
const PANEL_KEYS: &[&str] = &[
    "id",
    "type",
    "title",
    "description",
    "datasource",
    "gridPos",
    "targets",
    "fieldConfig",
    "options",
    "transformations",
    "links",
    "interval",
    "maxDataPoints",
    "timeFrom",
    "timeShift",
    "transparent",
    "repeat",
    "pluginVersion",
];
const ROW_KEYS: &[&str] = &[
    "id",
    "type",
    "title",
    "collapsed",
    "gridPos",
    "panels",
    "repeat",
];
const TARGET_KEYS: &[&str] = &[
    "datasource",
    "refId",
    "editorMode",
    "expr",
    "legendFormat",
    "instant",
    "range",
    "format",
    "interval",
    "exemplar",
    "hide",
];
const FIELD_KEYS: &[&str] = &[
    "color",
    "unit",
    "thresholds",
    "mappings",
    "links",
    "custom",
    "min",
    "max",
    "decimals",
    "displayName",
    "noValue",
];
/// Panel types in use: options, then what their fields have of their own.
const PANEL_TYPES: &[(&str, &[&str], &[&str])] = &[
    (
        "stat",
        &[
            "colorMode",
            "graphMode",
            "justifyMode",
            "orientation",
            "textMode",
            "wideLayout",
            "reduceOptions",
            "text",
            "showPercentChange",
            "percentChangeColorMode",
        ],
        &[],
    ),
    (
        "timeseries",
        &["legend", "tooltip", "timezone"],
        &[
            "drawStyle",
            "lineInterpolation",
            "lineWidth",
            "fillOpacity",
            "showPoints",
            "spanNulls",
            "stacking",
            "axisPlacement",
            "axisLabel",
            "scaleDistribution",
            "thresholdsStyle",
            "pointSize",
            "gradientMode",
            "fillBelowTo",
        ],
    ),
    (
        "bargauge",
        &[
            "displayMode",
            "orientation",
            "showUnfilled",
            "valueMode",
            "namePlacement",
            "sizing",
            "minVizHeight",
            "minVizWidth",
            "maxVizHeight",
            "reduceOptions",
            "text",
            "legend",
        ],
        &[],
    ),
    (
        "table",
        &["cellHeight", "showHeader", "sortBy", "frameIndex", "footer"],
        &[
            "align",
            "cellOptions",
            "filterable",
            "inspect",
            "width",
            "minWidth",
            "hidden",
        ],
    ),
    (
        "state-timeline",
        &[
            "legend",
            "tooltip",
            "rowHeight",
            "showValue",
            "mergeValues",
            "alignValue",
            "perPage",
        ],
        &["fillOpacity", "lineWidth", "spanNulls"],
    ),
    (
        "status-history",
        &[
            "legend",
            "tooltip",
            "rowHeight",
            "showValue",
            "colWidth",
            "perPage",
        ],
        &["fillOpacity", "lineWidth"],
    ),
];

fn keys(dashboards: &[Dashboard], found: &mut Vec<String>) {
    let mut check = |at: &str, value: &Value, known: &[&str]| {
        let unknown = value
            .as_object()
            .into_iter()
            .flat_map(|fields| fields.keys())
            .filter(|key| !known.contains(&key.as_str()));
        found.extend(unknown.map(|key| format!("{at}: unknown key {key}")));
    };
    for Dashboard { file, json } in dashboards {
        check(file, json, DASHBOARD_KEYS);
    }
    let mut unknown_types = Vec::new();
    each_panel(dashboards, |at, panel| {
        let kind = text(panel, "type");
        if kind == "row" {
            check(at, panel, ROW_KEYS);
            return;
        }
        let Some((_, options, custom)) = PANEL_TYPES.iter().find(|(name, ..)| *name == kind) else {
            unknown_types.push(format!("{at}: unknown type {kind}"));
            return;
        };
        check(at, panel, PANEL_KEYS);
        check(at, &panel["options"], options);
        for target in list(panel, "targets") {
            check(at, target, TARGET_KEYS);
        }
        let defaults = &panel["fieldConfig"]["defaults"];
        check(at, defaults, FIELD_KEYS);
        check(at, &defaults["custom"], custom);
        for one in list(&panel["fieldConfig"], "overrides") {
            for property in list(one, "properties") {
                let id = text(property, "id");
                let (key, known) = match id.strip_prefix("custom.") {
                    Some(key) => (key, *custom),
                    None => (id, FIELD_KEYS),
                };
                check(at, &serde_json::json!({ key: null }), known);
            }
        }
    });
    found.extend(unknown_types);
}

/// A site that is cut off shows them too.
fn external(dashboards: &[Dashboard], found: &mut Vec<String>) {
    for Dashboard { file, json } in dashboards {
        if json.to_string().contains("://") {
            found.push(format!("{file} names something outside"));
        }
    }
}
