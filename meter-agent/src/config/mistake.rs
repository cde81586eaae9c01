//! One mistake in the config file: where it is, what is wrong, how to put it right.

use std::{
    fmt,
    path::{Path, PathBuf},
};

/// Shown as `FILE:LINE:COLUMN: what is wrong; what to do`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Mistake {
    pub file: PathBuf,
    /// Counted from 1.
    pub line: usize,
    /// In characters, counted from 1.
    pub column: usize,
    pub text: String,
}

impl fmt::Display for Mistake {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}:{}:{}: {}", self.file.display(), self.line, self.column, self.text)
    }
}

impl Mistake {
    /// `offset` is a byte offset into `source`; one past the end stands for the end.
    pub(super) fn at(file: &Path, source: &str, offset: usize, text: String) -> Self {
        let before = &source[..source.floor_char_boundary(offset)];
        let line_start = before.rfind('\n').map_or(0, |n| n + 1);
        Self {
            file: file.to_owned(),
            line: before.matches('\n').count() + 1,
            column: before[line_start..].chars().count() + 1,
            text,
        }
    }
}

/// ` Did you mean ...?` for the known word nearest to `word`, or the only one that goes on where it ends (`budget`,
/// `budget_usd`), or all of them where none is near.
pub(super) fn suggestion(word: &str, known: &[&str]) -> String {
    let goes_on = |known: &str| known.strip_prefix(word).is_some_and(|rest| rest.starts_with(['_', '-']));
    let mut longer = known.iter().filter(|known| goes_on(known));
    if let (Some(longer), None) = (longer.next(), longer.next()) {
        return format!("did you mean `{longer}`?");
    }
    let nearest = known.iter().map(|k| (distance(word, k), k)).min();
    match nearest {
        // Two slips in a short word make it another word.
        Some((slips, known)) if slips <= word.len().max(3) / 3 => format!("did you mean `{known}`?"),
        Some(_) | None => format!("use one of {}", list(known)),
    }
}

/// `` `a`, `b` or `c` ``.
fn list(words: &[&str]) -> String {
    let quoted: Vec<String> = words.iter().map(|w| format!("`{w}`")).collect();
    match quoted.split_last() {
        Some((last, rest)) if !rest.is_empty() => format!("{} or {last}", rest.join(", ")),
        Some((last, _)) => last.clone(),
        None => String::new(),
    }
}

/// Insertions, deletions and replacements that turn `a` into `b`.
fn distance(a: &str, b: &str) -> usize {
    let b: Vec<char> = b.chars().collect();
    let mut row: Vec<usize> = (0..=b.len()).collect();
    for (i, from) in a.chars().enumerate() {
        let mut diagonal = row[0];
        row[0] = i + 1;
        for (j, to) in b.iter().enumerate() {
            let replaced = diagonal + usize::from(from != *to);
            diagonal = row[j + 1];
            row[j + 1] = replaced.min(row[j] + 1).min(diagonal + 1);
        }
    }
    row[b.len()]
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_position_counts_lines_and_characters_from_one() {
        let source = "a = 1\n# ü\nb = 2\n";
        let at = |offset| {
            let m = Mistake::at(Path::new("f"), source, offset, String::new());
            (m.line, m.column)
        };
        assert_eq!(at(0), (1, 1));
        assert_eq!(at(source.find('ü').unwrap()), (2, 3));
        assert_eq!(at(source.find("= 2").unwrap()), (3, 3));
        assert_eq!(at(source.len() + 9), (4, 1));
    }

    #[test]
    fn a_slip_is_answered_by_the_word_meant_and_nonsense_by_the_list() {
        assert_eq!(suggestion("bugdet_usd", &["budget_usd"]), "did you mean `budget_usd`?");
        assert_eq!(suggestion("run_dri", &["data_dir", "run_dir"]), "did you mean `run_dir`?");
        assert_eq!(suggestion("budget", &["plan", "budget_usd"]), "did you mean `budget_usd`?");
        assert_eq!(suggestion("max", &["max_cost", "max_output"]), "use one of `max_cost` or `max_output`");
        assert_eq!(suggestion("colour", &["name", "dialect"]), "use one of `name` or `dialect`");
    }

    #[test]
    fn distance_counts_the_slips() {
        assert_eq!(distance("", "abc"), 3);
        assert_eq!(distance("kitten", "sitting"), 3);
        assert_eq!(distance("same", "same"), 0);
    }
}
