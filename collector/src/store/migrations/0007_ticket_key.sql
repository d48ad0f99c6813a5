-- SHA-256 of the public key for which a ticket was used up; NULL = not used, or by an earlier release.
ALTER TABLE tickets ADD COLUMN used_key BLOB;
