//! Values that must never be read by an agent, printed, or written down.
//!
//! A [`Secret`] has no `Display`, no `Serialize`, and a `Debug` that says nothing. Its bytes lie in memory of
//! their own: `memfd_secret(2)` where the kernel has it, so that they are absent from the kernel's direct map and
//! from core dumps, locked and undumpable pages elsewhere. They are zeroed when the last handle is dropped.
//! `grep expose` is the list of places to review.

mod memory;

use std::fmt;
use std::marker::PhantomData;
use std::sync::Arc;

use memory::SecretMemory;
pub use memory::{MemoryError, Protection};

/// A secret `str` or `[u8]`.
///
/// Cloning is deliberate and cheap: [`Secret::share`] hands out another handle to the same memory.
pub struct Secret<T: ?Sized> {
    memory: Arc<SecretMemory>,
    form: PhantomData<fn() -> Box<T>>,
}

impl<T: ?Sized> Secret<T> {
    /// Another handle to the same memory; the bytes live until the last handle is dropped.
    pub fn share(&self) -> Self {
        Self { memory: Arc::clone(&self.memory), form: PhantomData }
    }

    /// Length in bytes.
    pub fn len(&self) -> usize {
        self.memory.bytes().len()
    }

    /// Whether there are no bytes at all.
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// How the bytes are kept.
    pub fn protection(&self) -> Protection {
        self.memory.protection()
    }
}

impl Secret<[u8]> {
    /// Moves the bytes into secret memory and zeroes the place they came from.
    pub fn new(mut bytes: Vec<u8>) -> Result<Self, MemoryError> {
        let memory = SecretMemory::new(&bytes);
        zeroize::Zeroize::zeroize(&mut bytes);
        Ok(Self { memory: Arc::new(memory?), form: PhantomData })
    }

    /// The bytes. Every call is on the review list.
    pub fn expose(&self) -> &[u8] {
        self.memory.bytes()
    }

    /// The same secret as text, if it is UTF-8.
    pub fn into_text(self) -> Option<Secret<str>> {
        std::str::from_utf8(self.memory.bytes()).ok()?;
        Some(Secret { memory: self.memory, form: PhantomData })
    }
}

impl Secret<str> {
    /// Moves the text into secret memory and zeroes the place it came from.
    pub fn new(text: String) -> Result<Self, MemoryError> {
        let bytes = Secret::<[u8]>::new(text.into_bytes())?;
        Ok(Self { memory: bytes.memory, form: PhantomData })
    }

    /// The same secret as bytes.
    pub fn into_bytes(self) -> Secret<[u8]> {
        Secret { memory: self.memory, form: PhantomData }
    }

    /// The text. Every call is on the review list.
    pub fn expose(&self) -> &str {
        // Checked when it was made; an empty answer would fail closed if that were ever untrue.
        std::str::from_utf8(self.memory.bytes()).unwrap_or_default()
    }
}

impl<T: ?Sized> fmt::Debug for Secret<T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Secret(..)")
    }
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::FileExt;

    use super::*;

    #[test]
    fn holds_and_shares_without_printing() {
        let secret = Secret::<str>::new("hunter2-hunter2".into()).unwrap();
        let other = secret.share();
        drop(secret);
        assert_eq!(other.expose(), "hunter2-hunter2");
        assert_eq!(format!("{other:?}"), "Secret(..)");
    }

    #[test]
    fn empty_and_large_secrets_are_kept_whole() {
        for size in [0usize, 1, 4096, 4097, 100_000] {
            let bytes: Vec<u8> = (0..size).map(|i| u8::try_from(i % 251).unwrap()).collect();
            let secret = Secret::<[u8]>::new(bytes.clone()).unwrap();
            assert_eq!(secret.expose(), bytes);
        }
    }

    #[test]
    fn text_must_be_utf8() {
        assert!(Secret::<[u8]>::new(vec![0xff]).unwrap().into_text().is_none());
        assert_eq!(Secret::<[u8]>::new(b"ok".to_vec()).unwrap().into_text().unwrap().expose(), "ok");
    }

    #[test]
    fn memory_is_absent_from_proc_self_mem_where_the_kernel_can() {
        let secret = Secret::<str>::new("a-value-nobody-may-read".into()).unwrap();
        if secret.protection() != Protection::MemfdSecret {
            println!("skipped: this kernel has no memfd_secret");
            return;
        }
        let mem = std::fs::File::open("/proc/self/mem").unwrap();
        let mut out = [0u8; 8];
        let address = secret.expose().as_ptr() as u64;
        assert!(mem.read_at(&mut out, address).is_err(), "the kernel itself must refuse to read it");
    }
}
