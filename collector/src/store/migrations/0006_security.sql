-- Security events (requirements section 5). Rules and severities are the numbers of extranet_proto::record.

-- What each agent says about an object: the newest word counts, whatever the order of arrival.
CREATE TABLE security_sights (
    ap_id      TEXT NOT NULL,
    rule       INTEGER NOT NULL,
    object     TEXT NOT NULL,
    agent_id   TEXT NOT NULL,
    active     INTEGER NOT NULL,
    newest_ms  INTEGER NOT NULL,
    -- The newest time at which it was not there; NULL = never.
    cleared_ms INTEGER,
    -- Label `instance` of the checks that decide it; empty = the agent decides.
    instance   TEXT NOT NULL,
    PRIMARY KEY (ap_id, rule, object, agent_id)
) STRICT, WITHOUT ROWID;
CREATE INDEX security_sights_by_agent ON security_sights (agent_id, newest_ms);

-- One row from raise to close. AUTOINCREMENT: a number is an operator's handle, it never comes again.
CREATE TABLE security_events (
    event_id     INTEGER PRIMARY KEY AUTOINCREMENT,
    ap_id        TEXT NOT NULL,
    rule         INTEGER NOT NULL,
    object       TEXT NOT NULL,
    -- The worst so far.
    severity     INTEGER NOT NULL,
    starts_ms    INTEGER NOT NULL,
    last_seen_ms INTEGER NOT NULL,
    -- Since when nobody sees it any more; NULL = somebody does.
    over_ms      INTEGER,
    opened_us    INTEGER NOT NULL,
    closed_us    INTEGER,
    close_reason TEXT,
    raised       INTEGER NOT NULL,
    flaps        INTEGER NOT NULL,
    -- Whether it was reported afterwards (SEC-32).
    late         INTEGER NOT NULL,
    agent_id     TEXT NOT NULL,
    -- JSON: pairs of name and value, in order.
    evidence     TEXT NOT NULL,
    -- Severity of the alert about it; NULL = there was none.
    alerted      INTEGER
) STRICT;
CREATE UNIQUE INDEX security_events_open ON security_events (ap_id, rule, object) WHERE closed_us IS NULL;
CREATE INDEX security_events_by_object ON security_events (ap_id, rule, object, starts_ms);
CREATE INDEX security_events_over ON security_events (over_ms) WHERE closed_us IS NULL AND over_ms IS NOT NULL;
CREATE INDEX security_events_closed ON security_events (closed_us) WHERE closed_us IS NOT NULL;
CREATE INDEX security_events_by_ap ON security_events (ap_id, closed_us);

-- What happened to events, in order: what the syslog export follows. The newest rows only.
CREATE TABLE security_log (
    entry_id  INTEGER PRIMARY KEY AUTOINCREMENT,
    event_id  INTEGER NOT NULL,
    wall_us   INTEGER NOT NULL,
    -- When it happened, by the record.
    at_ms     INTEGER NOT NULL,
    -- 1 raised, 2 grew worse, 3 over
    action    INTEGER NOT NULL,
    ap_id     TEXT NOT NULL,
    rule      INTEGER NOT NULL,
    object    TEXT NOT NULL,
    severity  INTEGER NOT NULL,
    starts_ms INTEGER NOT NULL,
    late      INTEGER NOT NULL,
    agent_id  TEXT NOT NULL,
    reason    TEXT NOT NULL,
    evidence  TEXT NOT NULL
) STRICT;

-- Where each syslog receiver stands: the last entry that it has. Written by the sender, not from the log.
CREATE TABLE syslog_cursors (
    target   TEXT PRIMARY KEY,
    entry_id INTEGER NOT NULL
) STRICT, WITHOUT ROWID;

-- Times in which somebody works on things: extranet.v1.SecurityWindowAdded.
CREATE TABLE security_windows (
    window_id INTEGER PRIMARY KEY,
    ap_id     TEXT NOT NULL,
    service   TEXT NOT NULL,
    from_ms   INTEGER NOT NULL,
    to_ms     INTEGER NOT NULL,
    reason    TEXT NOT NULL,
    actor     TEXT NOT NULL,
    added_us  INTEGER NOT NULL
) STRICT;

-- What is known of the certificates of a service: crate::security::certificate::Memory as JSON.
CREATE TABLE tls_endpoints (
    ap_id      TEXT NOT NULL,
    -- Label `instance`, with the VRF where there is one.
    service    TEXT NOT NULL,
    memory     TEXT NOT NULL,
    -- Since when it shows what nobody accepted; NULL = it does not.
    pending_ms INTEGER,
    PRIMARY KEY (ap_id, service)
) STRICT, WITHOUT ROWID;

-- Alerts about security events: one for each object and severity at a time.
ALTER TABLE alerts ADD COLUMN object TEXT NOT NULL DEFAULT '';
ALTER TABLE alerts ADD COLUMN event_id INTEGER;
DROP INDEX alerts_open;
CREATE UNIQUE INDEX alerts_open ON alerts (name, ap_id, object) WHERE closed_us IS NULL;
CREATE INDEX alerts_security ON alerts (opened_us) WHERE event_id IS NOT NULL;
CREATE INDEX alerts_by_event ON alerts (event_id) WHERE event_id IS NOT NULL;
