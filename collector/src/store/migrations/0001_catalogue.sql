-- First form of the catalogue. Times are microseconds since 1970 (…_us) or milliseconds (…_ms) by the collector's
-- clock; slots are whole numbers of slot lengths since 1970. 64-bit random numbers (incarnations) are stored as the
-- signed integer with the same bits.

-- Where the follower stands: everything below holds exactly the log records before `incarnation`/`sequence`, which is
-- the last applied one. One row.
CREATE TABLE log_position (
    one         INTEGER PRIMARY KEY CHECK (one = 1),
    incarnation INTEGER NOT NULL,
    sequence    INTEGER NOT NULL,
    records     INTEGER NOT NULL
) STRICT;

-- Incarnations of the ingest log in the order in which they were followed, so that positions can be compared.
CREATE TABLE log_incarnations (
    ordinal     INTEGER PRIMARY KEY,
    incarnation INTEGER NOT NULL UNIQUE
) STRICT;

CREATE TABLE access_points (
    ap_id         TEXT NOT NULL,
    valid_from_us INTEGER NOT NULL,
    valid_to_us   INTEGER,
    name          TEXT NOT NULL,
    level         TEXT NOT NULL,
    parent        TEXT NOT NULL,
    medium        TEXT NOT NULL,
    monitoring    TEXT NOT NULL,
    division_code TEXT NOT NULL,
    PRIMARY KEY (ap_id, valid_from_us)
) STRICT, WITHOUT ROWID;
CREATE UNIQUE INDEX access_points_now ON access_points (ap_id) WHERE valid_to_us IS NULL;

-- The access point of the collector itself, where its built-in vantage stands.
INSERT INTO access_points (ap_id, valid_from_us, name, level, parent, medium, monitoring, division_code)
VALUES ('centre', 0, '监测中心 Centre', 'region', '', 'fibre', 'agent', '');

CREATE TABLE targets (
    ap_id         TEXT NOT NULL,
    name          TEXT NOT NULL,
    valid_from_us INTEGER NOT NULL,
    valid_to_us   INTEGER,
    kind          TEXT NOT NULL,
    address       TEXT NOT NULL,
    vrf           TEXT NOT NULL,
    tcp_port      INTEGER NOT NULL,
    -- extranet.v1.SnmpProbe; holds secrets: never shown.
    snmp          BLOB,
    PRIMARY KEY (ap_id, name, valid_from_us)
) STRICT, WITHOUT ROWID;
CREATE UNIQUE INDEX targets_now ON targets (ap_id, name) WHERE valid_to_us IS NULL;

CREATE TABLE inventory_changes (
    wall_us INTEGER NOT NULL,
    actor   TEXT NOT NULL,
    access_points INTEGER NOT NULL,
    targets INTEGER NOT NULL
) STRICT;

CREATE TABLE agents (
    agent_id           TEXT PRIMARY KEY,
    ap_id              TEXT NOT NULL,
    enrolled_us        INTEGER NOT NULL,
    revoked_us         INTEGER,
    next_check_id      INTEGER NOT NULL DEFAULT 1,
    next_target_id     INTEGER NOT NULL DEFAULT 1,
    assignment_version INTEGER NOT NULL DEFAULT 0,
    last_result_ms     INTEGER
) STRICT, WITHOUT ROWID;
CREATE INDEX agents_by_ap ON agents (ap_id);

CREATE TABLE certificates (
    digest       BLOB PRIMARY KEY,
    agent_id     TEXT NOT NULL REFERENCES agents (agent_id),
    issued_us    INTEGER NOT NULL,
    not_after_us INTEGER NOT NULL,
    renewal      INTEGER NOT NULL
) STRICT, WITHOUT ROWID;

CREATE TABLE tickets (
    digest     BLOB PRIMARY KEY,
    ap_id      TEXT NOT NULL,
    issued_us  INTEGER NOT NULL,
    expires_us INTEGER NOT NULL,
    used_by    TEXT
) STRICT, WITHOUT ROWID;

CREATE TABLE plans (
    version INTEGER PRIMARY KEY,
    wall_us INTEGER NOT NULL,
    actor   TEXT NOT NULL,
    toml    TEXT NOT NULL
) STRICT;

-- Every version ever given out; the content is immutable.
CREATE TABLE assignments (
    agent_id TEXT NOT NULL REFERENCES agents (agent_id),
    version  INTEGER NOT NULL,
    wall_us  INTEGER NOT NULL,
    -- Order of all changes over all agents, for those who wait for news.
    change   INTEGER NOT NULL,
    -- extranet.v1.Assignment; may hold SNMP secrets.
    content  BLOB NOT NULL,
    PRIMARY KEY (agent_id, version)
) STRICT, WITHOUT ROWID;
CREATE INDEX assignments_by_change ON assignments (change);

CREATE TABLE assignment_targets (
    agent_id  TEXT NOT NULL REFERENCES agents (agent_id),
    target_id INTEGER NOT NULL,
    vrf       TEXT NOT NULL,
    address   TEXT NOT NULL,
    PRIMARY KEY (agent_id, target_id),
    UNIQUE (agent_id, vrf, address)
) STRICT, WITHOUT ROWID;

-- What a check id of an agent has always meant and will always mean: the labels of its results.
CREATE TABLE checks (
    agent_id TEXT NOT NULL REFERENCES agents (agent_id),
    check_id INTEGER NOT NULL,
    -- SHA-256 of everything that makes the check what it is.
    digest   BLOB NOT NULL,
    name     TEXT NOT NULL,
    family   INTEGER NOT NULL,
    instance TEXT NOT NULL,
    vrf      TEXT NOT NULL,
    probe    TEXT NOT NULL,
    -- anchor, gateway, router, resolver, service, inbound
    role     TEXT NOT NULL,
    -- The access point that the result is about.
    ap_id    TEXT NOT NULL,
    -- The agent, where several measure the same; empty otherwise.
    vantage  TEXT NOT NULL,
    -- Whether the agent's latest assignment holds it.
    active   INTEGER NOT NULL DEFAULT 0,
    PRIMARY KEY (agent_id, check_id),
    UNIQUE (agent_id, digest)
) STRICT, WITHOUT ROWID;
CREATE INDEX checks_by_ap ON checks (ap_id, role);

CREATE TABLE assignment_status (
    agent_id TEXT PRIMARY KEY REFERENCES agents (agent_id),
    version  INTEGER NOT NULL,
    applied  INTEGER NOT NULL,
    problems TEXT NOT NULL,
    wall_us  INTEGER NOT NULL
) STRICT, WITHOUT ROWID;

-- What an agent discovered and named, valid for its records from `from_sequence` on (seen again until `last_sequence`).
CREATE TABLE definitions (
    agent_id      TEXT NOT NULL,
    incarnation   INTEGER NOT NULL,
    object        INTEGER NOT NULL,
    from_sequence INTEGER NOT NULL,
    last_sequence INTEGER NOT NULL,
    check_id      INTEGER NOT NULL,
    kind          INTEGER NOT NULL,
    labels        TEXT NOT NULL,
    PRIMARY KEY (agent_id, incarnation, object, from_sequence)
) STRICT, WITHOUT ROWID;

-- Which records of which incarnation are in the log: extranet_proto::ranges::RangeSet.
CREATE TABLE received (
    agent_id    TEXT NOT NULL,
    incarnation INTEGER NOT NULL,
    ranges      BLOB NOT NULL,
    PRIMARY KEY (agent_id, incarnation)
) STRICT, WITHOUT ROWID;

-- Ranges that the agent's spool had to drop, as the agent said.
CREATE TABLE dropped (
    agent_id       TEXT NOT NULL,
    incarnation    INTEGER NOT NULL,
    from_inclusive INTEGER NOT NULL,
    to_exclusive   INTEGER NOT NULL,
    reason         INTEGER NOT NULL,
    PRIMARY KEY (agent_id, incarnation, from_inclusive, to_exclusive)
) STRICT, WITHOUT ROWID;

CREATE TABLE latest (
    agent_id    TEXT NOT NULL,
    check_id    INTEGER NOT NULL,
    wall_ms     INTEGER NOT NULL,
    incarnation INTEGER NOT NULL,
    outcome     INTEGER NOT NULL,
    reason      INTEGER NOT NULL,
    duration_us INTEGER NOT NULL,
    -- Values worth showing: u16 metric, u32 object, u64 raw, little endian, one after another.
    shown       BLOB NOT NULL,
    PRIMARY KEY (agent_id, check_id)
) STRICT, WITHOUT ROWID;

-- The last session of each agent.
CREATE TABLE sessions (
    agent_id           TEXT PRIMARY KEY,
    incarnation        INTEGER NOT NULL,
    boot_id            BLOB NOT NULL,
    agent_version      TEXT NOT NULL,
    privilege_tier     INTEGER NOT NULL,
    assignment_version INTEGER NOT NULL,
    clock_offset_us    INTEGER NOT NULL,
    peer_address       TEXT NOT NULL,
    opened_us          INTEGER NOT NULL,
    closed_us          INTEGER,
    close_reason       TEXT
) STRICT, WITHOUT ROWID;

CREATE TABLE ledgers (
    agent_id TEXT PRIMARY KEY,
    wall_us  INTEGER NOT NULL,
    -- extranet.v1.Ledger
    ledger   BLOB NOT NULL
) STRICT, WITHOUT ROWID;

-- Evidence of one slot of one access point (crate::state::Evidence), kept as long as late records may change it.
CREATE TABLE slot_evidence (
    ap_id    TEXT NOT NULL,
    slot     INTEGER NOT NULL,
    evidence BLOB NOT NULL,
    -- Whether no later record can change what it says, so that it may be forgotten early.
    settled  INTEGER NOT NULL,
    PRIMARY KEY (ap_id, slot)
) STRICT, WITHOUT ROWID;
CREATE INDEX slot_evidence_by_slot ON slot_evidence (slot);

-- Slots judged already whose evidence has changed since.
CREATE TABLE slot_dirty (
    ap_id TEXT NOT NULL,
    slot  INTEGER NOT NULL,
    PRIMARY KEY (ap_id, slot)
) STRICT, WITHOUT ROWID;

-- Times in which the collector itself did not watch.
CREATE TABLE own_gaps (
    from_ms INTEGER PRIMARY KEY,
    to_ms   INTEGER NOT NULL
) STRICT;

-- What each slot said, run by run; the last run of an access point is open.
CREATE TABLE slot_runs (
    ap_id          TEXT NOT NULL,
    from_inclusive INTEGER NOT NULL,
    signal         INTEGER NOT NULL,
    PRIMARY KEY (ap_id, from_inclusive)
) STRICT, WITHOUT ROWID;

-- The state that follows from the runs, corrected by late records; the last interval is open.
CREATE TABLE state_intervals (
    ap_id          TEXT NOT NULL,
    from_inclusive INTEGER NOT NULL,
    state          INTEGER NOT NULL,
    -- up or down as last decided: what counts for the three-slot rule while `state` is unknown.
    firm           INTEGER,
    cause          INTEGER NOT NULL,
    PRIMARY KEY (ap_id, from_inclusive)
) STRICT, WITHOUT ROWID;

-- The live state as it was known, never corrected: what is exported.
CREATE TABLE state_known (
    ap_id   TEXT NOT NULL,
    wall_us INTEGER NOT NULL,
    state   INTEGER NOT NULL,
    PRIMARY KEY (ap_id, wall_us)
) STRICT, WITHOUT ROWID;
CREATE INDEX state_known_by_time ON state_known (wall_us);

-- How far slots have been judged. One row.
CREATE TABLE state_progress (
    one           INTEGER PRIMARY KEY CHECK (one = 1),
    slot_ms       INTEGER NOT NULL,
    judged_before INTEGER NOT NULL,
    -- Settled evidence of slots before this one has been forgotten.
    folded_before INTEGER NOT NULL,
    -- Time of the last log record.
    last_ms       INTEGER NOT NULL
) STRICT;

CREATE TABLE alerts (
    alert_id     INTEGER PRIMARY KEY,
    name         TEXT NOT NULL,
    ap_id        TEXT NOT NULL,
    severity     TEXT NOT NULL,
    cause        INTEGER NOT NULL,
    starts_ms    INTEGER NOT NULL,
    opened_us    INTEGER NOT NULL,
    ends_ms      INTEGER,
    closed_us    INTEGER,
    close_reason TEXT
) STRICT;
CREATE UNIQUE INDEX alerts_open ON alerts (name, ap_id) WHERE closed_us IS NULL;

-- The outbox: what each receiver was told of each alert. Written by the sender, not from the log.
CREATE TABLE alert_deliveries (
    alert_id     INTEGER NOT NULL REFERENCES alerts (alert_id),
    receiver     TEXT NOT NULL,
    -- 1 firing, 2 resolved
    told         INTEGER NOT NULL,
    delivered_us INTEGER NOT NULL,
    PRIMARY KEY (alert_id, receiver)
) STRICT, WITHOUT ROWID;

-- Where each remote-write target stands: the next record to send. Written by the exporter, not from the log.
CREATE TABLE export_cursors (
    target      TEXT PRIMARY KEY,
    incarnation INTEGER NOT NULL,
    sequence    INTEGER NOT NULL
) STRICT, WITHOUT ROWID;
