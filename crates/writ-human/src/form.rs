//! `application/x-www-form-urlencoded`, both ways.

use percent_encoding::{AsciiSet, NON_ALPHANUMERIC, percent_decode_str, utf8_percent_encode};
use zeroize::Zeroizing;

/// Everything but the unreserved characters of RFC 3986.
const ESCAPED: &AsciiSet = &NON_ALPHANUMERIC.remove(b'-').remove(b'.').remove(b'_').remove(b'~');

/// The content type.
pub(crate) const KIND: &str = "application/x-www-form-urlencoded";

/// One value, encoded.
pub(crate) fn escape(text: &str) -> String {
    utf8_percent_encode(text, ESCAPED).to_string()
}

/// Pairs as a query or a body.
pub(crate) fn query(pairs: &[(&str, &str)]) -> String {
    let pairs: Vec<String> =
        pairs.iter().map(|(name, value)| format!("{}={}", escape(name), escape(value))).collect();
    pairs.join("&")
}

/// Pairs as a body that may hold secrets.
pub(crate) fn body(pairs: &[(&str, &str)]) -> Zeroizing<Vec<u8>> {
    let mut bytes = Zeroizing::new(Vec::new());
    for (name, value) in pairs {
        let joint = if bytes.is_empty() { "" } else { "&" };
        for part in [joint, &escape(name), "=", &Zeroizing::new(escape(value))] {
            bytes.extend_from_slice(part.as_bytes());
        }
    }
    bytes
}

/// The pairs of a query; `None` if it is no UTF-8 or a name stands twice.
pub(crate) fn parse(query: &str) -> Option<Vec<(String, String)>> {
    let mut pairs: Vec<(String, String)> = Vec::new();
    for pair in query.split('&').filter(|pair| !pair.is_empty()) {
        let (name, value) = pair.split_once('=').unwrap_or((pair, ""));
        let plain = |text: &str| {
            percent_decode_str(&text.replace('+', " ")).decode_utf8().ok().map(std::borrow::Cow::into_owned)
        };
        let (name, value) = (plain(name)?, plain(value)?);
        if pairs.iter().any(|(known, _)| *known == name) {
            return None;
        }
        pairs.push((name, value));
    }
    Some(pairs)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn pairs_go_out_and_come_back() {
        let pairs = [("a b", "x&y=z+ü"), ("c", "")];
        let text = query(&pairs);
        assert_eq!(text, "a%20b=x%26y%3Dz%2B%C3%BC&c=");
        assert_eq!(body(&pairs).as_slice(), text.as_bytes());
        let back = parse(&text).unwrap();
        assert_eq!(back, pairs.map(|(name, value)| (name.to_owned(), value.to_owned())));
        assert_eq!(parse("a=1+2").unwrap()[0].1, "1 2");
        assert!(parse("a=1&a=2").is_none() && parse("a=1&%61=2").is_none() && parse("a=%ff").is_none());
    }
}
