//! What a record of each table looks like, taken from the schema itself, so that a new table needs nothing here.

use rusqlite::{Connection, types::Value};

use crate::ledger::schema::STEPS;

/// One table of this version.
pub(in crate::ledger) struct Shape {
    pub(in crate::ledger) name: String,
    /// In the order in which they lie in the file.
    pub(in crate::ledger) columns: Vec<Column>,
    has_rowid: bool,
    /// The column that is the rowid, which lies in the record as NULL.
    rowid: Option<usize>,
}

pub(in crate::ledger) struct Column {
    pub(in crate::ledger) name: String,
    kind: String,
    /// It may be NULL.
    may_lack: bool,
    /// A record from before the column was added is shorter.
    may_be_short: bool,
    key: i64,
}

/// The tables of a ledger of this version.
pub(in crate::ledger) fn shapes() -> rusqlite::Result<Vec<Shape>> {
    let fresh = Connection::open_in_memory()?;
    STEPS.iter().copied().flatten().try_for_each(|step| fresh.execute_batch(step))?;
    let mut list = fresh.prepare(
        "SELECT name, wr FROM pragma_table_list WHERE schema = 'main' AND type = 'table' AND name NOT LIKE 'sqlite%' \
         ORDER BY name",
    )?;
    let tables = list.query_map([], |r| Ok((r.get(0)?, r.get(1)?)))?.collect::<Result<Vec<(String, bool)>, _>>()?;
    tables.into_iter().map(|(name, without_rowid)| shape(&fresh, name, !without_rowid)).collect()
}

fn shape(fresh: &Connection, name: String, has_rowid: bool) -> rusqlite::Result<Shape> {
    let mut list =
        fresh.prepare("SELECT name, type, \"notnull\", dflt_value, pk FROM pragma_table_info(?1) ORDER BY cid")?;
    let mut columns = list
        .query_map([&name], |r| {
            let (not_null, default, key): (bool, Option<String>, i64) = (r.get(2)?, r.get(3)?, r.get(4)?);
            let may_lack = !not_null && (has_rowid || key == 0);
            Ok(Column { name: r.get(0)?, kind: r.get(1)?, may_lack, may_be_short: may_lack || default.is_some(), key })
        })?
        .collect::<Result<Vec<_>, _>>()?;
    if !has_rowid {
        // The key comes first, and the rest in the order of the declaration.
        columns.sort_by_key(|column| if column.key == 0 { i64::MAX } else { column.key });
    }
    let rowid = columns.iter().position(|c| has_rowid && c.key == 1 && c.kind == "INTEGER");
    Ok(Shape { name, columns, has_rowid, rowid })
}

impl Shape {
    /// Whether a record can be one of this table.
    pub(super) fn fits(&self, is_table: bool, values: &[Value]) -> bool {
        is_table == self.has_rowid
            && values.len() <= self.columns.len()
            && self.columns[values.len()..].iter().all(|column| column.may_be_short)
            && self.columns.iter().zip(values).enumerate().all(|(index, (column, value))| match value {
                Value::Null => column.may_lack || self.rowid == Some(index),
                Value::Integer(_) => column.kind == "INTEGER" && self.rowid != Some(index),
                Value::Real(_) => column.kind == "REAL",
                Value::Text(_) => column.kind == "TEXT",
                Value::Blob(_) => column.kind == "BLOB",
            })
    }

    /// The record with its rowid in place.
    pub(super) fn complete(&self, mut values: Vec<Value>, rowid: i64) -> Vec<Value> {
        if let Some(value) = self.rowid.and_then(|index| values.get_mut(index)) {
            *value = Value::Integer(rowid);
        }
        values
    }

    /// Takes the first `count` columns of a record; what is there already stays.
    pub(in crate::ledger) fn insert(&self, count: usize) -> String {
        let names: Vec<&str> = self.columns[..count].iter().map(|column| column.name.as_str()).collect();
        let places: Vec<String> = (1..=count).map(|n| format!("?{n}")).collect();
        format!("INSERT OR IGNORE INTO {} ({}) VALUES ({})", self.name, names.join(", "), places.join(", "))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_table_has_a_shape_of_its_own() {
        let shapes = shapes().unwrap();
        let names: Vec<&str> = shapes.iter().map(|shape| shape.name.as_str()).collect();
        assert!(
            ["accounts", "fundings", "holds", "rollups", "rows"].iter().all(|name| names.contains(name)),
            "{names:?}"
        );
        let rows = shapes.iter().find(|shape| shape.name == "rows").unwrap();
        assert_eq!((rows.has_rowid, rows.rowid), (true, Some(0)));
        let processes = shapes.iter().find(|shape| shape.name == "processes").unwrap();
        assert!(!processes.has_rowid && processes.columns[0].name == "account");
    }
}
