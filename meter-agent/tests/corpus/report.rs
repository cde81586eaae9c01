//! Failures as people read them: by provider and endpoint, the most frequent first.

use std::{collections::BTreeMap, fmt::Write as _};

use crate::{
    case::{Case, filter},
    exceptions::is_excepted,
};

/// What went wrong, case by case.
#[derive(Default)]
pub(crate) struct Failures {
    by_group: BTreeMap<String, Vec<String>>,
    looked_at: usize,
}

impl Failures {
    /// A case was looked at.
    pub(crate) fn looked(&mut self) {
        self.looked_at += 1;
    }

    /// Notes a failure, unless the case is a known exception.
    pub(crate) fn add(&mut self, case: &Case, why: impl AsRef<str>) {
        if is_excepted(case) {
            return;
        }
        let group = self.by_group.entry(format!("{}.{}", case.provider, case.endpoint)).or_default();
        group.push(format!("{}: {}", case.id, why.as_ref()));
    }

    /// Fails with all of them. Fewer than `least` cases, where none are left out by choice, are a failure too.
    pub(crate) fn end(self, least: usize) {
        let failed: usize = self.by_group.values().map(Vec::len).sum();
        let mut groups: Vec<_> = self.by_group.into_iter().collect();
        groups.sort_by_key(|(name, lines)| (std::cmp::Reverse(lines.len()), name.clone()));
        let mut text = String::new();
        for (name, lines) in &groups {
            let _ = write!(text, "\n== {name}: {}\n{}", lines.len(), lines.join("\n"));
        }
        assert!(failed == 0, "{failed} failures in {} cases:{text}", self.looked_at);
        assert!(self.looked_at >= least || filter().is_some(), "only {} cases were found", self.looked_at);
    }
}
