//! Patterns of the config, in which a `*` stands for any text.

/// Whether the text fits the pattern, in any case of its letters.
pub(crate) fn is_like(text: &str, pattern: &str) -> bool {
    let (text, pattern) = (text.to_ascii_lowercase(), pattern.to_ascii_lowercase());
    let Some((first, rest)) = pattern.split_once('*') else { return text == pattern };
    let Some(mut left) = text.strip_prefix(first) else { return false };
    let mut parts: Vec<&str> = rest.split('*').collect();
    let last = parts.pop().unwrap_or("");
    for part in parts {
        match left.split_once(part) {
            Some((_, after)) => left = after,
            None => return false,
        }
    }
    left.ends_with(last)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_star_takes_any_text() {
        for (text, pattern, fits) in [
            ("gpt-4o", "gpt-4o", true),
            ("GPT-4o", "gpt-4O", true),
            ("gpt-4o-mini", "gpt-4o", false),
            ("gpt-4o-mini", "gpt-4o*", true),
            ("my/gpt-4o-mini", "*gpt-*mini", true),
            ("my/gpt-4o-mini", "*gpt-*maxi", false),
            ("anything", "*", true),
            ("ab", "ab*b", false),
        ] {
            assert_eq!(is_like(text, pattern), fits, "{text} {pattern}");
        }
    }
}
