//! Plans and assignments: ids, versions and who has to hear of them.
//!
//! Rules
//! 1. An assignment version of an agent, once given out, never changes and is never given out again for another content.
//! 2. A check id of an agent means the same for ever: the same digest keeps its id, anything else gets a new one.
//! 3. A compilation that leads to the content an agent has already gives no new version.

use std::collections::{BTreeMap, HashMap};
use std::sync::Arc;

use extranet_proto::id::AgentId;
use extranet_proto::{limits, wire};
use prost::Message;
use rusqlite::{Connection, OptionalExtension, Transaction, params};

use super::StoreError;
use super::catalogue::Doing;
use crate::inventory::Inventory;
use crate::plan::compile::{AgentsByAp, Compiled, Desired, DesiredCheck};
use crate::plan::{Plan, cost};
use crate::self_stats::{Stats, count_many};

/// Agents over their budget that are named; the rest is a number.
const NAMED_OVER_BUDGET: usize = 5;

/// What changed, so that no more than necessary is compiled again.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Scope {
    /// Access points or targets: all agents.
    Inventory,
    /// The plan: all agents.
    Plan,
    /// The agents of one access point.
    AccessPoint(String),
}

/// What a compilation did.
#[derive(Debug, Default, Clone, PartialEq, Eq)]
pub(super) struct Compilation {
    /// The last change number given out, if anything changed.
    pub(super) change: Option<u64>,
    /// Agents that get a new version.
    pub(super) changed: u32,
    /// Agents looked at.
    pub(super) total: u32,
    /// Agents for which not everything fits.
    pub(super) problems: Vec<String>,
    /// Agents that will stretch their intervals to keep their budget; the first few are named.
    pub(super) over_budget: Vec<String>,
    /// How many there are.
    pub(super) over_budget_total: u32,
}

/// Compiles plans; remembers what is the same from one compilation to the next.
pub(super) struct Compiler {
    stats: Arc<Stats>,
    plan: Option<Plan>,
    inventory: Option<Inventory>,
}

impl Compiler {
    pub(super) fn new(stats: Arc<Stats>) -> Self {
        Self {
            stats,
            plan: None,
            inventory: None,
        }
    }

    /// Gives new versions to the agents in `scope` whose checks changed.
    pub(super) fn compile(
        &mut self,
        transaction: &Transaction<'_>,
        now_us: i64,
        scope: &Scope,
    ) -> Result<Compilation, StoreError> {
        match scope {
            Scope::Inventory => self.inventory = None,
            Scope::Plan => self.plan = None,
            Scope::AccessPoint(_) => {}
        }
        let plan = match &mut self.plan {
            Some(plan) => plan,
            none => none.insert(current_plan(transaction)?),
        };
        let inventory = match &mut self.inventory {
            Some(inventory) => inventory,
            none => none.insert(Inventory::load(transaction)?),
        };
        let only = match scope {
            Scope::AccessPoint(ap_id) => Some(ap_id.as_str()),
            _ => None,
        };
        let agents = agents_by_ap(transaction, only)?;
        let compiled = Compiled::new(plan, inventory);
        let mut done = Compilation::default();
        for (ap_id, peers) in &agents {
            for agent in peers {
                done.total += 1;
                let Some(mut desired) = compiled.desired(agent, ap_id, peers) else {
                    continue;
                };
                cut(agent, &mut desired, &mut done.problems);
                for problem in desired.problems.drain(..) {
                    if !done.problems.contains(&problem) {
                        done.problems.push(problem);
                    }
                }
                if let Some(warning) = cost::warning(agent, ap_id, &desired) {
                    done.over_budget_total += 1;
                    if done.over_budget.len() < NAMED_OVER_BUDGET {
                        done.over_budget.push(warning);
                    }
                }
                if let Some(change) = assign(transaction, now_us, agent, ap_id, &desired)? {
                    done.change = Some(change);
                    done.changed += 1;
                }
            }
        }
        self.stats.fleet_assignments.inc_by(done.changed.into());
        count_many(
            &self.stats.store_skipped,
            "assignment_too_large",
            done.problems.len() as u64,
        );
        Ok(done)
    }
}

/// An assignment that is larger than an agent accepts is cut, so that the rest goes on being measured.
fn cut(agent: &str, desired: &mut Desired, problems: &mut Vec<String>) {
    let most = limits::ASSIGNMENT_CHECKS.min(limits::ASSIGNMENT_TARGETS);
    if desired.checks.len() > most {
        problems.push(format!(
            "agent {agent} would get {} checks, at most {most} are possible (narrow the plan's levels, media or from)",
            desired.checks.len()
        ));
        desired.checks.truncate(most);
    }
}

fn agents_by_ap(connection: &Connection, only: Option<&str>) -> Result<AgentsByAp, StoreError> {
    let mut agents: AgentsByAp = BTreeMap::new();
    let mut statement = connection
        .prepare_cached(
            "SELECT ap_id, agent_id FROM agents WHERE revoked_us IS NULL AND (?1 IS NULL OR ap_id = ?1) \
             ORDER BY ap_id, enrolled_us, agent_id",
        )
        .doing("reading agents")?;
    let rows = statement
        .query_map([only], |row| Ok((row.get(0)?, row.get(1)?)))
        .doing("reading agents")?;
    for row in rows {
        let (ap_id, agent): (String, String) = row.doing("reading agents")?;
        agents.entry(ap_id).or_default().push(agent);
    }
    Ok(agents)
}

/// Gives `agent` a new version if its content changes; the number of the change then.
fn assign(
    transaction: &Transaction<'_>,
    now_us: i64,
    agent: &str,
    ap_id: &str,
    desired: &Desired,
) -> Result<Option<u64>, StoreError> {
    let mut ids = Ids::load(transaction, agent)?;
    let mut targets: BTreeMap<u32, wire::Target> = BTreeMap::new();
    let mut checks: Vec<wire::Check> = Vec::with_capacity(desired.checks.len());
    for want in &desired.checks {
        let target_id = ids.target(transaction, agent, want)?;
        let check_id = ids.check(transaction, agent, want)?;
        targets.entry(target_id).or_insert_with(|| wire::Target {
            target_id,
            vrf: want.vrf.clone(),
            address: want.address.clone(),
        });
        checks.push(wire::Check {
            check_id,
            target_id,
            ..want.check.clone()
        });
    }
    checks.sort_by_key(|check| check.check_id);
    let mut assignment = wire::Assignment {
        version: ids.version,
        ap_id: ap_id.to_owned(),
        targets: targets.into_values().collect(),
        checks,
        flush_interval_ms: u32::try_from(desired.flush_interval.as_millis()).unwrap_or(u32::MAX),
        link_class: desired.link_class.into(),
        security: desired.security.clone(),
        daily_budget_bytes: desired.daily_budget,
        snmp_modules: desired.snmp_modules.clone(),
    };
    let content = assignment.encode_to_vec();
    if ids.content.as_deref() == Some(content.as_slice()) {
        return Ok(None);
    }
    assignment.version += 1;
    activate(transaction, agent, &assignment.checks)?;
    let change = latest_change(transaction)? + 1;
    transaction
        .prepare_cached(
            "INSERT INTO assignments (agent_id, version, wall_us, change, content) VALUES (?1, ?2, ?3, ?4, ?5)",
        )
        .and_then(|mut statement| {
            statement.execute(params![
                agent,
                assignment.version,
                now_us,
                change.cast_signed(),
                assignment.encode_to_vec()
            ])
        })
        .doing("storing an assignment")?;
    transaction
        .prepare_cached(
            "UPDATE agents SET next_check_id = ?2, next_target_id = ?3, assignment_version = ?4 \
             WHERE agent_id = ?1",
        )
        .and_then(|mut statement| {
            statement.execute(params![
                agent,
                ids.next_check,
                ids.next_target,
                assignment.version
            ])
        })
        .doing("storing an agent's numbers")?;
    Ok(Some(change))
}

/// Marks the checks that the agent's latest assignment holds.
fn activate(
    transaction: &Transaction<'_>,
    agent: &str,
    checks: &[wire::Check],
) -> Result<(), StoreError> {
    let write = || -> Result<(), rusqlite::Error> {
        transaction
            .prepare_cached("UPDATE checks SET active = 0 WHERE agent_id = ?1 AND active <> 0")?
            .execute([agent])?;
        let mut activate = transaction
            .prepare_cached("UPDATE checks SET active = 1 WHERE agent_id = ?1 AND check_id = ?2")?;
        for check in checks {
            activate.execute(params![agent, check.check_id])?;
        }
        Ok(())
    };
    write().doing("marking active checks")
}

/// The numbers an agent has been given so far.
struct Ids {
    version: u32,
    content: Option<Vec<u8>>,
    checks: HashMap<Vec<u8>, u32>,
    targets: HashMap<(String, String), u32>,
    next_check: u32,
    next_target: u32,
}

impl Ids {
    fn load(transaction: &Transaction<'_>, agent: &str) -> Result<Self, StoreError> {
        let read = || -> Result<Self, rusqlite::Error> {
            let (version, next_check, next_target) = transaction
                .prepare_cached(
                    "SELECT assignment_version, next_check_id, next_target_id FROM agents WHERE agent_id = ?1",
                )?
                .query_row([agent], |row| Ok((row.get(0)?, row.get(1)?, row.get(2)?)))?;
            let content = transaction
                .prepare_cached(
                    "SELECT content FROM assignments WHERE agent_id = ?1 AND version = ?2",
                )?
                .query_row(params![agent, version], |row| row.get(0))
                .optional()?;
            let checks = transaction
                .prepare_cached("SELECT digest, check_id FROM checks WHERE agent_id = ?1")?
                .query_map([agent], |row| Ok((row.get(0)?, row.get(1)?)))?
                .collect::<Result<_, _>>()?;
            let targets = transaction
                .prepare_cached(
                    "SELECT vrf, address, target_id FROM assignment_targets WHERE agent_id = ?1",
                )?
                .query_map([agent], |row| Ok(((row.get(0)?, row.get(1)?), row.get(2)?)))?
                .collect::<Result<_, _>>()?;
            Ok(Self {
                version,
                content,
                checks,
                targets,
                next_check,
                next_target,
            })
        };
        read().doing("reading an agent's numbers")
    }

    fn target(
        &mut self,
        transaction: &Transaction<'_>,
        agent: &str,
        want: &DesiredCheck,
    ) -> Result<u32, StoreError> {
        let key = (want.vrf.clone(), want.address.clone());
        if let Some(id) = self.targets.get(&key) {
            return Ok(*id);
        }
        let id = self.next_target;
        self.next_target += 1;
        transaction
            .prepare_cached(
                "INSERT INTO assignment_targets (agent_id, target_id, vrf, address) VALUES (?1, ?2, ?3, ?4)",
            )
            .and_then(|mut statement| statement.execute(params![agent, id, want.vrf, want.address]))
            .doing("storing a target")?;
        self.targets.insert(key, id);
        Ok(id)
    }

    fn check(
        &mut self,
        transaction: &Transaction<'_>,
        agent: &str,
        want: &DesiredCheck,
    ) -> Result<u32, StoreError> {
        let digest = want.digest();
        if let Some(id) = self.checks.get(&digest) {
            return Ok(*id);
        }
        let id = self.next_check;
        self.next_check += 1;
        let probe = match &want.check.probe {
            Some(wire::check::Probe::Icmp(_)) => "icmp",
            Some(wire::check::Probe::Tcp(_)) => "tcp",
            Some(wire::check::Probe::Snmp(_)) => "snmp",
            Some(wire::check::Probe::Dns(_)) => "dns",
            Some(wire::check::Probe::Http(_)) => "http",
            Some(wire::check::Probe::Tls(_)) => "tls",
            Some(wire::check::Probe::Ipv6(_)) => "ipv6",
            Some(wire::check::Probe::Traffic(_)) => "traffic",
            Some(wire::check::Probe::Path(_)) => "path",
            Some(wire::check::Probe::Udp(_)) => "udp",
            Some(wire::check::Probe::Ntp(_)) => "ntp",
            None => "",
        };
        transaction
            .prepare_cached(
                "INSERT INTO checks (agent_id, check_id, digest, name, family, instance, vrf, probe, role, ap_id, \
                 vantage) VALUES (?1, ?2, ?3, ?4, ?5, ?6, ?7, ?8, ?9, ?10, ?11)",
            )
            .and_then(|mut statement| {
                statement.execute(params![
                    agent,
                    id,
                    digest,
                    want.check.name,
                    want.check.family,
                    want.instance,
                    want.vrf,
                    probe,
                    want.role,
                    want.ap_id,
                    want.vantage
                ])
            })
            .doing("storing a check")?;
        self.checks.insert(digest, id);
        Ok(id)
    }
}

/// The plan that holds: the last one applied, or the built-in one.
fn current_plan(connection: &Connection) -> Result<Plan, StoreError> {
    // A plan was parsed before it was logged; one that no longer parses comes from another release.
    Ok(current_plan_text(connection)?
        .and_then(|toml| match Plan::parse("stored plan", &toml) {
            Ok(plan) => Some(plan),
            Err(problems) => {
                tracing::error!(
                    %problems,
                    "the stored plan is not valid for this release, the built-in plan is used"
                );
                None
            }
        })
        .unwrap_or_else(Plan::built_in))
}

fn current_plan_text(connection: &Connection) -> Result<Option<String>, StoreError> {
    connection
        .query_row(
            "SELECT toml FROM plans ORDER BY version DESC LIMIT 1",
            [],
            |row| row.get(0),
        )
        .optional()
        .doing("reading the plan")
}

/// Number of the plan that holds; 0 = the built-in one.
pub(super) fn plan_version(connection: &Connection) -> Result<u32, StoreError> {
    connection
        .query_row("SELECT coalesce(max(version), 0) FROM plans", [], |row| {
            row.get(0)
        })
        .doing("reading the plan's version")
}

pub(super) fn store_plan(
    transaction: &Transaction<'_>,
    now_us: i64,
    changed: &wire::PlanChanged,
) -> Result<(), StoreError> {
    transaction
        .execute(
            "INSERT INTO plans (wall_us, actor, toml) VALUES (?1, ?2, ?3)",
            params![now_us, changed.actor, changed.plan_toml],
        )
        .doing("storing a plan")?;
    Ok(())
}

/// Checks a plan by compiling it in a transaction that is rolled back.
pub(super) fn plan_plan(
    connection: &mut Connection,
    toml: &str,
    actor: &str,
) -> Result<(Option<wire::PlanChanged>, wire::ApplyPlanReply), StoreError> {
    let mut reply = wire::ApplyPlanReply::default();
    if let Err(problems) = Plan::parse("plan", toml) {
        reply.problems = problems.to_string().lines().map(str::to_owned).collect();
        return Ok((None, reply));
    }
    let changed = wire::PlanChanged {
        actor: actor.to_owned(),
        plan_toml: toml.to_owned(),
    };
    let done = rehearse(connection, &Scope::Plan, |transaction| {
        store_plan(transaction, 0, &changed)
    })?;
    reply.agents_total = done.total;
    if !done.problems.is_empty() {
        reply.problems = done.problems;
        return Ok((None, reply));
    }
    reply.agents_changed = done.changed;
    let unnamed = u64::from(done.over_budget_total) - done.over_budget.len() as u64;
    reply.warnings = done.over_budget;
    if unnamed > 0 {
        reply.warnings.push(format!("and {unnamed} agents more"));
    }
    let same = current_plan_text(connection)?.as_deref() == Some(toml);
    Ok(((!same).then_some(changed), reply))
}

/// What an inventory change would lead to; the transaction is rolled back.
pub(super) fn rehearse_inventory(
    connection: &mut Connection,
    changed: &wire::InventoryChanged,
) -> Result<Compilation, StoreError> {
    rehearse(connection, &Scope::Inventory, |transaction| {
        crate::inventory::store(transaction, i64::MAX, changed)
    })
}

fn rehearse(
    connection: &mut Connection,
    scope: &Scope,
    change: impl FnOnce(&Transaction<'_>) -> Result<(), StoreError>,
) -> Result<Compilation, StoreError> {
    let transaction = connection
        .transaction_with_behavior(rusqlite::TransactionBehavior::Immediate)
        .doing("beginning a rehearsal")?;
    change(&transaction)?;
    // Statistics of its own: nothing of this happens.
    let done = Compiler::new(Arc::new(Stats::new())).compile(&transaction, 0, scope)?;
    transaction.rollback().doing("ending a rehearsal")?;
    Ok(done)
}

/// Number of the last change of any assignment.
pub(super) fn latest_change(connection: &Connection) -> Result<u64, StoreError> {
    connection
        .prepare_cached("SELECT coalesce(max(change), 0) FROM assignments")
        .and_then(|mut statement| statement.query_row([], |row| row.get::<_, i64>(0)))
        .map(i64::cast_unsigned)
        .doing("reading the last assignment change")
}

pub(super) fn changed_since(
    connection: &Connection,
    change_exclusive: u64,
) -> Result<Vec<AgentId>, StoreError> {
    let mut statement = connection
        .prepare_cached("SELECT DISTINCT agent_id FROM assignments WHERE change > ?1")
        .doing("reading changed assignments")?;
    let rows = statement
        .query_map([change_exclusive.cast_signed()], |row| {
            row.get::<_, String>(0)
        })
        .doing("reading changed assignments")?;
    let mut agents = Vec::new();
    for row in rows {
        let agent = AgentId::new(row.doing("reading changed assignments")?);
        agents.push(agent.map_err(|_| StoreError::Damaged { what: "agent id" })?);
    }
    Ok(agents)
}

pub(super) fn latest(
    connection: &Connection,
    agent: &AgentId,
) -> Result<Option<wire::Assignment>, StoreError> {
    let content: Option<Vec<u8>> = connection
        .prepare_cached(
            "SELECT content FROM assignments JOIN agents USING (agent_id) \
             WHERE agent_id = ?1 AND version = assignment_version AND revoked_us IS NULL",
        )
        .and_then(|mut statement| {
            statement
                .query_row([agent.as_str()], |row| row.get(0))
                .optional()
        })
        .doing("reading an assignment")?;
    content
        .map(|bytes| {
            wire::Assignment::decode(bytes.as_slice())
                .map_err(|_| StoreError::Damaged { what: "assignment" })
        })
        .transpose()
}
