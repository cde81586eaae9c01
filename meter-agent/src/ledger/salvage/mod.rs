//! What can be read of a damaged ledger, page by page, without SQLite: it opens no file whose first page is torn.
//!
//! Follows the file format as SQLite documents it (sqlite.org/fileformat2.html). Pages that are reached from a table's
//! root belong to it; those that are not, because a page above them is torn, are known by the shape of their records.
//! Free pages keep their old content and are left out, as far as the list of them can be read. Only reads.

mod pages;
mod record;
mod shape;

use std::{collections::HashSet, io, path::Path};

use rusqlite::types::Value;

pub(super) use self::shape::{Shape, shapes};
use self::{
    pages::Pages,
    record::{Kind, Node},
};

/// Where an account's name is found a second time.
const NAMES_INDEX: &str = "sqlite_autoindex_accounts_1";

/// One record, and the table that it belongs to by its index among the shapes.
pub(super) struct Found {
    pub(super) table: usize,
    pub(super) values: Vec<Value>,
}

/// What was and was not found.
#[derive(Debug, Default)]
pub(super) struct Report {
    /// Pages that no record can be read from, by the table that they are known to belong to.
    pub(super) torn: Vec<(u32, Option<String>)>,
    /// Records that can't be read, or fit no table or more than one.
    pub(super) unfit: u64,
    /// The first page, which says where the tables are, can't be read.
    pub(super) no_schema: bool,
    /// Ids and paths of accounts by their index.
    pub(super) names: Vec<(i64, String)>,
}

/// A page's owner.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Owner {
    Nobody,
    /// Free, an overflow page, an index's, or the schema's.
    Other,
    Table(usize),
}

struct Salvage<'a> {
    pages: Pages,
    shapes: &'a [Shape],
    owners: Vec<Owner>,
    report: Report,
}

/// Reads every record that there is and gives it to `take`, those of known tables first.
pub(super) fn read(path: &Path, shapes: &[Shape], mut take: impl FnMut(Found)) -> io::Result<Report> {
    let pages = Pages::open(path)?;
    let owners = vec![Owner::Nobody; pages.count() as usize + 1];
    let mut salvage = Salvage { pages, shapes, owners, report: Report::default() };
    salvage.own_free_pages()?;
    let leaves = salvage.own_tables()?;
    for (page, table) in leaves {
        salvage.records(page, Some(table), &mut take)?;
    }
    for page in 1..=salvage.pages.count() {
        if salvage.owners[page as usize] == Owner::Nobody {
            salvage.orphan(page, &mut take)?;
        }
    }
    Ok(salvage.report)
}

impl Salvage<'_> {
    fn own(&mut self, page: u32, owner: Owner) -> bool {
        match self.owners.get_mut(page as usize) {
            Some(of) if *of == Owner::Nobody => {
                *of = owner;
                true
            }
            Some(_) | None => false,
        }
    }

    fn own_free_pages(&mut self) -> io::Result<()> {
        for page in self.pages.free()? {
            self.own(page, Owner::Other);
        }
        Ok(())
    }

    /// Follows every tree that the schema names. Returns the pages with records of the tables.
    fn own_tables(&mut self) -> io::Result<Vec<(u32, usize)>> {
        let mut leaves = Vec::new();
        let mut roots = Vec::new();
        for page in self.tree(1, Owner::Other, Some("sqlite_schema"))? {
            for cell in self.node(page)?.iter().flat_map(Node::cells) {
                let values = self.pages.payload(&cell)?.and_then(|payload| record::values(&payload));
                if let Some([_, Value::Text(name), _, Value::Integer(root), ..]) = values.as_deref()
                    && let Ok(root) = u32::try_from(*root)
                {
                    roots.push((name.clone(), root));
                }
            }
        }
        self.report.no_schema = roots.is_empty();
        for (name, root) in roots {
            let table = self.shapes.iter().position(|shape| shape.name == name);
            let owner = table.map_or(Owner::Other, Owner::Table);
            let pages = self.tree(root, owner, Some(&name))?;
            match table {
                Some(table) => leaves.extend(pages.into_iter().map(|page| (page, table))),
                None if name == NAMES_INDEX => {
                    for page in pages {
                        self.names(page)?;
                    }
                }
                None => {}
            }
        }
        Ok(leaves)
    }

    /// The pages with records of the tree below a root; the inner ones of an index have records too.
    fn tree(&mut self, root: u32, owner: Owner, name: Option<&str>) -> io::Result<Vec<u32>> {
        let (mut todo, mut found) = (vec![root], Vec::new());
        while let Some(page) = todo.pop() {
            if !self.own(page, owner) {
                continue;
            }
            match self.node(page)? {
                Some(node) => {
                    todo.extend(node.children());
                    if node.kind != Kind::TableInner {
                        found.push(page);
                    }
                }
                None => self.report.torn.push((page, name.map(str::to_owned))),
            }
        }
        Ok(found)
    }

    fn node(&self, page: u32) -> io::Result<Option<Node>> {
        Ok(Node::parse(self.pages.read(page)?, page, self.pages.usable()))
    }

    fn names(&mut self, page: u32) -> io::Result<()> {
        for cell in self.node(page)?.iter().flat_map(Node::cells) {
            let values = self.pages.payload(&cell)?.and_then(|payload| record::values(&payload));
            if let Some([Value::Text(path), Value::Integer(id)]) = values.as_deref() {
                self.report.names.push((*id, path.clone()));
            }
        }
        Ok(())
    }

    /// A page that nothing leads to: what its records look like is what they are.
    fn orphan(&mut self, page: u32, take: &mut impl FnMut(Found)) -> io::Result<()> {
        match self.node(page)? {
            Some(node) if node.kind != Kind::TableInner => self.records(page, None, take),
            _ => Ok(()),
        }
    }

    fn records(&mut self, page: u32, table: Option<usize>, take: &mut impl FnMut(Found)) -> io::Result<()> {
        let Some(node) = self.node(page)? else { return Ok(()) };
        let mut seen = HashSet::new();
        for cell in node.cells() {
            let is_table = node.kind == Kind::TableLeaf;
            let values = self.pages.payload(&cell)?.and_then(|payload| record::values(&payload));
            let Some(values) = values.filter(|_| seen.insert(cell.at)) else {
                self.report.unfit += u64::from(table.is_some());
                continue;
            };
            let fits = |index: &usize| self.shapes[*index].fits(is_table, &values);
            let fitting = match table.filter(fits) {
                Some(table) => vec![table],
                // Also where a torn page led to another table's.
                None => (0..self.shapes.len()).filter(fits).collect(),
            };
            match fitting[..] {
                [table] => take(Found { table, values: self.shapes[table].complete(values, cell.rowid) }),
                // An index's, or a schema's: nothing that is missed.
                [] => self.name_of(is_table, &values),
                _ => self.report.unfit += 1,
            }
        }
        self.report.unfit += node.lost;
        Ok(())
    }

    fn name_of(&mut self, is_table: bool, values: &[Value]) {
        if let (false, [Value::Text(path), Value::Integer(id)]) = (is_table, values) {
            self.report.names.push((*id, path.clone()));
        }
    }
}
