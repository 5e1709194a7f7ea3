//! What can go wrong with the store, in the operator's words. No variant carries a value.

use std::path::PathBuf;

use writ_core::secret::MemoryError;
use writ_host::durable::FileError;

/// The store could not do what was asked. Whatever was stored before is still there.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum Error {
    /// The key file is not one that only the daemon can read.
    #[error("the key file `{}` {problem}; hint: {hint}", path.display())]
    KeyFile {
        /// The file.
        path: PathBuf,
        /// What is wrong with it.
        problem: &'static str,
        /// What to do.
        hint: &'static str,
    },
    /// A file could not be read, written or removed.
    #[error("the secret store's files cannot be used")]
    File(#[from] FileError),
    /// The folder of the store could not be listed.
    #[error("the secret store `{}` cannot be listed", path.display())]
    Folder {
        /// The folder.
        path: PathBuf,
        /// What the kernel said.
        #[source]
        source: std::io::Error,
    },
    /// The key is not the one that the store was sealed with.
    #[error(
        "the key does not open this store; hint: put back the key file or credential that the store was made \
         with; nothing was changed"
    )]
    WrongKey,
    /// An entry is damaged, or was put under a name that is not its own.
    #[error(
        "the secret `{name}` cannot be opened: its file is damaged or is another entry's; hint: store it again \
         with `writ secret set {name}`; other secrets are not affected"
    )]
    Corrupt {
        /// The entry.
        name: String,
    },
    /// The value cannot be placed in a request.
    #[error("the value for `{name}` {problem}; hint: {hint}")]
    Value {
        /// The entry.
        name: String,
        /// What is wrong with it; never the value.
        problem: &'static str,
        /// What to do.
        hint: &'static str,
    },
    /// There is no room for another entry.
    #[error("the store already holds {max} secrets; hint: remove one with `writ secret rm`")]
    Full {
        /// The bound.
        max: usize,
    },
    /// The kernel gives no memory to keep a value in.
    #[error("a secret cannot be kept in memory")]
    Memory(#[from] MemoryError),
    /// The kernel gives no randomness, or the cipher refused.
    #[error("the cipher refused to work")]
    Cipher,
}
