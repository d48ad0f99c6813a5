//! One round of judging: new slots for everyone, dirty slots again, then states, then alerts.

use std::collections::{BTreeMap, BTreeSet};

use rusqlite::Transaction;

use super::{FOLD_MS, Head, KEEP_MS, Watch, evidence, runs};
use crate::alert::life::Situation;
use crate::self_stats::count;
use crate::state::{self, Around, Evidence, Run, Signal, Slot, State};
use crate::store::StoreError;
use crate::store::catalogue::Doing;

/// Evidence of a range of slots, by access point.
type Fresh = BTreeMap<String, BTreeMap<Slot, Evidence>>;

/// What one round works with.
struct Round {
    /// Slots from here to `end` are judged for the first time.
    from: Slot,
    end: Slot,
    fresh: Fresh,
    gaps: Vec<(i64, i64)>,
}

impl Watch {
    /// Judges all slots before `end`.
    pub(super) fn judge(
        &mut self,
        transaction: &Transaction<'_>,
        end: Slot,
        now_us: i64,
    ) -> Result<(), StoreError> {
        self.flush(transaction)?;
        let from = self.judged_before.unwrap_or(end);
        self.judged_before = Some(end);
        let dirty = std::mem::take(&mut self.dirty);
        let oldest = dirty.values().filter_map(BTreeSet::first).min().copied();
        let round = Round {
            from,
            end,
            fresh: evidence::in_range(transaction, from, end)?,
            gaps: runs::own_gaps(
                transaction,
                oldest.unwrap_or(from).min(from) * self.times.slot_ms,
            )?,
        };
        let quiet = self.quiet(&round, from, end);
        let ids: BTreeSet<String> = (self.inventory.access_points().map(|ap| &ap.ap_id))
            .chain(self.heads.keys())
            .cloned()
            .collect();
        for ap_id in &ids {
            let dirty = dirty.get(ap_id).cloned().unwrap_or_default();
            self.judge_one(transaction, &round, &quiet, ap_id, &dirty, now_us)?;
        }
        let down = self
            .heads
            .values()
            .filter(|head| head.interval.state == State::Down)
            .count();
        self.stats
            .state_down
            .set(i64::try_from(down).unwrap_or(i64::MAX));
        self.judge_alerts(transaction, end, now_us)?;
        self.forget(transaction, end)
    }

    fn judge_one(
        &mut self,
        transaction: &Transaction<'_>,
        round: &Round,
        quiet: &[Run],
        ap_id: &str,
        dirty: &BTreeSet<Slot>,
        now_us: i64,
    ) -> Result<(), StoreError> {
        let head = self.heads.get(ap_id).cloned();
        let monitoring = self
            .inventory
            .access_point(ap_id)
            .map(|ap| ap.monitoring.clone());
        let new = match monitoring.as_deref() {
            None | Some("none") => match head {
                None => return Ok(()),
                Some(_) => vec![Run {
                    from: round.from,
                    signal: Signal::Off,
                }],
            },
            Some(monitoring) => {
                let remote = monitoring == "remote";
                if head.is_none() {
                    let Some(start) = self.first_life(transaction, round, ap_id, dirty, remote)?
                    else {
                        return Ok(());
                    };
                    let new = self.rebuild(transaction, round, ap_id, start, round.end)?;
                    return self.settle(transaction, round, ap_id, start, &[], &new, now_us);
                }
                self.overlay(
                    transaction,
                    round,
                    ap_id,
                    quiet.to_vec(),
                    round.fresh.get(ap_id),
                    round.end,
                )?
            }
        };
        let Some(head) = head else {
            return Ok(());
        };
        let goes_on = new.iter().all(|run| run.signal == head.run.signal);
        if dirty.is_empty() && goes_on && self.is_stable(&head, round.from) {
            return Ok(());
        }
        let first = runs::first(transaction, ap_id)?.unwrap_or(round.from);
        let lowest = dirty.first().copied().unwrap_or(round.from).min(round.from);
        let start_of = |slot| runs::start_of(transaction, ap_id, slot);
        let base =
            state::rejudge_from(&self.times.rule, lowest, start_of)?.unwrap_or(first.min(lowest));
        let old = runs::runs_from(transaction, ap_id, base)?;
        let mut all = old.clone();
        all.extend(new);
        normalise(&mut all);
        let remote = monitoring.as_deref() == Some("remote");
        for &slot in dirty.range(..round.end) {
            let start = all.first().map_or(round.end, |run| run.from);
            if slot >= start {
                let evidence = evidence::stored(transaction, ap_id, slot)?;
                let signal = self.signal(transaction, round, ap_id, slot, &evidence)?;
                if set(&mut all, slot, signal, round.end) {
                    self.stats.state_corrected.inc();
                }
            } else if self.shows_life(transaction, round, ap_id, slot, remote)? {
                // Evidence from before the access point was first seen: its service began earlier than was known.
                let mut earlier = self.rebuild(transaction, round, ap_id, slot, start)?;
                earlier.append(&mut all);
                all = earlier;
                normalise(&mut all);
            }
        }
        let base = all.first().map_or(base, |run| run.from.min(base));
        self.settle(transaction, round, ap_id, base, &old, &all, now_us)
    }

    /// Stores the runs from `base` on and the states that follow from them.
    #[expect(
        clippy::too_many_arguments,
        reason = "one step of a round, with all it depends on"
    )]
    fn settle(
        &mut self,
        transaction: &Transaction<'_>,
        round: &Round,
        ap_id: &str,
        base: Slot,
        old: &[Run],
        new: &[Run],
        now_us: i64,
    ) -> Result<(), StoreError> {
        runs::replace_runs(transaction, ap_id, old, new)?;
        let before = runs::interval_before(transaction, ap_id, base)?;
        let old_intervals = runs::intervals_from(transaction, ap_id, base)?;
        let mut intervals = state::intervals(&self.times.rule, before.as_ref(), new, round.end);
        let goes_on = intervals
            .first()
            .zip(before.as_ref())
            .is_some_and(|(first, before)| {
                (first.state, first.firm_up, first.cause)
                    == (before.state, before.firm_up, before.cause)
            });
        if goes_on {
            intervals.remove(0);
        }
        runs::replace_intervals(transaction, ap_id, &old_intervals, &intervals)?;
        let (Some(run), Some(interval)) = (new.last(), intervals.last().or(before.as_ref())) else {
            return Ok(());
        };
        let state = interval.state;
        let head = Head {
            run: *run,
            interval: *interval,
        };
        self.heads.insert(ap_id.to_owned(), head);
        if self.known.insert(ap_id.to_owned(), state) != Some(state) {
            runs::make_known(transaction, ap_id, now_us, state)?;
            count(&self.stats.state_changes, state.label());
            tracing::info!(ap_id, state = state.label(), "an access point changed");
        }
        Ok(())
    }

    /// Whether more slots like the last one change nothing.
    fn is_stable(&self, head: &Head, end: Slot) -> bool {
        let state = head.interval.state;
        match head.run.signal {
            Signal::Good => state == State::Up,
            Signal::Bad(_) => state == State::Down,
            Signal::Silent => {
                state == State::Down && end - head.run.from >= self.times.rule.silent_slots
            }
            Signal::Gap => state == State::Unknown,
            Signal::Off => state == State::NotInService,
        }
    }

    /// What slots without evidence say.
    fn quiet(&self, round: &Round, from: Slot, end: Slot) -> Vec<Run> {
        let mut all = vec![Run {
            from,
            signal: Signal::Silent,
        }];
        for (gap_from, gap_to) in &round.gaps {
            let first = self.times.slot(*gap_from).max(from);
            let behind = (self.times.slot(gap_to - 1) + 1).min(end);
            if first < behind {
                all.retain(|run| run.from < first || run.from > behind);
                all.push(Run {
                    from: first,
                    signal: Signal::Gap,
                });
                if behind < end {
                    all.push(Run {
                        from: behind,
                        signal: Signal::Silent,
                    });
                }
            }
        }
        normalise(&mut all);
        all
    }

    /// Puts what evidence says over quiet slots.
    fn overlay(
        &mut self,
        transaction: &Transaction<'_>,
        round: &Round,
        ap_id: &str,
        mut runs: Vec<Run>,
        evidence: Option<&BTreeMap<Slot, Evidence>>,
        end: Slot,
    ) -> Result<Vec<Run>, StoreError> {
        for (slot, evidence) in evidence.into_iter().flatten() {
            let signal = self.signal(transaction, round, ap_id, *slot, evidence)?;
            set(&mut runs, *slot, signal, end);
        }
        Ok(runs)
    }

    /// All runs between two slots, from stored evidence.
    fn rebuild(
        &mut self,
        transaction: &Transaction<'_>,
        round: &Round,
        ap_id: &str,
        from: Slot,
        end: Slot,
    ) -> Result<Vec<Run>, StoreError> {
        let stored = evidence::of(transaction, ap_id, from, end)?;
        let quiet = self.quiet(round, from, end);
        self.overlay(transaction, round, ap_id, quiet, Some(&stored), end)
    }

    /// The first slot in which an access point that is not in service yet shows that it should be.
    fn first_life(
        &mut self,
        transaction: &Transaction<'_>,
        round: &Round,
        ap_id: &str,
        dirty: &BTreeSet<Slot>,
        remote: bool,
    ) -> Result<Option<Slot>, StoreError> {
        let fresh = round.fresh.get(ap_id).into_iter().flat_map(BTreeMap::keys);
        let slots: BTreeSet<Slot> = dirty.range(..round.end).chain(fresh).copied().collect();
        for slot in slots {
            if self.shows_life(transaction, round, ap_id, slot, remote)? {
                return Ok(Some(slot));
            }
        }
        Ok(None)
    }

    fn shows_life(
        &mut self,
        transaction: &Transaction<'_>,
        round: &Round,
        ap_id: &str,
        slot: Slot,
        remote: bool,
    ) -> Result<bool, StoreError> {
        let evidence = evidence::stored(transaction, ap_id, slot)?;
        Ok(
            match self.signal(transaction, round, ap_id, slot, &evidence)? {
                Signal::Good => true,
                Signal::Bad(_) => remote || evidence.out().is_some(),
                _ => false,
            },
        )
    }

    fn signal(
        &mut self,
        transaction: &Transaction<'_>,
        round: &Round,
        ap_id: &str,
        slot: Slot,
        evidence: &Evidence,
    ) -> Result<Signal, StoreError> {
        let probers = if let Some(probers) = self.probers.get(ap_id) {
            *probers
        } else {
            let probers = evidence::probers(transaction, ap_id)?;
            self.probers.insert(ap_id.to_owned(), probers);
            probers
        };
        let mut around = Around {
            probers,
            ..Around::default()
        };
        for (agent, probes) in &evidence.inbound {
            if probes.verdict() == Some(false)
                && let Some(site) = self.site(transaction, agent)?
            {
                let own = match round.fresh.get(&site).and_then(|slots| slots.get(&slot)) {
                    Some(own) => own.clone(),
                    None => evidence::stored(transaction, &site, slot)?,
                };
                if own.out() == Some(false) {
                    around.blind.push(agent.clone());
                }
            }
        }
        let (begin, end) = (slot * self.times.slot_ms, (slot + 1) * self.times.slot_ms);
        around.gap = round
            .gaps
            .iter()
            .any(|(from, to)| *from < end && *to > begin);
        Ok(evidence.signal(&around))
    }

    fn judge_alerts(
        &mut self,
        transaction: &Transaction<'_>,
        end: Slot,
        now_us: i64,
    ) -> Result<(), StoreError> {
        let silent_slots = self.times.rule.silent_slots;
        let situations: BTreeMap<&str, Situation> = self
            .heads
            .iter()
            .map(|(ap_id, head)| {
                let bad_now = match head.run.signal {
                    Signal::Bad(_) => true,
                    Signal::Silent => end - head.run.from >= silent_slots,
                    _ => false,
                };
                let situation = Situation {
                    firm_up: head.interval.firm_up,
                    in_service: head.interval.state != State::NotInService,
                    bad_now,
                    since_ms: head.interval.from * self.times.slot_ms,
                    cause: head.interval.cause,
                };
                (ap_id.as_str(), situation)
            })
            .collect();
        self.alerts.judge(
            transaction,
            now_us,
            self.times.slot_ms,
            &situations,
            &self.inventory,
        )
    }

    /// Forgets evidence that nothing can change any more, about once an hour.
    fn forget(&mut self, transaction: &Transaction<'_>, end: Slot) -> Result<(), StoreError> {
        let slots = |ms: i64| ms / self.times.slot_ms;
        let fold_before = end - slots(FOLD_MS);
        if fold_before < self.folded_before + slots(3_600_000).max(1) {
            return Ok(());
        }
        self.folded_before = fold_before;
        transaction
            .prepare_cached(
                "DELETE FROM slot_evidence WHERE slot < ?1 AND (settled = 1 OR slot < ?2)",
            )
            .and_then(|mut statement| statement.execute([fold_before, end - slots(KEEP_MS)]))
            .doing("forgetting settled evidence")?;
        Ok(())
    }
}

/// Runs that say the same become one.
fn normalise(runs: &mut Vec<Run>) {
    runs.dedup_by(|later, earlier| later.signal == earlier.signal);
}

/// Changes one slot; whether it was different before.
fn set(runs: &mut Vec<Run>, slot: Slot, signal: Signal, end: Slot) -> bool {
    let behind = runs.partition_point(|run| run.from <= slot);
    let Some(old) = behind.checked_sub(1).and_then(|at| runs.get(at)).copied() else {
        return false;
    };
    if old.signal == signal {
        return false;
    }
    let next = runs.get(behind).map_or(end, |run| run.from);
    if slot + 1 < next {
        let rest = Run {
            from: slot + 1,
            signal: old.signal,
        };
        runs.insert(behind, rest);
    }
    runs.insert(behind, Run { from: slot, signal });
    if old.from == slot {
        runs.remove(behind - 1);
    }
    normalise(runs);
    true
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn setting_a_slot_splits_and_merges_runs() {
        let run = |from, signal| Run { from, signal };
        let mut runs = vec![run(0, Signal::Good), run(5, Signal::Silent)];
        assert!(set(&mut runs, 7, Signal::Good, 9));
        assert_eq!(
            runs,
            [
                run(0, Signal::Good),
                run(5, Signal::Silent),
                run(7, Signal::Good),
                run(8, Signal::Silent)
            ]
        );
        assert!(set(&mut runs, 5, Signal::Good, 9));
        assert!(set(&mut runs, 6, Signal::Good, 9));
        assert_eq!(runs, [run(0, Signal::Good), run(8, Signal::Silent)]);
        assert!(set(&mut runs, 8, Signal::Good, 9));
        assert_eq!(runs, [run(0, Signal::Good)]);
        assert!(!set(&mut runs, 3, Signal::Good, 9));
        assert!(!set(&mut runs, -1, Signal::Gap, 9));
    }
}
