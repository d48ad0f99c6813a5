//! The database file: opening, migrating, and a small pool of connections.

use std::cmp::Ordering;
use std::fs::OpenOptions;
use std::ops::{Deref, DerefMut};
use std::os::unix::fs::OpenOptionsExt;
use std::path::{Path, PathBuf};
use std::sync::{Mutex, PoisonError};
use std::time::Duration;

use rusqlite::{Connection, OpenFlags};

use super::StoreError;

/// Forward-only: number `n` in this list brings the schema from `n` to `n + 1`. A released file never changes.
const MIGRATIONS: &[&str] = &[
    include_str!("migrations/0001_catalogue.sql"),
    include_str!("migrations/0002_inventory_details.sql"),
    include_str!("migrations/0003_ipv6.sql"),
    include_str!("migrations/0004_target_service.sql"),
    include_str!("migrations/0005_target_router.sql"),
    include_str!("migrations/0006_security.sql"),
    include_str!("migrations/0007_ticket_key.sql"),
    include_str!("migrations/0008_snmp.sql"),
];

/// Idle connections that are kept: more only help when more queries than this run at once.
const IDLE_CONNECTIONS: usize = 4;
/// How long a writer waits for another one (applied group, cursor, delivery): all of them take milliseconds.
const BUSY_TIMEOUT: Duration = Duration::from_secs(10);
/// Prepared statements kept by a connection: more than the code has.
const STATEMENTS: usize = 256;

/// Names the operation in front of a database error.
pub(crate) trait Doing<T> {
    /// Says what was being done.
    fn doing(self, operation: &'static str) -> Result<T, StoreError>;
}

impl<T> Doing<T> for Result<T, rusqlite::Error> {
    fn doing(self, operation: &'static str) -> Result<T, StoreError> {
        self.map_err(|source| StoreError::Database { operation, source })
    }
}

/// Connections to one catalogue.
pub(crate) struct Pool {
    path: PathBuf,
    idle: Mutex<Vec<Connection>>,
}

impl Pool {
    /// Opens the file, readable by its owner only (it holds SNMP communities), and brings its schema up to date.
    pub(crate) fn open(path: &Path) -> Result<Self, StoreError> {
        OpenOptions::new()
            .create(true)
            .append(true)
            .mode(0o600)
            .open(path)
            .map_err(|source| StoreError::File {
                operation: "creating the database",
                source,
            })?;
        let mut connection = connect(path)?;
        migrate(&mut connection, path, MIGRATIONS)?;
        Ok(Self {
            path: path.to_owned(),
            idle: Mutex::new(vec![connection]),
        })
    }

    /// A connection; it comes back to the pool when dropped.
    pub(crate) fn get(&self) -> Result<Pooled<'_>, StoreError> {
        let idle = self
            .idle
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
            .pop();
        let connection = match idle {
            Some(connection) => connection,
            None => connect(&self.path)?,
        };
        Ok(Pooled {
            pool: self,
            connection: Some(connection),
        })
    }
}

/// A connection on loan.
pub(crate) struct Pooled<'a> {
    pool: &'a Pool,
    connection: Option<Connection>,
}

impl Deref for Pooled<'_> {
    type Target = Connection;

    fn deref(&self) -> &Connection {
        self.connection
            .as_ref()
            .expect("is taken out only when dropped")
    }
}

impl DerefMut for Pooled<'_> {
    fn deref_mut(&mut self) -> &mut Connection {
        self.connection
            .as_mut()
            .expect("is taken out only when dropped")
    }
}

impl Drop for Pooled<'_> {
    fn drop(&mut self) {
        let mut idle = self
            .pool
            .idle
            .lock()
            .unwrap_or_else(PoisonError::into_inner);
        // A transaction left open by a panic must not reach the next user.
        if let Some(connection) = self.connection.take()
            && idle.len() < IDLE_CONNECTIONS
            && connection.is_autocommit()
        {
            idle.push(connection);
        }
    }
}

fn connect(path: &Path) -> Result<Connection, StoreError> {
    let connection = Connection::open(path).doing("opening the database")?;
    connection
        .busy_timeout(BUSY_TIMEOUT)
        .doing("setting the busy timeout")?;
    // synchronous=NORMAL: after a power cut the last transactions may be missing but never half there, and the log
    // position goes with them, so the follower applies the same records again.
    connection
        .execute_batch(
            "PRAGMA journal_mode = WAL; PRAGMA synchronous = NORMAL; PRAGMA foreign_keys = ON; \
             PRAGMA temp_store = MEMORY;",
        )
        .doing("setting up the connection")?;
    connection.set_prepared_statement_cache_capacity(STATEMENTS);
    Ok(connection)
}

/// Opens the catalogue beside the service that writes it. Its schema must be exactly ours: it is the service that
/// migrates.
pub(crate) fn open_read_only(path: &Path) -> Result<Connection, StoreError> {
    let flags = OpenFlags::SQLITE_OPEN_READ_ONLY | OpenFlags::SQLITE_OPEN_NO_MUTEX;
    let connection =
        Connection::open_with_flags(path, flags).doing("opening the database to read")?;
    connection
        .busy_timeout(BUSY_TIMEOUT)
        .doing("setting the busy timeout")?;
    connection.set_prepared_statement_cache_capacity(STATEMENTS);
    let known = i64::try_from(MIGRATIONS.len()).unwrap_or(i64::MAX);
    let found: i64 = connection
        .pragma_query_value(None, "user_version", |row| row.get(0))
        .doing("reading the schema version")?;
    let path = path.display().to_string();
    match found.cmp(&known) {
        Ordering::Equal => Ok(connection),
        Ordering::Greater => Err(StoreError::NewerSchema { path, found, known }),
        Ordering::Less => Err(StoreError::OlderSchema { path, found, known }),
    }
}

fn migrate(
    connection: &mut Connection,
    path: &Path,
    migrations: &[&str],
) -> Result<(), StoreError> {
    let known = i64::try_from(migrations.len()).unwrap_or(i64::MAX);
    let found: i64 = connection
        .pragma_query_value(None, "user_version", |row| row.get(0))
        .doing("reading the schema version")?;
    if found > known {
        return Err(StoreError::NewerSchema {
            path: path.display().to_string(),
            found,
            known,
        });
    }
    let done = usize::try_from(found).map_err(|_| StoreError::Damaged {
        what: "schema version",
    })?;
    for (version, sql) in (found + 1..).zip(migrations.iter().skip(done)) {
        let transaction = connection.transaction().doing("beginning a migration")?;
        transaction.execute_batch(sql).doing("migrating")?;
        transaction
            .pragma_update(None, "user_version", version)
            .doing("storing the schema version")?;
        transaction.commit().doing("committing a migration")?;
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_newer_schema_is_refused_with_both_numbers() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("catalogue.sqlite");
        drop(Pool::open(&path).unwrap());
        connect(&path)
            .unwrap()
            .pragma_update(None, "user_version", 99)
            .unwrap();
        let error = Pool::open(&path)
            .err()
            .expect("must be refused")
            .to_string();
        assert!(
            error.contains("schema 99") && error.contains("newer release"),
            "{error}"
        );
    }

    #[test]
    fn migrations_run_once_and_in_order() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("x.sqlite");
        let mut connection = connect(&path).unwrap();
        let steps = [
            "CREATE TABLE a (x INTEGER)",
            "ALTER TABLE a ADD COLUMN y INTEGER",
        ];
        migrate(&mut connection, &path, &steps[..1]).unwrap();
        migrate(&mut connection, &path, &steps).unwrap();
        migrate(&mut connection, &path, &steps).unwrap();
        connection
            .execute("INSERT INTO a (x, y) VALUES (1, 2)", [])
            .unwrap();
    }

    #[test]
    fn a_failed_migration_leaves_the_old_schema() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("x.sqlite");
        let mut connection = connect(&path).unwrap();
        let broken = ["CREATE TABLE a (x INTEGER); CREATE TABLE a (x INTEGER)"];
        assert!(migrate(&mut connection, &path, &broken).is_err());
        migrate(&mut connection, &path, &["CREATE TABLE a (x INTEGER)"]).unwrap();
    }

    #[test]
    fn only_the_owner_may_read_it_and_foreign_keys_hold() {
        use std::os::unix::fs::PermissionsExt;
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("catalogue.sqlite");
        let pool = Pool::open(&path).unwrap();
        assert_eq!(
            std::fs::metadata(&path).unwrap().permissions().mode() & 0o777,
            0o600
        );
        let orphan = pool.get().unwrap().execute(
            "INSERT INTO certificates (digest, agent_id, issued_us, not_after_us, renewal) \
             VALUES (x'00', 'nobody', 0, 0, 0)",
            [],
        );
        assert!(orphan.is_err(), "a certificate without an agent");
    }
}
