-- What planners know of an access point, and the operator's own register of villages. Numbers of 0 and empty texts mean
-- that nobody has said.
ALTER TABLE access_points ADD COLUMN department      TEXT NOT NULL DEFAULT '';
ALTER TABLE access_points ADD COLUMN zone            TEXT NOT NULL DEFAULT '';
ALTER TABLE access_points ADD COLUMN network_kind    TEXT NOT NULL DEFAULT '';
ALTER TABLE access_points ADD COLUMN uplinks         INTEGER NOT NULL DEFAULT 0;
ALTER TABLE access_points ADD COLUMN isp             TEXT NOT NULL DEFAULT '';
ALTER TABLE access_points ADD COLUMN contract_kbps   INTEGER NOT NULL DEFAULT 0;
ALTER TABLE access_points ADD COLUMN lon_e6          INTEGER;
ALTER TABLE access_points ADD COLUMN lat_e6          INTEGER;
ALTER TABLE access_points ADD COLUMN coord_quality   TEXT NOT NULL DEFAULT '';
ALTER TABLE access_points ADD COLUMN ipv4_prefix     TEXT NOT NULL DEFAULT '';
ALTER TABLE access_points ADD COLUMN ipv6_prefix     TEXT NOT NULL DEFAULT '';
ALTER TABLE access_points ADD COLUMN border_county   INTEGER NOT NULL DEFAULT 0;
ALTER TABLE access_points ADD COLUMN ce_model        TEXT NOT NULL DEFAULT '';
ALTER TABLE access_points ADD COLUMN ce_install_date TEXT NOT NULL DEFAULT '';
ALTER TABLE access_points ADD COLUMN warranty_end    TEXT NOT NULL DEFAULT '';
ALTER TABLE access_points ADD COLUMN contact_role    TEXT NOT NULL DEFAULT '';
ALTER TABLE access_points ADD COLUMN remarks         TEXT NOT NULL DEFAULT '';

CREATE TABLE villages (
    code          TEXT NOT NULL,
    valid_from_us INTEGER NOT NULL,
    valid_to_us   INTEGER,
    name          TEXT NOT NULL,
    rural_station INTEGER NOT NULL,
    PRIMARY KEY (code, valid_from_us)
) STRICT, WITHOUT ROWID;
CREATE UNIQUE INDEX villages_now ON villages (code) WHERE valid_to_us IS NULL;
