//! The forms in which a service may send a secret back.

use std::fmt::Write;

use base64::Engine;
use base64::alphabet::{STANDARD, URL_SAFE};
use base64::engine::general_purpose::{GeneralPurpose, NO_PAD};
use writ_core::Placement;
use writ_gate::Credential;
use zeroize::Zeroizing;

use super::SHORT_BYTES;

type Form = Zeroizing<Vec<u8>>;

/// Adds every form of the credential, each once.
pub(super) fn of(credential: &Credential, forms: &mut Vec<Form>) {
    let secret = credential.secret.expose();
    if let Placement::Basic { user } = &credential.place {
        let pair = Zeroizing::new(format!("{user}:{secret}"));
        for form in base64(pair.as_bytes(), 0) {
            add(forms, form);
        }
    }
    if secret.len() < SHORT_BYTES {
        return;
    }
    add(forms, secret.as_bytes().to_vec());
    for offset in 0..3 {
        for form in base64(secret.as_bytes(), offset) {
            add(forms, form);
        }
    }
    add(forms, hex(secret.as_bytes()).into_bytes());
    add(forms, hex(secret.as_bytes()).to_ascii_uppercase().into_bytes());
    for form in escaped(secret) {
        add(forms, form.into_bytes());
    }
}

fn add(forms: &mut Vec<Form>, form: Vec<u8>) {
    let form = Zeroizing::new(form);
    if form.len() >= SHORT_BYTES && !forms.contains(&form) {
        forms.push(form);
    }
}

/// The characters of a base64 text that depend on the secret alone when `offset` other bytes (mod 3) come before it.
fn base64(secret: &[u8], offset: usize) -> Vec<Vec<u8>> {
    let padded = Zeroizing::new([vec![0; offset].as_slice(), secret].concat());
    let first = (offset * 8).div_ceil(6);
    let last = padded.len() * 8 / 6;
    [STANDARD, URL_SAFE]
        .iter()
        .filter_map(|alphabet| {
            let text = Zeroizing::new(GeneralPurpose::new(alphabet, NO_PAD).encode(padded.as_slice()));
            text.as_bytes().get(first..last).map(<[u8]>::to_vec)
        })
        .collect()
}

fn hex(bytes: &[u8]) -> String {
    bytes.iter().fold(String::with_capacity(bytes.len() * 2), |mut out, byte| {
        let _infallible = write!(out, "{byte:02x}");
        out
    })
}

/// Percent-encoding, JSON and HTML, each as several writers do them.
fn escaped(secret: &str) -> Vec<String> {
    let percent = |kept: &str, upper: bool| {
        each(secret, |c| (!c.is_ascii_alphanumeric() && !kept.contains(c)).then(|| percent_char(c, upper)))
    };
    let json = |also: &'static str, upper: bool| {
        each(secret, move |c| match c {
            '/' if also == "/" => Some("\\/".to_owned()),
            '"' if !upper => Some("\\\"".to_owned()),
            '\\' => Some("\\\\".to_owned()),
            c if also.contains(c) && also != "/" => Some(unicode(c, upper)),
            c if !c.is_ascii() => Some(unicode(c, upper)),
            _ => None,
        })
    };
    let html = |decimal: bool| {
        each(secret, move |c| match c {
            '&' => Some("&amp;".to_owned()),
            '<' => Some("&lt;".to_owned()),
            '>' => Some("&gt;".to_owned()),
            '"' => Some(if decimal { "&#34;" } else { "&quot;" }.to_owned()),
            '\'' => Some(if decimal { "&#39;" } else { "&#x27;" }.to_owned()),
            '+' if decimal => Some("&#43;".to_owned()),
            _ => None,
        })
    };
    vec![
        percent("-._~", true),
        percent("-._~", false),
        percent("-._~/", true),
        percent("-._~!*'()", true),
        percent("-._~", true).replace("%20", "+"),
        json("", false),
        json("/", false),
        json("<>&", false),
        json("<>&'\"+`", true),
        html(false),
        html(true),
    ]
}

fn each(secret: &str, escape: impl Fn(char) -> Option<String>) -> String {
    let mut out = String::with_capacity(secret.len() * 6);
    for c in secret.chars() {
        match escape(c) {
            Some(text) => out.push_str(&text),
            None => out.push(c),
        }
    }
    out
}

fn percent_char(c: char, upper: bool) -> String {
    let mut buffer = [0; 4];
    c.encode_utf8(&mut buffer).bytes().fold(String::new(), |mut out, byte| {
        let _infallible = if upper { write!(out, "%{byte:02X}") } else { write!(out, "%{byte:02x}") };
        out
    })
}

fn unicode(c: char, upper: bool) -> String {
    let mut buffer = [0; 2];
    c.encode_utf16(&mut buffer).iter().fold(String::new(), |mut out, unit| {
        let _infallible = if upper { write!(out, "\\u{unit:04X}") } else { write!(out, "\\u{unit:04x}") };
        out
    })
}
