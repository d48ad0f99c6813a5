//! `security`: events with their evidence, and times of work.

use std::fmt::Write as _;
use std::time::Duration;

use clap::{ArgGroup, Args, Subcommand};
use extranet_agent::config::reader::parse_duration;
use extranet_proto::wire;
use extranet_proto::wire::admin_client::AdminClient;
use serde::Serialize;
use time::format_description::well_known::Rfc3339;
use time::macros::format_description;
use time::{OffsetDateTime, PrimitiveDateTime, UtcOffset};
use tonic::transport::Channel;

use super::{CliError, actor, problems, say, status};

#[derive(Debug, Subcommand)]
pub(super) enum SecurityCommand {
    /// Show security events, newest first, with their evidence
    List(ListArgs),
    /// Declare an event over. A certificate that changed is accepted as it is now
    Close(CloseArgs),
    /// Times in which somebody works on things
    #[command(subcommand)]
    Window(WindowCommand),
}

#[derive(Debug, Args)]
pub(super) struct ListArgs {
    /// Only those that are not closed
    #[arg(long)]
    open: bool,
    /// Only this access point
    #[arg(long, value_name = "ID", default_value = "")]
    ap: String,
    /// Most events shown
    #[arg(long, value_name = "NUMBER", default_value_t = 100)]
    limit: u32,
    /// Print JSON
    #[arg(long)]
    json: bool,
}

#[derive(Debug, Args)]
pub(super) struct CloseArgs {
    /// Number of the event, see `security list`
    id: u64,
    /// Why it is over
    #[arg(long, value_name = "TEXT")]
    reason: String,
}

#[derive(Debug, Subcommand)]
pub(super) enum WindowCommand {
    /// Register a time of work: a certificate renewed in it by the same issuer is no event
    Add(WindowArgs),
    /// Show what is registered, newest first
    List,
}

#[derive(Debug, Args)]
#[command(group(ArgGroup::new("what").required(true).multiple(true).args(["ap", "service"])))]
#[command(group(ArgGroup::new("end").required(true).args(["to", "lasting"])))]
pub(super) struct WindowArgs {
    /// Only this access point
    #[arg(long, value_name = "ID", default_value = "")]
    ap: String,
    /// Only this service: its name in the inventory, or its address with port
    #[arg(long, value_name = "SERVICE", default_value = "")]
    service: String,
    /// Begin, as 2026-11-21T22:00 (Asia/Shanghai) or RFC 3339 [default: now]
    #[arg(long, value_name = "TIME", value_parser = moment)]
    from: Option<OffsetDateTime>,
    /// End
    #[arg(long, value_name = "TIME", value_parser = moment)]
    to: Option<OffsetDateTime>,
    /// How long, instead of an end
    #[arg(long, value_name = "DURATION", value_parser = parse_duration)]
    lasting: Option<Duration>,
    /// What is done
    #[arg(long, value_name = "TEXT")]
    reason: String,
}

/// "2026-11-21T22:00" in the zone of the network (AV-18), or with a zone of its own.
fn moment(text: &str) -> Result<OffsetDateTime, String> {
    let local = format_description!("[year]-[month]-[day]T[hour]:[minute]");
    let zone = UtcOffset::from_hms(8, 0, 0).expect("eight hours are an offset");
    PrimitiveDateTime::parse(text, local)
        .map(|time| time.assume_offset(zone))
        .or_else(|_| OffsetDateTime::parse(text, &Rfc3339))
        .map_err(|_| "use a time as 2026-11-21T22:00".to_owned())
}

fn micros(time: OffsetDateTime) -> i64 {
    i64::try_from(time.unix_timestamp_nanos() / 1_000).unwrap_or(i64::MAX)
}

pub(super) async fn run(
    client: &mut AdminClient<Channel>,
    now_us: i64,
    command: SecurityCommand,
) -> Result<(), CliError> {
    match command {
        SecurityCommand::List(args) => {
            let request = wire::SecurityEventsRequest {
                ap_id: args.ap,
                only_open: args.open,
                limit: args.limit,
            };
            let events = client.security_events(request).await?.into_inner().events;
            say(&if args.json {
                json(&events)
            } else {
                table(&events)
            });
            Ok(())
        }
        SecurityCommand::Close(CloseArgs { id, reason }) => {
            let request = wire::CloseSecurityEventRequest {
                event_id: id,
                reason,
                actor: actor(),
            };
            let closed = client.close_security_event(request).await?.into_inner();
            let event = closed.event.unwrap_or_default();
            say(&format!(
                "closed: {} {} {}: {}",
                event.rule, event.name, event.ap_id, event.object
            ));
            Ok(())
        }
        SecurityCommand::Window(WindowCommand::Add(args)) => add(client, now_us, args).await,
        SecurityCommand::Window(WindowCommand::List) => {
            let windows = client
                .security_windows(wire::SecurityWindowsRequest {})
                .await?
                .into_inner()
                .windows;
            say(&windows_table(&windows));
            Ok(())
        }
    }
}

async fn add(
    client: &mut AdminClient<Channel>,
    now_us: i64,
    args: WindowArgs,
) -> Result<(), CliError> {
    let from_wall_us = args.from.map_or(now_us, micros);
    let lasting = args.lasting.unwrap_or_default();
    let lasting = i64::try_from(lasting.as_micros()).unwrap_or(i64::MAX);
    let to_wall_us = args.to.map_or(from_wall_us.saturating_add(lasting), micros);
    let request = wire::AddSecurityWindowRequest {
        ap_id: args.ap,
        service: args.service,
        from_wall_us,
        to_wall_us,
        reason: args.reason,
        actor: actor(),
    };
    let ap = request.ap_id.clone();
    let reply = client.add_security_window(request).await?.into_inner();
    if !reply.problems.is_empty() {
        return Err(problems("no window was registered", &reply.problems));
    }
    say(&format!(
        "registered for {}: {} to {}",
        subject(&ap, &reply.service),
        status::time(from_wall_us),
        status::time(to_wall_us)
    ));
    Ok(())
}

/// What a window is for.
fn subject(ap: &str, service: &str) -> String {
    match (ap, service) {
        (ap, "") => format!("everything at {ap}"),
        ("", service) => format!("{service} at every access point"),
        (ap, service) => format!("{service} at {ap}"),
    }
}

fn windows_table(windows: &[wire::SecurityWindow]) -> String {
    if windows.is_empty() {
        return "no windows".to_owned();
    }
    let line = |window: &wire::SecurityWindow| {
        format!(
            "{} to {}  {}: {} ({})",
            status::time(window.from_wall_us),
            status::time(window.to_wall_us),
            subject(&window.ap_id, &window.service),
            printable(&window.reason),
            printable(&window.actor)
        )
    };
    windows.iter().map(line).collect::<Vec<_>>().join("\n")
}

/// What others wrote, without control characters: it must not move the cursor of a terminal.
fn printable(text: &str) -> String {
    text.chars()
        .map(|c| if c.is_control() { '\u{fffd}' } else { c })
        .collect()
}

/// Adds the lines of an event, with its evidence.
fn whole(out: &mut String, one: &wire::SecurityEventStatus) {
    event(out, one, "");
    for piece in &one.evidence {
        let (name, value) = (printable(&piece.name), printable(&piece.value));
        writeln!(out, "    {name}: {value}").expect("writing into a string cannot fail");
    }
}

/// Adds the lines of an event.
pub(super) fn event(out: &mut String, event: &wire::SecurityEventStatus, indent: &str) {
    let mut line = |text: String| {
        writeln!(out, "{indent}{text}").expect("writing into a string cannot fail");
    };
    let mut marks = String::new();
    if event.late {
        marks.push_str(", reported afterwards 补报");
    }
    if event.suppressed {
        marks.push_str(", alert waits: too many at a time");
    }
    if event.flaps > 0 {
        write!(marks, ", came back {} times", event.flaps).expect("writing cannot fail");
    }
    let until = match event.until_wall_us {
        0 => String::new(),
        until => format!(" until {}", status::time(until)),
    };
    let reason = match event.close_reason.as_str() {
        "" => String::new(),
        reason => format!(" ({reason})"),
    };
    line(format!(
        "#{} {} {} {} {}: {}",
        event.event_id,
        event.state,
        event.rule,
        event.severity,
        event.ap_id,
        printable(&event.object)
    ));
    line(format!(
        "  since {}{until}{reason}, seen by {}, raised {} times{marks}",
        status::time(event.since_wall_us),
        event.agents.join(" "),
        event.times_raised
    ));
    for text in [&event.text_zh, &event.text_en] {
        line(format!("  {}", printable(text)));
    }
}

fn table(events: &[wire::SecurityEventStatus]) -> String {
    if events.is_empty() {
        return "no security events".to_owned();
    }
    let mut out = String::new();
    for one in events {
        whole(&mut out, one);
    }
    out
}

#[derive(Serialize)]
pub(super) struct Event<'a> {
    #[serde(rename = "event_id")]
    id: u64,
    ap_id: &'a str,
    rule: &'a str,
    name: &'a str,
    severity: &'a str,
    object: &'a str,
    state: &'a str,
    since_wall_us: i64,
    last_seen_wall_us: i64,
    /// `null` while it is not over.
    until_wall_us: Option<i64>,
    close_reason: &'a str,
    agents: &'a [String],
    times_raised: u64,
    flaps: u32,
    late: bool,
    suppressed: bool,
    /// In order; a name may stand there twice.
    evidence: Vec<(&'a str, &'a str)>,
    text_zh: &'a str,
    text_en: &'a str,
}

impl<'a> From<&'a wire::SecurityEventStatus> for Event<'a> {
    fn from(event: &'a wire::SecurityEventStatus) -> Self {
        Self {
            id: event.event_id,
            ap_id: &event.ap_id,
            rule: &event.rule,
            name: &event.name,
            severity: &event.severity,
            object: &event.object,
            state: &event.state,
            since_wall_us: event.since_wall_us,
            last_seen_wall_us: event.last_seen_wall_us,
            until_wall_us: (event.until_wall_us != 0).then_some(event.until_wall_us),
            close_reason: &event.close_reason,
            agents: &event.agents,
            times_raised: event.times_raised,
            flaps: event.flaps,
            late: event.late,
            suppressed: event.suppressed,
            evidence: event
                .evidence
                .iter()
                .map(|piece| (piece.name.as_str(), piece.value.as_str()))
                .collect(),
            text_zh: &event.text_zh,
            text_en: &event.text_en,
        }
    }
}

fn json(events: &[wire::SecurityEventStatus]) -> String {
    let events: Vec<Event<'_>> = events.iter().map(Event::from).collect();
    serde_json::to_string_pretty(&events).expect("numbers and texts are JSON")
}

#[cfg(test)]
mod tests {
    use super::*;

    fn sample() -> wire::SecurityEventStatus {
        wire::SecurityEventStatus {
            event_id: 7,
            ap_id: "v1".to_owned(),
            rule: "SEC-04".to_owned(),
            severity: "critical".to_owned(),
            object: "gateway 10.0.0.1 on \u{1b}[2J".to_owned(),
            state: "active".to_owned(),
            since_wall_us: 1_800_000_000_000_000,
            agents: vec!["v1-00c0ffee".to_owned()],
            times_raised: 2,
            late: true,
            evidence: vec![wire::DisplayValue {
                name: "mac".to_owned(),
                value: "02:00:00:00:00:01".to_owned(),
            }],
            ..Default::default()
        }
    }

    #[test]
    fn an_event_is_shown_with_evidence_and_without_control_characters() {
        let shown = table(&[sample()]);
        for part in [
            "#7 active SEC-04 critical v1: gateway 10.0.0.1 on \u{fffd}[2J\n",
            "seen by v1-00c0ffee, raised 2 times, reported afterwards 补报",
            "    mac: 02:00:00:00:00:01\n",
        ] {
            assert!(shown.contains(part), "{part:?} is not in:\n{shown}");
        }
        let json: serde_json::Value = serde_json::from_str(&json(&[sample()])).unwrap();
        assert_eq!(json[0]["evidence"][0][0], "mac");
        assert_eq!(json[0]["until_wall_us"], serde_json::Value::Null);
    }

    #[test]
    fn times_of_windows_are_local_unless_they_say_otherwise() {
        let local = moment("2026-11-21T22:00").unwrap();
        assert_eq!(local, moment("2026-11-21T14:00:00Z").unwrap());
        assert!(moment("tomorrow").is_err());
    }
}
