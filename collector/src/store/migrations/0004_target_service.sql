-- What speaks HTTP or TLS on the TCP port of a target: extranet.v1.TargetService.
ALTER TABLE targets ADD COLUMN service BLOB;
