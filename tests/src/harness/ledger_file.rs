//! The ledger's file beside the daemon: a lock that keeps its writer waiting, what is durable in it, and days that pass.
//!
//! Changes nothing in the file but the time of what happened, and leaves its log as a killed daemon left it.

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

    /// Lets days pass while no daemon runs: of each account the last exchange becomes yesterday's, the one before it that
    /// of the day before, and so on. What was used by quarters of an hour moves with the rows that say so.
    pub fn spread_over_the_days_before(&self) {
        self.0
            .execute_batch(
                "BEGIN;
                 UPDATE rows SET time = time - 86400000000 * (SELECT count(*) FROM rows AS later
                     WHERE later.account = rows.account AND later.seq >= rows.seq);
                 DELETE FROM quarters;
                 INSERT INTO quarters SELECT account, (time + duration_ms * 1000) / 900000000, category, sum(cost),
                     sum(input_tokens + output_tokens), count(resolves) FROM rows GROUP BY 1, 2, 3;
                 COMMIT",
            )
            .expect("the ledger has these tables");
    }

    fn count(&self, query: &str) -> u64 {
        let count: i64 = self.0.query_row(query, [], |row| row.get(0)).expect("the ledger has that table");
        u64::try_from(count).expect("a count")
    }
}
