//! Percent-encoding (RFC 3986, section 2.1): what a part of a path or of a query says.

/// The text with its escapes undone; what is no escape stays as it is.
pub(crate) fn decoded(text: &str) -> String {
    let mut out = Vec::with_capacity(text.len());
    let mut rest = text.as_bytes();
    while let Some((first, after)) = rest.split_first() {
        let code = after.get(..2).and_then(|hex| std::str::from_utf8(hex).ok());
        let byte = code.filter(|_| *first == b'%').and_then(|hex| u8::from_str_radix(hex, 16).ok());
        out.push(byte.unwrap_or(*first));
        rest = if byte.is_some() { &after[2..] } else { after };
    }
    String::from_utf8_lossy(&out).into_owned()
}

/// The values of a query's parameter, in their order. A provider may take the first or the last of them.
pub(crate) fn parameters(query: &str, name: &str) -> Vec<String> {
    let pairs = query.split('&').filter_map(|pair| pair.split_once('='));
    pairs.filter(|(key, _)| decoded(key) == name).map(|(_, value)| decoded(value)).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_encoded_says_the_same() {
        for (text, said) in [("a%2Db%3a%C3%BC", "a-b:ü"), ("50%", "50%"), ("%zz%4", "%zz%4"), ("", "")] {
            assert_eq!(decoded(text), said);
        }
        assert_eq!(parameters("x=1&model=a%2Fb&mod%65l=c&models=d", "model"), ["a/b", "c"]);
        assert!(parameters("model&x=model", "model").is_empty());
    }
}
