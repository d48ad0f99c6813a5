//! Tickets, certificates, agents and their sessions.

use extranet_proto::id::{AgentId, ApId};
use extranet_proto::wire;
use prost::Message;
use rusqlite::{Connection, OptionalExtension, Transaction, params};

use super::catalogue::Doing;
use super::{AgentInfo, StoreError, TicketInfo, UsedTicket};

pub(super) fn ticket(
    connection: &Connection,
    digest: &[u8; 32],
) -> Result<Option<TicketInfo>, StoreError> {
    let row = connection
        .prepare_cached(
            "SELECT ap_id, expires_us, used_by, used_key FROM tickets WHERE digest = ?1",
        )
        .and_then(|mut statement| {
            statement
                .query_row([digest.as_slice()], |row| {
                    let used_by: Option<String> = row.get(2)?;
                    Ok((row.get::<_, String>(0)?, row.get(1)?, used_by, row.get(3)?))
                })
                .optional()
        })
        .doing("reading a ticket")?;
    row.map(|(ap_id, expires_wall_us, used_by, key_digest)| {
        let damaged = || StoreError::Damaged { what: "ticket" };
        let used = match used_by {
            None => None,
            Some(agent) => Some(UsedTicket {
                agent: AgentId::new(agent).map_err(|_| damaged())?,
                key_digest,
            }),
        };
        Ok(TicketInfo {
            ap_id: ApId::new(ap_id).map_err(|_| damaged())?,
            expires_wall_us,
            used,
        })
    })
    .transpose()
}

pub(super) fn agent(
    connection: &Connection,
    agent: &AgentId,
) -> Result<Option<AgentInfo>, StoreError> {
    let row = connection
        .prepare_cached(
            "SELECT ap_id, revoked_us IS NOT NULL, assignment_version FROM agents WHERE agent_id = ?1",
        )
        .and_then(|mut statement| {
            statement
                .query_row([agent.as_str()], |row| {
                    Ok((row.get::<_, String>(0)?, row.get(1)?, row.get(2)?))
                })
                .optional()
        })
        .doing("reading an agent")?;
    row.map(|(ap_id, revoked, assignment_version)| {
        Ok(AgentInfo {
            ap_id: ApId::new(ap_id).map_err(|_| StoreError::Damaged { what: "agent" })?,
            revoked,
            assignment_version,
        })
    })
    .transpose()
}

pub(super) fn ticket_issued(
    transaction: &Transaction<'_>,
    now_us: i64,
    issued: &wire::TicketIssued,
) -> Result<(), StoreError> {
    transaction
        .execute(
            "INSERT OR IGNORE INTO tickets (digest, ap_id, issued_us, expires_us) VALUES (?1, ?2, ?3, ?4)",
            params![issued.secret_digest, issued.ap_id, now_us, issued.expires_wall_us],
        )
        .doing("storing a ticket")?;
    Ok(())
}

/// Whether the set of agents changed: a new agent, or one that moved to another access point.
pub(super) fn certificate_issued(
    transaction: &Transaction<'_>,
    now_us: i64,
    issued: &wire::CertificateIssued,
) -> Result<bool, StoreError> {
    let changed = transaction
        .execute(
            "INSERT INTO agents (agent_id, ap_id, enrolled_us) VALUES (?1, ?2, ?3) \
             ON CONFLICT (agent_id) DO UPDATE SET ap_id = ?2 WHERE ap_id <> ?2",
            params![issued.agent_id, issued.ap_id, now_us],
        )
        .doing("storing an agent")?
        > 0;
    transaction
        .execute(
            "INSERT OR IGNORE INTO certificates (digest, agent_id, issued_us, not_after_us, renewal) \
             VALUES (?1, ?2, ?3, ?4, ?5)",
            params![
                issued.certificate_digest,
                issued.agent_id,
                now_us,
                issued.not_after_wall_us,
                issued.renewal
            ],
        )
        .doing("storing a certificate")?;
    transaction
        .execute(
            "UPDATE tickets SET used_by = ?2, used_key = ?3 WHERE digest = ?1 AND used_by IS NULL",
            params![
                issued.secret_digest,
                issued.agent_id,
                issued.public_key_digest
            ],
        )
        .doing("using up a ticket")?;
    Ok(changed)
}

/// The access point of the agent, when it had not been revoked before.
pub(super) fn agent_revoked(
    transaction: &Transaction<'_>,
    now_us: i64,
    revoked: &wire::AgentRevoked,
) -> Result<Option<String>, StoreError> {
    transaction
        .execute(
            "UPDATE checks SET active = 0 WHERE agent_id = ?1",
            [&revoked.agent_id],
        )
        .doing("ending the checks of a revoked agent")?;
    transaction
        .query_row(
            "UPDATE agents SET revoked_us = ?2 WHERE agent_id = ?1 AND revoked_us IS NULL RETURNING ap_id",
            params![revoked.agent_id, now_us],
            |row| row.get(0),
        )
        .optional()
        .doing("revoking an agent")
}

pub(super) fn session_opened(
    transaction: &Transaction<'_>,
    now_us: i64,
    opened: &wire::SessionOpened,
) -> Result<(), StoreError> {
    transaction
        .prepare_cached(
            "INSERT OR REPLACE INTO sessions (agent_id, incarnation, boot_id, agent_version, privilege_tier, \
             assignment_version, clock_offset_us, peer_address, opened_us) \
             VALUES (?1, ?2, ?3, ?4, ?5, ?6, ?7, ?8, ?9)",
        )
        .and_then(|mut statement| {
            statement.execute(params![
                opened.agent_id,
                opened.incarnation.cast_signed(),
                opened.boot_id,
                opened.agent_version,
                opened.privilege_tier,
                opened.assignment_version,
                opened.clock_offset_us,
                opened.peer_address,
                now_us
            ])
        })
        .doing("storing a session")?;
    Ok(())
}

pub(super) fn session_closed(
    transaction: &Transaction<'_>,
    now_us: i64,
    closed: &wire::SessionClosed,
) -> Result<(), StoreError> {
    // A newer session of the same agent may have been opened before the old one was seen to end.
    transaction
        .prepare_cached(
            "UPDATE sessions SET closed_us = ?3, close_reason = ?4 \
             WHERE agent_id = ?1 AND incarnation = ?2 AND closed_us IS NULL",
        )
        .and_then(|mut statement| {
            statement.execute(params![
                closed.agent_id,
                closed.incarnation.cast_signed(),
                now_us,
                closed.reason
            ])
        })
        .doing("closing a session")?;
    Ok(())
}

pub(super) fn ledger(
    transaction: &Transaction<'_>,
    now_us: i64,
    logged: &wire::LoggedLedger,
) -> Result<(), StoreError> {
    let Some(ledger) = &logged.ledger else {
        return Ok(());
    };
    transaction
        .prepare_cached(
            "INSERT OR REPLACE INTO ledgers (agent_id, wall_us, ledger) VALUES (?1, ?2, ?3)",
        )
        .and_then(|mut statement| {
            statement.execute(params![logged.agent_id, now_us, ledger.encode_to_vec()])
        })
        .doing("storing a ledger")?;
    Ok(())
}

pub(super) fn assignment_status(
    transaction: &Transaction<'_>,
    now_us: i64,
    logged: &wire::LoggedAssignmentStatus,
) -> Result<(), StoreError> {
    let Some(status) = &logged.status else {
        return Ok(());
    };
    transaction
        .prepare_cached(
            "INSERT OR REPLACE INTO assignment_status (agent_id, version, applied, problems, wall_us) \
             SELECT ?1, ?2, ?3, ?4, ?5 WHERE EXISTS (SELECT 1 FROM agents WHERE agent_id = ?1)",
        )
        .and_then(|mut statement| {
            statement.execute(params![
                logged.agent_id,
                status.version,
                status.applied,
                status.problems.join("\n"),
                now_us
            ])
        })
        .doing("storing an assignment status")?;
    Ok(())
}
