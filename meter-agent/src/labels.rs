//! Labels: what people call a piece of work (a cost centre, a user, a project), on every row of it.
//!
//! Owns their spelling and their bounds; where they come from and what they mean is not known here. They stand on
//! every row of an account, hence the bounds.

use std::collections::BTreeMap;

/// The longest key, in bytes, as with names of DNS.
pub const KEY_BYTES_MAX: usize = 63;
/// The longest value, in bytes.
pub const VALUE_BYTES_MAX: usize = 255;
/// Labels that are written for one account.
pub const LABELS_MAX: usize = 16;

/// By key.
pub type Labels = BTreeMap<String, String>;

/// What is wrong with a label.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum LabelError {
    #[error("`{0}` is not a label; write it like team=search")]
    NoPair(String),
    #[error("`{0}` is not a label's key; use 1 to {KEY_BYTES_MAX} lower-case letters, digits, `-`, `_` and `.`")]
    Key(String),
    #[error("the value of the label `{0}` is not 1 to {VALUE_BYTES_MAX} bytes of text on one line; shorten it")]
    Value(String),
    #[error("the label `{0}` has two values; give one")]
    Twice(String),
    #[error("an account can have {LABELS_MAX} labels, and these are {0}; leave some out")]
    Many(usize),
}

/// A label as it is written on a command line: `key=value`; what follows the first `=` is the value.
pub fn pair(text: &str) -> Result<(String, String), LabelError> {
    let (key, value) = text.split_once('=').ok_or_else(|| LabelError::NoPair(text.to_owned()))?;
    check(key, value)?;
    Ok((key.to_owned(), value.to_owned()))
}

/// Whether a label may be so.
pub fn check(key: &str, value: &str) -> Result<(), LabelError> {
    check_key(key)?;
    let fits = (1..=VALUE_BYTES_MAX).contains(&value.len()) && !value.chars().any(char::is_control);
    if fits { Ok(()) } else { Err(LabelError::Value(key.to_owned())) }
}

pub fn check_key(key: &str) -> Result<(), LabelError> {
    let plain = |b: u8| b.is_ascii_lowercase() || b.is_ascii_digit() || matches!(b, b'-' | b'_' | b'.');
    let fits = (1..=KEY_BYTES_MAX).contains(&key.len()) && key.bytes().all(plain);
    if fits { Ok(()) } else { Err(LabelError::Key(key.to_owned())) }
}

/// The labels of several pairs, each key once.
pub fn collect(pairs: impl IntoIterator<Item = (String, String)>) -> Result<Labels, LabelError> {
    let mut labels = Labels::new();
    for (key, value) in pairs {
        if labels.get(&key).is_some_and(|other| *other != value) {
            return Err(LabelError::Twice(key));
        }
        labels.insert(key, value);
    }
    check_all(&labels)?;
    Ok(labels)
}

/// Whether all of an account's labels may be so.
pub fn check_all(labels: &Labels) -> Result<(), LabelError> {
    check_count(labels.len())?;
    labels.iter().try_for_each(|(key, value)| check(key, value))
}

/// Whether so many labels may be written for one account.
pub fn check_count(count: usize) -> Result<(), LabelError> {
    if count > LABELS_MAX { Err(LabelError::Many(count)) } else { Ok(()) }
}

/// Whether labels have all that are asked for, with the same values.
pub fn have(labels: &Labels, asked: &Labels) -> bool {
    asked.iter().all(|(key, value)| labels.get(key) == Some(value))
}

/// `project=x team=search`, by key.
pub fn shown(labels: &Labels) -> String {
    labels.iter().map(|(key, value)| format!("{key}={value}")).collect::<Vec<_>>().join(" ")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_label_is_a_key_and_a_value_parted_by_the_first_equals_sign() {
        assert_eq!(pair("cost.centre-1=a=b"), Ok(("cost.centre-1".to_owned(), "a=b".to_owned())));
        assert_eq!(pair("team=Müller & Söhne").unwrap().1, "Müller & Söhne");
    }

    #[test]
    fn a_bad_label_is_told_in_one_sentence_with_the_fix() {
        let told = |text: &str| pair(text).unwrap_err().to_string();
        assert_eq!(told("team"), "`team` is not a label; write it like team=search");
        for bad in ["Team=x", "=x", "a b=x", "a\"=x", &format!("{}=x", "k".repeat(64))] {
            assert!(told(bad).contains("is not a label's key"), "{bad}");
        }
        for bad in ["team=", "team=a\nb", &format!("team={}", "v".repeat(256))] {
            assert!(told(bad).starts_with("the value of the label `team`"), "{bad}");
        }
    }

    #[test]
    fn a_key_has_one_value_and_an_account_so_many_labels() {
        let pairs = |texts: &[&str]| collect(texts.iter().map(|text| pair(text).unwrap()));
        assert_eq!(pairs(&["a=1", "b=2", "a=1"]).unwrap().len(), 2);
        assert_eq!(pairs(&["a=1", "a=2"]), Err(LabelError::Twice("a".to_owned())));
        let many = (0..=LABELS_MAX).map(|n| (format!("k{n}"), "v".to_owned()));
        assert_eq!(collect(many), Err(LabelError::Many(LABELS_MAX + 1)));
    }
}
