//! Whom an event is about: subject identifiers (RFC 9493), simple and complex (SSF 1.0, section 3).

use crate::json::Object;

/// Whom an event is about.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Subject {
    /// By issuer and subject.
    IssSub {
        /// The issuer.
        iss: String,
        /// The subject there.
        sub: String,
    },
    /// By address.
    Email(String),
    /// By an id that the transmitter's issuer alone understands: its subject.
    Opaque(String),
    /// By several identifiers at once.
    Several(Vec<Self>),
    /// In a way that names no human of ours: a device, a tenant, a telephone.
    Other,
}

impl Subject {
    /// Reads an identifier. A complex one stands for its user; what it says of session and device narrows nothing,
    /// because no session here is told apart by the issuer's.
    pub(super) fn read(subject: &Object) -> Self {
        let text = |name: &str| subject.text(name).filter(|text| !text.is_empty()).map(str::to_owned);
        if let Some(user) = subject.get("user").and_then(Object::of) {
            // Only once: a complex subject holds simple ones.
            return if user.has("user") { Self::Other } else { Self::read(&user) };
        }
        // Before RFC 9493 the member was called `subject_type`.
        let format = text("format").or_else(|| text("subject_type")).unwrap_or_default().replace('-', "_");
        let read = match format.as_str() {
            "iss_sub" => text("iss").zip(text("sub")).map(|(iss, sub)| Self::IssSub { iss, sub }),
            "email" => text("email").map(Self::Email),
            "opaque" => text("id").map(Self::Opaque),
            "aliases" => subject.get("identifiers").and_then(|list| list.as_array()).map(|list| {
                let simple = list.iter().filter_map(Object::of).filter(|one| !one.has("identifiers"));
                Self::Several(simple.map(|one| Self::read(&one)).collect())
            }),
            _ => None,
        };
        read.unwrap_or(Self::Other)
    }

    /// The simple identifiers in it.
    pub(super) fn parts(&self) -> &[Self] {
        match self {
            Self::Several(parts) => parts,
            Self::IssSub { .. } | Self::Email(_) | Self::Opaque(_) | Self::Other => {
                std::slice::from_ref(self)
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn read(text: &str) -> Subject {
        Subject::read(&Object::parse(text.as_bytes()).unwrap())
    }

    #[test]
    fn simple_complex_and_old_forms_name_the_same_human() {
        let alice = Subject::IssSub { iss: "https://i".into(), sub: "alice".into() };
        assert_eq!(read(r#"{"format":"iss_sub","iss":"https://i","sub":"alice"}"#), alice);
        assert_eq!(read(r#"{"subject_type":"iss-sub","iss":"https://i","sub":"alice"}"#), alice);
        let user = r#"{"format":"iss_sub","iss":"https://i","sub":"alice"}"#;
        let complex =
            format!(r#"{{"format":"complex","user":{user},"session":{{"format":"opaque","id":"s"}}}}"#);
        assert_eq!(read(&complex), alice);
        assert_eq!(read(r#"{"format":"email","email":"a@b"}"#), Subject::Email("a@b".into()));
        let several =
            read(&format!(r#"{{"format":"aliases","identifiers":[{user},{{"format":"opaque","id":"x"}}]}}"#));
        assert_eq!(several.parts(), [alice, Subject::Opaque("x".into())]);
    }

    #[test]
    fn what_names_no_human_matches_none() {
        for text in [
            r#"{"format":"iss_sub","sub":"alice"}"#,
            r#"{"format":"email","email":""}"#,
            r#"{"format":"complex","device":{"format":"opaque","id":"d"}}"#,
            r#"{"format":"phone_number","phone_number":"+1"}"#,
            r#"{"user":{"user":{"format":"opaque","id":"x"}}}"#,
            "{}",
        ] {
            assert_eq!(read(text), Subject::Other, "{text}");
        }
    }
}
