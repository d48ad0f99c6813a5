-- IPv6 readiness of access points: what their agents' runs of the rubric come to. Levels are 0 to 5.

CREATE TABLE ipv6_sites (
    ap_id      TEXT PRIMARY KEY,
    -- The newest run, by the time it was measured.
    wall_ms    INTEGER NOT NULL,
    level      INTEGER NOT NULL,
    -- Since when the level holds.
    since_ms   INTEGER NOT NULL,
    -- Rows of runs that may change it (crate::ipv6::Steady); 0 runs = none.
    above_runs INTEGER NOT NULL,
    above      INTEGER NOT NULL,
    below_runs INTEGER NOT NULL,
    below      INTEGER NOT NULL,
    -- The level from which it fell, while an alert says so.
    fell_from  INTEGER
) STRICT, WITHOUT ROWID;

CREATE TABLE ipv6_changes (
    ap_id      TEXT NOT NULL,
    wall_ms    INTEGER NOT NULL,
    from_level INTEGER NOT NULL,
    to_level   INTEGER NOT NULL,
    -- The first gate that failed; empty for a rise.
    cause      TEXT NOT NULL,
    PRIMARY KEY (ap_id, wall_ms)
) STRICT, WITHOUT ROWID;

-- Level and score as they were known, never corrected: what is exported. A row for each change, and one in six hours.
CREATE TABLE ipv6_known (
    ap_id      TEXT NOT NULL,
    wall_us    INTEGER NOT NULL,
    level      INTEGER NOT NULL,
    -- The level that nothing contradicts.
    possible   INTEGER NOT NULL,
    -- After caps; NULL = nothing was tested.
    hundredths INTEGER,
    -- Whether enough was tested for the score to count.
    sufficient INTEGER NOT NULL,
    PRIMARY KEY (ap_id, wall_us)
) STRICT, WITHOUT ROWID;
