//! Security events in the catalogue: from what agents report, and what the collector decides itself, to events with a
//! life cycle ([`crate::security`]), their alerts ([`alerts`]) and the entries that the syslog export follows.
//!
//! Constraints
//! 1. Records arrive in any order and twice at most: the newest word of each agent counts, by the time it was measured.
//!    What had been over before it arrived becomes history: an event that opens and closes at once, without an alert
//!    (SEC-32).
//! 2. Several agents may see one object: it is over when none of them sees it.
//! 3. Alerts and closings depend on records and ticks only, never on how the log was cut into transactions.
//! 4. An agent cannot fill the catalogue: its sights, and the closed events of its access point, are bounded.

mod alerts;
mod certificates;
mod entries;
mod event;
mod shown;
mod sights;
mod windows;

use std::collections::BTreeSet;
use std::sync::Arc;

use extranet_proto::record::{SecurityAction, SecurityEvent, SecurityRule, Severity};
use extranet_proto::wire;
use rusqlite::{Connection, OptionalExtension, Transaction};

use self::event::{Entry, Happened, Open};
use super::StoreError;
use super::catalogue::Doing;
use super::results::News;
use crate::security::{flaps_of_next, hold_down_ms, is_late, known_severity};
use crate::self_stats::{Stats, count};

pub(crate) use entries::{LogEntry, cursor, entries_after, first_entry, set_cursor, waiting};
pub(crate) use event::pairs_of;
pub(crate) use shown::{OpenCount, open_at};
pub(super) use shown::{by_id, events};
pub(super) use windows::{plan_window, windows};

/// Most closed events that are kept of one access point; beyond, the oldest go (guess: five a day for a year).
const CLOSED_EVENTS: i64 = 2_000;

/// What somebody says about an object at a time.
#[derive(Debug, Clone)]
struct Report {
    ap_id: String,
    agent: String,
    rule: SecurityRule,
    object: String,
    action: SecurityAction,
    severity: Severity,
    at_ms: i64,
    first_ms: i64,
    /// With a backlog.
    backlog: bool,
    /// Label `instance` of the check that decided it; empty = the agent did.
    instance: String,
    evidence: Vec<(String, String)>,
}

/// Applies security events.
pub(super) struct Security {
    stats: Arc<Stats>,
    /// How long an event must be over, ms.
    hold_ms: i64,
    /// When the next event may be closed, ms; `None` = look.
    due_ms: Option<i64>,
    /// Events that may need an alert.
    touched: BTreeSet<i64>,
    alerts_changed: bool,
    entries_added: bool,
}

impl Security {
    pub(super) fn new(hold_ms: i64, stats: Arc<Stats>) -> Self {
        Self {
            stats,
            hold_ms,
            due_ms: None,
            touched: BTreeSet::new(),
            alerts_changed: false,
            entries_added: false,
        }
    }

    /// Whether an alert opened, changed or closed since the last call.
    pub(super) fn take_alerts_changed(&mut self) -> bool {
        std::mem::take(&mut self.alerts_changed)
    }

    /// Whether there are new entries for the syslog export since the last call.
    pub(super) fn take_entries_added(&mut self) -> bool {
        std::mem::take(&mut self.entries_added)
    }

    /// Time has come so far: closes what has been over for long enough.
    pub(super) fn time(
        &mut self,
        transaction: &Transaction<'_>,
        now_us: i64,
    ) -> Result<(), StoreError> {
        let now = now_us.div_euclid(1_000);
        if self.due_ms.is_some_and(|due| now < due) {
            return Ok(());
        }
        let mut due = i64::MAX;
        for open in event::over(transaction)? {
            let over = open.over_ms.unwrap_or(now);
            let closes = over.saturating_add(hold_down_ms(self.hold_ms, open.flaps));
            if closes <= now {
                self.close(transaction, now_us, &open, over, "recovered")?;
            } else {
                due = due.min(closes);
            }
        }
        self.due_ms = Some(due);
        Ok(())
    }

    /// A tick: alerts that had to wait because there were too many at a time may open now.
    pub(super) fn tick(
        &mut self,
        transaction: &Transaction<'_>,
        now_us: i64,
    ) -> Result<(), StoreError> {
        self.touched.extend(alerts::waiting(transaction)?);
        self.settle(transaction, now_us, false)
    }

    /// What a batch says.
    pub(super) fn batch(
        &mut self,
        transaction: &Transaction<'_>,
        now_us: i64,
        batch: &wire::LoggedBatch,
        news: &News,
    ) -> Result<(), StoreError> {
        if news.security.is_empty() && news.endpoints.is_empty() {
            return Ok(());
        }
        let mut reports = self.reported(transaction, now_us, batch, news)?;
        for endpoint in &news.endpoints {
            let (at_ms, result) = &news.results[endpoint.result];
            reports.extend(certificates::judge(
                transaction,
                &Context::of(batch, now_us),
                *at_ms,
                result,
                &endpoint.labels,
            )?);
        }
        // What comes afterwards is read backwards, as it is sent: the end of an event before its beginning, so that what
        // is over is known to be.
        let is_late =
            |report: &Report| is_late(report.at_ms, now_us.div_euclid(1_000), report.backlog);
        let (mut late, live): (Vec<_>, Vec<_>) = reports.into_iter().partition(is_late);
        late.sort_by_key(|report| std::cmp::Reverse(report.at_ms));
        for report in late.iter().chain(&live) {
            self.apply(transaction, now_us, report)?;
        }
        self.settle(transaction, now_us, true)
    }

    /// What the agent itself says.
    fn reported(
        &self,
        connection: &Connection,
        now_us: i64,
        batch: &wire::LoggedBatch,
        news: &News,
    ) -> Result<Vec<Report>, StoreError> {
        if news.security.is_empty() {
            return Ok(Vec::new());
        }
        let ap_id: Option<String> = connection
            .prepare_cached("SELECT ap_id FROM agents WHERE agent_id = ?1")
            .and_then(|mut statement| {
                statement
                    .query_row([&batch.agent_id], |row| row.get(0))
                    .optional()
            })
            .doing("reading the access point of an agent")?;
        let Some(ap_id) = ap_id else {
            count(&self.stats.store_skipped, "unknown_agent");
            return Ok(Vec::new());
        };
        let context = Context::of(batch, now_us);
        let usable = news.security.iter().filter(|(_, event)| {
            let known = event.action != SecurityAction::Other;
            if !known {
                count(&self.stats.store_skipped, "unknown_security_action");
            }
            known
        });
        let report = |(wall_ms, event): &(i64, SecurityEvent)| {
            let at_ms = context.time(*wall_ms);
            let before = event.first_seen.boottime_ms;
            let first_ms = batch
                .boot_to_wall_ms
                .saturating_add(i64::try_from(before).unwrap_or(i64::MAX));
            Report {
                ap_id: ap_id.clone(),
                agent: batch.agent_id.clone(),
                rule: event.rule,
                object: plain(&event.object),
                action: event.action,
                severity: known_severity(event.severity),
                at_ms,
                first_ms: context.time(first_ms).min(at_ms),
                backlog: context.backlog,
                instance: String::new(),
                evidence: event
                    .evidence
                    .iter()
                    .map(|(name, value)| (plain(name), plain(value)))
                    .collect(),
            }
        };
        Ok(usable.map(report).collect())
    }

    fn apply(
        &mut self,
        transaction: &Transaction<'_>,
        now_us: i64,
        report: &Report,
    ) -> Result<(), StoreError> {
        // 1. What had ended before: history.
        if report.action == SecurityAction::Raised
            && let Some(ended) = sights::cleared_ms(transaction, report)?
            && report.at_ms < ended
        {
            return self.history(transaction, now_us, report, ended);
        }
        // 2. The newest word of this agent counts; an older one can only tell of an earlier beginning.
        let newest = sights::remember(transaction, report, &self.stats)?;
        let open = event::open(transaction, &report.ap_id, report.rule, &report.object)?;
        if !newest {
            let began_before = |open: &Open| report.first_ms < open.starts_ms;
            return match open.filter(began_before) {
                Some(open) if report.action == SecurityAction::Raised => {
                    event::began(transaction, open.id, report.first_ms)
                }
                _ => Ok(()),
            };
        }
        match (report.action, open) {
            (SecurityAction::Raised, Some(open)) => {
                self.raised_again(transaction, now_us, report, open)
            }
            (SecurityAction::Raised, None) => self.raised(transaction, now_us, report),
            (_, Some(open)) if !sights::is_seen(transaction, report)? => {
                self.over(transaction, now_us, &open, report.at_ms)
            }
            _ => Ok(()),
        }
    }

    /// Nobody sees it any more; what is reported afterwards may have been over for long enough already.
    fn over(
        &mut self,
        transaction: &Transaction<'_>,
        now_us: i64,
        open: &Open,
        at_ms: i64,
    ) -> Result<(), StoreError> {
        let over_ms = open.over_ms.map_or(at_ms, |before| before.max(at_ms));
        let closes_ms = over_ms.saturating_add(hold_down_ms(self.hold_ms, open.flaps));
        if closes_ms <= now_us.div_euclid(1_000) {
            return self.close(transaction, now_us, open, over_ms, "recovered");
        }
        self.due_ms = self.due_ms.map(|due| due.min(closes_ms));
        event::set_over(transaction, open.id, over_ms)
    }

    fn raised(
        &mut self,
        transaction: &Transaction<'_>,
        now_us: i64,
        report: &Report,
    ) -> Result<(), StoreError> {
        let flaps = event::last_closed(transaction, report)?.map_or(0, |(over_ms, flaps)| {
            flaps_of_next(self.hold_ms, over_ms, flaps, report.at_ms)
        });
        let severity = windows::severity(transaction, report)?;
        let late = is_late(report.at_ms, now_us.div_euclid(1_000), report.backlog);
        let open = event::insert(transaction, now_us, report, severity, flaps, late)?;
        self.entry(transaction, now_us, &open, Happened::Raised, report.at_ms)?;
        self.touched.insert(open.id);
        self.stats.security_raised.inc();
        tracing::warn!(
            event = open.id,
            rule = report.rule.label(),
            severity = severity.label(),
            ap_id = report.ap_id,
            object = report.object,
            late,
            "security event raised"
        );
        Ok(())
    }

    fn raised_again(
        &mut self,
        transaction: &Transaction<'_>,
        now_us: i64,
        report: &Report,
        mut open: Open,
    ) -> Result<(), StoreError> {
        if open.over_ms.take().is_some() {
            open.flaps = open.flaps.saturating_add(1);
        }
        let severity = windows::severity(transaction, report)?;
        let worse = severity.number() < open.severity.number();
        if worse {
            open.severity = severity;
        }
        if report.at_ms >= open.last_seen_ms {
            open.evidence.clone_from(&report.evidence);
            open.agent.clone_from(&report.agent);
        }
        open.last_seen_ms = open.last_seen_ms.max(report.at_ms);
        open.starts_ms = open.starts_ms.min(report.first_ms);
        event::update(transaction, &open)?;
        if worse {
            self.entry(transaction, now_us, &open, Happened::Worse, report.at_ms)?;
        }
        self.touched.insert(open.id);
        Ok(())
    }

    /// An event of which one hears when it is over.
    fn history(
        &mut self,
        transaction: &Transaction<'_>,
        now_us: i64,
        report: &Report,
        ended_ms: i64,
    ) -> Result<(), StoreError> {
        if event::covers(transaction, report)? {
            return Ok(());
        }
        let ended_ms =
            event::next_start(transaction, report)?.map_or(ended_ms, |next| ended_ms.min(next));
        let severity = windows::severity(transaction, report)?;
        // Closed before it is inserted beside an open one of the same object.
        let open = event::insert_closed(transaction, now_us, report, severity, ended_ms)?;
        self.entry(transaction, now_us, &open, Happened::Raised, report.at_ms)?;
        self.entry(transaction, now_us, &open, Happened::Over("late"), ended_ms)?;
        self.stats.security_raised.inc();
        tracing::warn!(
            event = open.id,
            rule = report.rule.label(),
            ap_id = report.ap_id,
            object = report.object,
            "security event reported when it was over"
        );
        event::forget_closed(transaction, &report.ap_id, CLOSED_EVENTS)
    }

    fn close(
        &mut self,
        transaction: &Transaction<'_>,
        now_us: i64,
        open: &Open,
        ends_ms: i64,
        reason: &'static str,
    ) -> Result<(), StoreError> {
        event::close(transaction, now_us, open, ends_ms, reason)?;
        self.entry(transaction, now_us, open, Happened::Over(reason), ends_ms)?;
        if alerts::close(transaction, now_us, open.id, ends_ms, reason)? {
            self.stats.alert_resolved.inc();
            self.alerts_changed = true;
        }
        tracing::info!(
            event = open.id,
            rule = open.rule.label(),
            ap_id = open.ap_id,
            object = open.object,
            reason,
            "security event closed"
        );
        event::forget_closed(transaction, &open.ap_id, CLOSED_EVENTS)
    }

    /// Opens the alerts that events need now, as far as there are not too many.
    fn settle(
        &mut self,
        transaction: &Transaction<'_>,
        now_us: i64,
        first_time: bool,
    ) -> Result<(), StoreError> {
        for id in std::mem::take(&mut self.touched) {
            match alerts::open_if_needed(transaction, now_us, id)? {
                alerts::Opening::Opened { instead } => {
                    self.stats.alert_opened.inc();
                    if instead {
                        self.stats.alert_resolved.inc();
                    }
                    self.alerts_changed = true;
                }
                alerts::Opening::TooMany(rule) if first_time => {
                    count(&self.stats.security_suppressed, rule.label());
                }
                alerts::Opening::TooMany(_) | alerts::Opening::NotNeeded => {}
            }
        }
        Ok(())
    }

    fn entry(
        &mut self,
        transaction: &Transaction<'_>,
        now_us: i64,
        open: &Open,
        happened: Happened,
        at_ms: i64,
    ) -> Result<(), StoreError> {
        self.entries_added = true;
        let entry = Entry {
            happened,
            now_us,
            at_ms,
        };
        event::log(transaction, open, &entry)
    }

    /// An operator has declared an event over.
    pub(super) fn closed_by_hand(
        &mut self,
        transaction: &Transaction<'_>,
        now_us: i64,
        closed: &wire::SecurityEventClosed,
    ) -> Result<(), StoreError> {
        let rule = u8::try_from(closed.rule).ok();
        let Some(rule) = rule.and_then(SecurityRule::from_number) else {
            return Ok(());
        };
        let now = now_us.div_euclid(1_000);
        certificates::accept(transaction, &closed.ap_id, &closed.object, now)?;
        sights::forget(transaction, &closed.ap_id, rule, &closed.object)?;
        if let Some(open) = event::open(transaction, &closed.ap_id, rule, &closed.object)? {
            let ends_ms = open.over_ms.unwrap_or(now);
            self.close(transaction, now_us, &open, ends_ms, "by_hand")?;
        }
        Ok(())
    }

    /// A window was registered: what changed within it, and is allowed to, is over.
    pub(super) fn window_added(
        &mut self,
        transaction: &Transaction<'_>,
        now_us: i64,
        window: &wire::SecurityWindowAdded,
    ) -> Result<(), StoreError> {
        windows::store(transaction, now_us, window)?;
        for (ap_id, object) in certificates::allowed_by_windows(transaction)? {
            let rule = SecurityRule::Certificate;
            sights::forget(transaction, &ap_id, rule, &object)?;
            if let Some(open) = event::open(transaction, &ap_id, rule, &object)? {
                let ends_ms = now_us.div_euclid(1_000);
                self.close(transaction, now_us, &open, ends_ms, "window")?;
            }
        }
        Ok(())
    }

    /// The inventory or an assignment changed, at one access point or (empty) anywhere: what nobody looks at any more is
    /// not open.
    pub(super) fn catalogue_changed(
        &mut self,
        transaction: &Transaction<'_>,
        now_us: i64,
        ap_id: &str,
    ) -> Result<(), StoreError> {
        sights::forget_unwatched(transaction, ap_id)?;
        for open in event::unseen(transaction)? {
            let ends_ms = now_us.div_euclid(1_000);
            self.close(transaction, now_us, &open, ends_ms, "not_monitored")?;
        }
        Ok(())
    }
}

/// What a batch says about times.
struct Context<'a> {
    agent: &'a str,
    now_ms: i64,
    /// False when the clock of the agent was never compared with ours.
    certain: bool,
    backlog: bool,
}

impl<'a> Context<'a> {
    fn of(batch: &'a wire::LoggedBatch, now_us: i64) -> Self {
        Self {
            agent: &batch.agent_id,
            now_ms: now_us.div_euclid(1_000),
            certain: batch.time_certain,
            backlog: batch.lane() == wire::Lane::Backlog,
        }
    }

    /// When something happened: not after we heard of it, and now where nobody knows.
    fn time(&self, wall_ms: i64) -> i64 {
        if self.certain {
            wall_ms.min(self.now_ms)
        } else {
            self.now_ms
        }
    }
}

/// What an agent wrote, without control characters: it goes into mails, messages and terminals.
fn plain(text: &str) -> String {
    text.chars()
        .map(|c| if c.is_control() { '\u{fffd}' } else { c })
        .collect()
}

#[cfg(test)]
mod tests;
