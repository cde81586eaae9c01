//! The ledger's file beside the daemon: a lock that keeps its writer waiting, and what is durable in it.
//!
//! Changes nothing in the file, and leaves its log as a killed daemon left it.

use rusqlite::{Connection, config::DbConfig};

use super::Daemon;

/// A connection of its own. While it is locked nothing can be written by anybody else.
pub struct LedgerFile(Connection);

impl LedgerFile {
    pub fn open(daemon: &Daemon) -> Self {
        let connection = Connection::open(daemon.data_dir().join("meter.db")).expect("the ledger is there");
        // What is durable is what the daemon wrote, and not what this made of it.
        connection.set_db_config(DbConfig::SQLITE_DBCONFIG_NO_CKPT_ON_CLOSE, true).expect("SQLite knows it");
        connection.busy_timeout(std::time::Duration::from_secs(10)).expect("SQLite knows it");
        Self(connection)
    }

    /// Holds the lock of writers until [`Self::unlock`], or until dropped.
    pub fn lock(&self) {
        self.0.execute_batch("BEGIN IMMEDIATE").expect("the lock of writers comes free");
    }

    pub fn unlock(&self) {
        self.0.execute_batch("ROLLBACK").expect("it was locked");
    }

    /// Holds that are durable and not ended.
    pub fn open_holds(&self) -> u64 {
        self.count("SELECT count(*) FROM holds")
    }

    /// Rows of exchanges and refusals that are durable.
    pub fn rows(&self) -> u64 {
        self.count("SELECT count(*) FROM rows")
    }

    fn count(&self, query: &str) -> u64 {
        let count: i64 = self.0.query_row(query, [], |row| row.get(0)).expect("the ledger has that table");
        u64::try_from(count).expect("a count")
    }
}
