-- By what a router is recognised on the segment of its access point: extranet.v1.ApprovedRouter, NULL = not said.
ALTER TABLE targets ADD COLUMN router BLOB;
