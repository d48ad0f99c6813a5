-- What SNMP devices told their agents, and what their uplinks carried.

-- Notifications of devices (traps and informs), the newest of each agent.
CREATE TABLE notifications (
    agent_id    TEXT NOT NULL,
    wall_ms     INTEGER NOT NULL,
    incarnation INTEGER NOT NULL,
    sequence    INTEGER NOT NULL,
    -- How often since the one before of the same text.
    many        INTEGER NOT NULL,
    text        TEXT NOT NULL,
    PRIMARY KEY (agent_id, wall_ms, incarnation, sequence)
) STRICT, WITHOUT ROWID;

-- What an uplink carried on a day of Asia/Shanghai, from rates over five minutes (AV-30). Sums and sketches only: any order
-- of arrival gives the same row. The report takes the agent that saw most of the day.
CREATE TABLE traffic_days (
    ap_id      TEXT NOT NULL,
    instance   TEXT NOT NULL,
    if_name    TEXT NOT NULL,
    agent_id   TEXT NOT NULL,
    -- Days since 1970.
    day        INTEGER NOT NULL,
    -- How much of the day the rates cover.
    span_ms    INTEGER NOT NULL,
    in_octets  INTEGER NOT NULL,
    out_octets INTEGER NOT NULL,
    -- crate::sketch
    in_rates   BLOB NOT NULL,
    out_rates  BLOB NOT NULL,
    PRIMARY KEY (ap_id, day, instance, if_name, agent_id)
) STRICT, WITHOUT ROWID;

-- Rates whose interface is not defined yet: live results overtake the definitions of their segment.
CREATE TABLE traffic_waiting (
    waiting_id  INTEGER PRIMARY KEY,
    agent_id    TEXT NOT NULL,
    incarnation INTEGER NOT NULL,
    object      INTEGER NOT NULL,
    check_id    INTEGER NOT NULL,
    wall_ms     INTEGER NOT NULL,
    span_ms     INTEGER NOT NULL,
    in_rate     INTEGER NOT NULL,
    out_rate    INTEGER NOT NULL
) STRICT;
CREATE INDEX traffic_waiting_by_object ON traffic_waiting (agent_id, incarnation, object);
