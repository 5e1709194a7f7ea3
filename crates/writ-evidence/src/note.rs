//! Signed notes and checkpoints (<https://c2sp.org/signed-note>, <https://c2sp.org/tlog-checkpoint>), Ed25519 only.

use std::fmt;
use std::str::FromStr;

use aws_lc_rs::signature::{ED25519, Ed25519KeyPair, KeyPair, UnparsedPublicKey};
use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;

use crate::tree::{Hash, hash};

/// The signature type of Ed25519 in a key id and verifier key.
const ED25519_TYPE: u8 = 1;
/// Signature lines that are looked at; the specification asks for at least 16.
const SIGNATURES_MAX: usize = 64;

/// A note is not one, or not signed by the key that was asked for.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum NoteError {
    /// It does not have the shape of a signed note.
    #[error("it is no signed note: {0}")]
    Shape(&'static str),
    /// No signature by this key.
    #[error("it is not signed by `{0}`")]
    Unsigned(String),
    /// A signature that claims this key and is not its.
    #[error("the signature of `{0}` is wrong")]
    Forged(String),
    /// The key itself is no verifier key.
    #[error("it is no verifier key: {0}")]
    Key(&'static str),
}

/// A public key with its name: `NAME+HEXID+BASE64`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct VerifierKey {
    name: String,
    id: [u8; 4],
    public: Vec<u8>,
}

impl VerifierKey {
    fn new(name: &str, public: &[u8]) -> Self {
        Self { name: name.to_owned(), id: key_id(name, public), public: public.to_vec() }
    }

    /// The name: the log's origin.
    pub fn name(&self) -> &str {
        &self.name
    }
}

impl fmt::Display for VerifierKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let key = STANDARD.encode([&[ED25519_TYPE], self.public.as_slice()].concat());
        write!(f, "{}+{:08x}+{key}", self.name, u32::from_be_bytes(self.id))
    }
}

impl FromStr for VerifierKey {
    type Err = NoteError;

    fn from_str(text: &str) -> Result<Self, NoteError> {
        let mut parts = text.splitn(3, '+');
        let (Some(name), Some(id), Some(key)) = (parts.next(), parts.next(), parts.next()) else {
            return Err(NoteError::Key("it must be `NAME+ID+KEY`"));
        };
        let key = STANDARD.decode(key).map_err(|_| NoteError::Key("its key is no base64"))?;
        let Some((&ED25519_TYPE, public)) = key.split_first() else {
            return Err(NoteError::Key("it is not Ed25519"));
        };
        if !good_name(name) || public.len() != 32 {
            return Err(NoteError::Key("its name or length is wrong"));
        }
        let verifier = Self::new(name, public);
        let claimed = u32::from_str_radix(id, 16).map_err(|_| NoteError::Key("its id is no hex"))?;
        if claimed != u32::from_be_bytes(verifier.id) {
            return Err(NoteError::Key("its id is not the key's"));
        }
        Ok(verifier)
    }
}

fn good_name(name: &str) -> bool {
    !name.is_empty() && !name.contains('+') && !name.chars().any(char::is_whitespace)
}

fn key_id(name: &str, public: &[u8]) -> [u8; 4] {
    let [a, b, c, d, ..] = hash(&[name.as_bytes(), b"\n", &[ED25519_TYPE], public]);
    [a, b, c, d]
}

/// The log's own key.
pub struct Signer {
    pair: Ed25519KeyPair,
    verifier: VerifierKey,
}

impl Signer {
    /// From a 32-byte seed (RFC 8032 private key).
    pub fn from_seed(name: &str, seed: &[u8]) -> Result<Self, NoteError> {
        if !good_name(name) {
            return Err(NoteError::Key("its name holds white space or `+`, or is empty"));
        }
        let pair = Ed25519KeyPair::from_seed_unchecked(seed)
            .map_err(|_| NoteError::Key("its seed is not 32 bytes"))?;
        let verifier = VerifierKey::new(name, pair.public_key().as_ref());
        Ok(Self { pair, verifier })
    }

    /// The public half.
    pub fn verifier(&self) -> &VerifierKey {
        &self.verifier
    }

    fn sign(&self, text: &str) -> String {
        let signature = [&self.verifier.id, self.pair.sign(text.as_bytes()).as_ref()].concat();
        format!("{text}\n\u{2014} {} {}\n", self.verifier.name, STANDARD.encode(signature))
    }
}

/// The state of a log at one size.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Checkpoint {
    /// Which log: its unique name.
    pub origin: String,
    /// How many leaves.
    pub size: u64,
    /// The root over them.
    pub root: Hash,
}

impl Checkpoint {
    /// The signed note.
    pub fn sign(&self, signer: &Signer) -> String {
        signer.sign(&format!("{}\n{}\n{}\n", self.origin, self.size, STANDARD.encode(self.root)))
    }

    /// Reads a signed note and checks the signature of this key. Signatures by others are ignored.
    pub fn open(note: &str, key: &VerifierKey) -> Result<Self, NoteError> {
        let text = verified(note, key)?;
        let shape = NoteError::Shape("a checkpoint is origin, size and root");
        let mut lines = text.lines();
        let (Some(origin), Some(size), Some(root)) = (lines.next(), lines.next(), lines.next()) else {
            return Err(shape);
        };
        let canonical = size == "0" || !size.starts_with('0') && size.bytes().all(|b| b.is_ascii_digit());
        let root = STANDARD.decode(root).ok().and_then(|root| Hash::try_from(root).ok());
        match (canonical, size.parse(), root) {
            (true, Ok(size), Some(root)) if origin == key.name => {
                Ok(Self { origin: origin.to_owned(), size, root })
            }
            (true, Ok(_), Some(_)) => Err(NoteError::Shape("its origin is not the key's name")),
            _ => Err(shape),
        }
    }
}

/// The text of a note that this key signed.
fn verified<'a>(note: &'a str, key: &VerifierKey) -> Result<&'a str, NoteError> {
    if note.chars().any(|c| c.is_control() && c != '\n') {
        return Err(NoteError::Shape("it holds control characters"));
    }
    let end = note.rfind("\n\n").ok_or(NoteError::Shape("no empty line before the signatures"))?;
    let (text, signatures) = note.split_at_checked(end + 1).ok_or(NoteError::Shape("no signatures"))?;
    if !note.ends_with('\n') {
        return Err(NoteError::Shape("it does not end in a newline"));
    }
    let mut signed = false;
    for line in signatures.lines().skip(1).take(SIGNATURES_MAX) {
        let rest = line
            .strip_prefix("\u{2014} ")
            .ok_or(NoteError::Shape("a signature line does not begin with a dash"))?;
        let (name, signature) =
            rest.split_once(' ').ok_or(NoteError::Shape("a signature line has no signature"))?;
        let bytes = STANDARD.decode(signature).map_err(|_| NoteError::Shape("a signature is no base64"))?;
        let Some((id, signature)) = bytes.split_first_chunk::<4>() else {
            return Err(NoteError::Shape("a signature is too short"));
        };
        if name != key.name || *id != key.id {
            continue;
        }
        let public = UnparsedPublicKey::new(&ED25519, &key.public);
        public.verify(text.as_bytes(), signature).map_err(|_| NoteError::Forged(key.name.clone()))?;
        signed = true;
    }
    if signed { Ok(text) } else { Err(NoteError::Unsigned(key.name.clone())) }
}

impl fmt::Debug for Signer {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Signer").field("verifier", &self.verifier).finish_non_exhaustive()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// The example of the signed-note specification.
    const VKEY: &str = "PeterNeumann+c74f20a3+ARpc2QcUPDhMQegwxbzhKqiBfsVkmqq/LDE4izWy10TW";
    const NOTE: &str = "If you think cryptography is the answer to your problem,\n\
                        then you don't know what your problem is.\n\n\
                        \u{2014} PeterNeumann x08go/ZJkuBS9UG/SffcvIAQxVBtiFupLLr8pAcElZInNIuGUgYN1FFYC2pZSNXgKvqfqdngotpRZb6KE6RyyBwJnAM=\n";

    #[test]
    fn reads_the_example_of_the_specification() {
        let key: VerifierKey = VKEY.parse().unwrap();
        assert_eq!(key.to_string(), VKEY);
        assert!(verified(NOTE, &key).unwrap().starts_with("If you think"));
        let forged = NOTE.replace("answer", "cause!");
        assert_eq!(verified(&forged, &key), Err(NoteError::Forged("PeterNeumann".into())));
    }

    #[test]
    fn a_checkpoint_is_signed_and_read_back() {
        let signer = Signer::from_seed("writ.local/evidence", &[7; 32]).unwrap();
        let checkpoint = Checkpoint { origin: "writ.local/evidence".into(), size: 12, root: [3; 32] };
        let note = checkpoint.sign(&signer);
        assert_eq!(Checkpoint::open(&note, signer.verifier()), Ok(checkpoint));
        let other = Signer::from_seed("writ.local/evidence", &[8; 32]).unwrap();
        assert!(matches!(Checkpoint::open(&note, other.verifier()), Err(NoteError::Unsigned(_))));
        for bad in
            [note.replace("\n12\n", "\n012\n"), note.replace("\n12\n", "\n13\n"), note.trim_end().to_owned()]
        {
            assert!(Checkpoint::open(&bad, signer.verifier()).is_err());
        }
    }
}
