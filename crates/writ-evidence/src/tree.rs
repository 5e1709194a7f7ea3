//! RFC 6962 Merkle trees over SHA-256: hashes, roots, proofs. Pure.
//!
//! A leaf is hashed with the prefix 0x00, a node with 0x01 (RFC 6962 section 2.1), so neither can stand for the other.
//! Proofs are made and checked as in RFC 9162 sections 2.1.3 and 2.1.4.

#[cfg(test)]
mod vectors;

use aws_lc_rs::digest::{Context, SHA256};

/// One SHA-256 hash.
pub type Hash = [u8; 32];

/// The hash of a leaf.
pub fn leaf_hash(leaf: &[u8]) -> Hash {
    hash(&[&[0], leaf])
}

/// The hash of the node above two others.
pub fn node_hash(left: &Hash, right: &Hash) -> Hash {
    hash(&[&[1], left, right])
}

/// The root of the tree without leaves.
pub fn empty_root() -> Hash {
    hash(&[])
}

/// SHA-256 of the parts one after the other.
pub(crate) fn hash(parts: &[&[u8]]) -> Hash {
    let mut context = Context::new(&SHA256);
    for part in parts {
        context.update(part);
    }
    let mut out = [0u8; 32];
    out.iter_mut().zip(context.finish().as_ref()).for_each(|(to, from)| *to = *from);
    out
}

/// The complete subtrees of a tree, largest first: enough to append to it and to know its root.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct CompactRange {
    size: u64,
    /// One hash for each set bit of `size`, highest first.
    peaks: Vec<Hash>,
}

impl CompactRange {
    /// The range of a tree of this size from the tiles of its right edge: the hashes of the tile that is not full, at
    /// each level from the leaves up (<https://c2sp.org/tlog-tiles>).
    pub(crate) fn from_edge(size: u64, levels: &[Vec<Hash>]) -> Self {
        let mut peaks = Vec::new();
        for hashes in levels.iter().rev() {
            let mut rest = hashes.as_slice();
            while !rest.is_empty() {
                let width = 1 << rest.len().ilog2();
                let (subtree, behind) = rest.split_at_checked(width).unwrap_or((rest, &[]));
                peaks.push(root(subtree));
                rest = behind;
            }
        }
        Self { size, peaks }
    }

    /// How many leaves.
    pub fn size(&self) -> u64 {
        self.size
    }

    /// Appends a leaf by its hash.
    pub fn append(&mut self, leaf: Hash) {
        let mut hash = leaf;
        // Each trailing one bit of the old size is a subtree as large as what is carried.
        for _ in 0..self.size.trailing_ones() {
            if let Some(left) = self.peaks.pop() {
                hash = node_hash(&left, &hash);
            }
        }
        self.peaks.push(hash);
        self.size += 1;
    }

    /// The root hash.
    pub fn root(&self) -> Hash {
        let joined = self.peaks.iter().rev().copied().reduce(|right, left| node_hash(&left, &right));
        joined.unwrap_or_else(empty_root)
    }
}

/// The root over these leaf hashes.
pub fn root(leaves: &[Hash]) -> Hash {
    let mut range = CompactRange::default();
    for leaf in leaves {
        range.append(*leaf);
    }
    range.root()
}

/// A proof does not show what it claims.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum ProofError {
    /// The index or size makes no sense.
    #[error("the proof is for no tree: its index or size is out of range")]
    Range,
    /// Too few or too many hashes.
    #[error("the proof has the wrong length")]
    Length,
    /// The hashes lead to another root.
    #[error("the proof leads to another root")]
    Root,
}

/// The hashes from a leaf up to the root; `None` if the index is out of range.
pub fn inclusion_proof(leaves: &[Hash], index: usize) -> Option<Vec<Hash>> {
    if index >= leaves.len() {
        return None;
    }
    if leaves.len() == 1 {
        return Some(Vec::new());
    }
    let (left, right) = leaves.split_at_checked(split(leaves.len()))?;
    let (mut proof, other) = if index < left.len() {
        (inclusion_proof(left, index)?, right)
    } else {
        (inclusion_proof(right, index - left.len())?, left)
    };
    proof.push(root(other));
    Some(proof)
}

/// The hashes that show that the first `old` leaves are a prefix; `None` if `old` is out of range.
pub fn consistency_proof(leaves: &[Hash], old: usize) -> Option<Vec<Hash>> {
    fn subproof(leaves: &[Hash], old: usize, whole: bool) -> Option<Vec<Hash>> {
        if old == leaves.len() {
            return Some(if whole { Vec::new() } else { vec![root(leaves)] });
        }
        let (left, right) = leaves.split_at_checked(split(leaves.len()))?;
        let (mut proof, other) = if old <= left.len() {
            (subproof(left, old, whole)?, right)
        } else {
            (subproof(right, old - left.len(), false)?, left)
        };
        proof.push(root(other));
        Some(proof)
    }
    match old {
        0 => Some(Vec::new()),
        _ if old > leaves.len() => None,
        _ => subproof(leaves, old, true),
    }
}

/// The largest power of two below `n`, which is at least 2.
fn split(n: usize) -> usize {
    (n / 2 + n % 2).next_power_of_two()
}

/// Checks that a leaf is in the tree of this size and root.
pub fn verify_inclusion(
    leaf: &Hash,
    index: u64,
    size: u64,
    proof: &[Hash],
    root: &Hash,
) -> Result<(), ProofError> {
    if index >= size {
        return Err(ProofError::Range);
    }
    let (mut fnode, mut snode, mut hash) = (index, size - 1, *leaf);
    for other in proof {
        if snode == 0 {
            return Err(ProofError::Length);
        }
        if fnode & 1 == 1 || fnode == snode {
            hash = node_hash(other, &hash);
            while fnode & 1 == 0 && fnode != 0 {
                (fnode, snode) = (fnode >> 1, snode >> 1);
            }
        } else {
            hash = node_hash(&hash, other);
        }
        (fnode, snode) = (fnode >> 1, snode >> 1);
    }
    match (snode == 0, hash == *root) {
        (false, _) => Err(ProofError::Length),
        (true, false) => Err(ProofError::Root),
        (true, true) => Ok(()),
    }
}

/// Two trees, of which the first shall be a prefix of the second.
#[derive(Debug, Clone, Copy)]
pub struct Growth<'a> {
    /// Size of the first.
    pub old_size: u64,
    /// Size of the second.
    pub new_size: u64,
    /// Root of the first.
    pub old_root: &'a Hash,
    /// Root of the second.
    pub new_root: &'a Hash,
}

/// Checks that one tree is a prefix of the other. The empty tree is one of any, so there is nothing to prove and a
/// proof for it is refused.
pub fn verify_consistency(growth: Growth<'_>, proof: &[Hash]) -> Result<(), ProofError> {
    let Growth { old_size, new_size, old_root, new_root } = growth;
    if old_size > new_size || old_size == 0 {
        return Err(ProofError::Range);
    }
    if old_size == new_size {
        if !proof.is_empty() {
            return Err(ProofError::Length);
        }
        return if old_root == new_root { Ok(()) } else { Err(ProofError::Root) };
    }
    let (mut fnode, mut snode) = (old_size - 1, new_size - 1);
    while fnode & 1 == 1 {
        (fnode, snode) = (fnode >> 1, snode >> 1);
    }
    let mut hashes = proof.iter();
    let first = if fnode == 0 && old_size.is_power_of_two() {
        old_root
    } else {
        hashes.next().ok_or(ProofError::Length)?
    };
    let (mut old, mut new) = (*first, *first);
    for other in hashes {
        if snode == 0 {
            return Err(ProofError::Length);
        }
        if fnode & 1 == 1 || fnode == snode {
            old = node_hash(other, &old);
            new = node_hash(other, &new);
            while fnode & 1 == 0 && fnode != 0 {
                (fnode, snode) = (fnode >> 1, snode >> 1);
            }
        } else {
            new = node_hash(&new, other);
        }
        (fnode, snode) = (fnode >> 1, snode >> 1);
    }
    match (snode == 0, old == *old_root && new == *new_root) {
        (false, _) => Err(ProofError::Length),
        (true, false) => Err(ProofError::Root),
        (true, true) => Ok(()),
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    /// RFC 6962 section 2.1, word by word.
    fn definition(leaves: &[Hash]) -> Hash {
        match leaves {
            [] => empty_root(),
            [leaf] => *leaf,
            _ => {
                let (left, right) = leaves.split_at(split(leaves.len()));
                node_hash(&definition(left), &definition(right))
            }
        }
    }

    fn hashes(count: usize) -> Vec<Hash> {
        (0..count).map(|n| leaf_hash(&n.to_be_bytes())).collect()
    }

    proptest! {
        #[test]
        fn appending_gives_the_defined_root(count in 0usize..700) {
            let leaves = hashes(count);
            prop_assert_eq!(root(&leaves), definition(&leaves));
        }

        #[test]
        fn proofs_verify_and_prove_nothing_else(count in 1usize..200, pick: prop::sample::Index, other: prop::sample::Index) {
            let leaves = hashes(count);
            let (index, old) = (pick.index(count), other.index(count + 1));
            let (size, top) = (count as u64, root(&leaves));
            let proof = inclusion_proof(&leaves, index).unwrap();
            prop_assert!(verify_inclusion(&leaves[index], index as u64, size, &proof, &top).is_ok());
            prop_assert!(verify_inclusion(&leaf_hash(b"other"), index as u64, size, &proof, &top).is_err());
            let before = root(&leaves[..old]);
            let proof = consistency_proof(&leaves, old).unwrap();
            if old == 0 {
                return Ok(());
            }
            let growth = Growth { old_size: old as u64, new_size: size, old_root: &before, new_root: &top };
            prop_assert!(verify_consistency(growth, &proof).is_ok());
            let forged = Growth { old_root: &leaf_hash(b"other"), ..growth };
            prop_assert!(verify_consistency(forged, &proof).is_err());
        }
    }
}
