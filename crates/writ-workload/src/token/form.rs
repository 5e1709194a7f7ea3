//! The parameters of a request (RFC 6749 sections 3.2 and appendix B): each once, and an empty one is none.

use bytes::Bytes;
use http::{Request, header};
use percent_encoding::percent_decode_str;
use serde_json::{Map, Value};
use writ_gate::limits;
use writ_identity::exchange::Refusal;

/// The parameters. Not `Debug`: tokens are among them.
pub(super) struct Form(Vec<(String, String)>);

impl Form {
    /// Reads the body.
    pub(super) fn read(request: &Request<Bytes>) -> Result<Self, Refusal> {
        let kind = request.headers().get(header::CONTENT_TYPE).and_then(|kind| kind.to_str().ok());
        let kind = kind.and_then(|kind| kind.split(';').next()).unwrap_or_default().trim();
        if !kind.eq_ignore_ascii_case("application/x-www-form-urlencoded") {
            return Err(Refusal::Request("the body is no form"));
        }
        let body =
            std::str::from_utf8(request.body()).map_err(|_| Refusal::Request("the body is no form"))?;
        let mut pairs: Vec<(String, String)> = Vec::new();
        for pair in body.split('&').filter(|pair| !pair.is_empty()) {
            let (name, value) = pair.split_once('=').unwrap_or((pair, ""));
            let (name, value) = (plain(name)?, plain(value)?);
            if value.is_empty() {
                continue;
            }
            // Audiences and resources may be several (RFC 8693 section 2.1); that is for the exchange to judge.
            let several = matches!(name.as_str(), "audience" | "resource");
            if !several && pairs.iter().any(|(known, _)| *known == name) {
                return Err(Refusal::Request("a parameter stands twice"));
            }
            pairs.push((name, value));
        }
        Ok(Self(pairs))
    }

    /// The one value of this name.
    pub(super) fn get(&self, name: &str) -> Option<&str> {
        self.all(name).next()
    }

    /// Every value of this name.
    pub(super) fn all(&self, name: &str) -> impl Iterator<Item = &str> {
        self.0.iter().filter(move |(known, _)| known == name).map(|(_, value)| value.as_str())
    }

    /// A token with its type, of which neither may come alone.
    pub(super) fn token(&self, name: &str, typ: &str) -> Result<Option<(&str, &str)>, Refusal> {
        match (self.get(name), self.get(typ)) {
            (Some(token), Some(typ)) => Ok(Some((token, typ))),
            (None, None) => Ok(None),
            (Some(_), None) => Err(Refusal::Request("a token comes without its type")),
            (None, Some(_)) => Err(Refusal::Request("the type of a token comes without the token")),
        }
    }

    /// A JSON object of a small size.
    pub(super) fn object(&self, name: &str) -> Result<Option<Map<String, Value>>, Refusal> {
        let Some(text) = self.get(name) else { return Ok(None) };
        if text.len() > limits::TRANSACTION_CONTEXT_BYTES_MAX {
            return Err(Refusal::Request("the context of a transaction is too large"));
        }
        writ_identity::exchange::object(text)
            .map(Some)
            .map_err(|_| Refusal::Request("the context of a transaction is no JSON object"))
    }
}

fn plain(text: &str) -> Result<String, Refusal> {
    let spaced = text.replace('+', " ");
    let decoded = percent_decode_str(&spaced).decode_utf8();
    decoded.map(String::from).map_err(|_| Refusal::Request("the body is no form"))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn read(body: &str) -> Result<Form, Refusal> {
        let kind = "application/x-www-form-urlencoded; charset=utf-8";
        let request = Request::post("/").header(header::CONTENT_TYPE, kind);
        Form::read(&request.body(Bytes::copy_from_slice(body.as_bytes())).unwrap())
    }

    #[test]
    fn each_stands_once_and_an_empty_one_is_none() {
        let form = read("a=x+y%2B&b=&audience=1&audience=2&c").ok().unwrap();
        assert_eq!((form.get("a"), form.get("b"), form.get("c")), (Some("x y+"), None, None));
        assert_eq!(form.all("audience").collect::<Vec<_>>(), ["1", "2"]);
        for twice in ["a=1&a=2", "a=1&%61=1"] {
            assert_eq!(read(twice).err(), Some(Refusal::Request("a parameter stands twice")), "{twice}");
        }
        assert!(read("a=%ff").is_err());
    }

    #[test]
    fn a_context_is_one_small_object_that_says_everything_once() {
        let object = |text: &str| read(&format!("o={text}")).ok().unwrap().object("o");
        assert_eq!(object(r#"{"ip":"192.0.2.1"}"#).unwrap().unwrap()["ip"], "192.0.2.1");
        assert_eq!(object("").unwrap(), None);
        let large = format!(r#"{{"a":"{}"}}"#, "x".repeat(limits::TRANSACTION_CONTEXT_BYTES_MAX));
        for bad in ["[]", "1", "{", r#"{"a":1,"a":2}"#, &large] {
            assert!(object(bad).is_err(), "{bad}");
        }
    }
}
