//! Files that a checkout converts: Windows line ends, and large files kept elsewhere (LFS). No filter program is ever
//! run. An untouched file keeps the blob of the user's index; an edited one with converted line ends gets plain ones in
//! its blob again; an edited LFS file is stored as it is, and the delivery refuses it.

use super::scan::Indexed;
use super::store::Store;
use crate::port::repository::RepositoryError;
use git2::{ObjectType, Oid};
use sha2::{Digest, Sha256};

/// How every LFS pointer begins.
const POINTER: &[u8] = b"version https://git-lfs";

enum Conversion {
    LineEnds,
    Pointer(Vec<u8>),
}

/// Whether the checkout converted the file: its size on disk was not its blob's.
fn conversion(store: &Store, indexed: Option<&Indexed>) -> Result<Option<Conversion>, RepositoryError> {
    let Some(indexed) = indexed.filter(|indexed| indexed.size != 0 && store.has(indexed.oid)) else {
        return Ok(None);
    };
    let blob = store.read(indexed.oid)?;
    let data = blob.data();
    if u32::try_from(data.len()).is_ok_and(|size| size == indexed.size) {
        return Ok(None);
    }
    if is_pointer(data) {
        return Ok(Some(Conversion::Pointer(data.to_vec())));
    }
    Ok(if data.contains(&b'\r') { None } else { Some(Conversion::LineEnds) })
}

/// Whether a blob stands for a file that is kept elsewhere.
pub(super) fn is_pointer(blob: &[u8]) -> bool {
    blob.len() < 1024 && blob.starts_with(POINTER)
}

/// The blob of a converted file's content; `None` where the content is stored as it is.
pub(super) fn blob_for(
    store: &Store,
    indexed: Option<&Indexed>,
    content: &[u8],
) -> Result<Option<Oid>, RepositoryError> {
    match conversion(store, indexed)? {
        None => Ok(None),
        Some(Conversion::LineEnds) if !content.windows(2).any(|pair| pair == b"\r\n") || content.contains(&0) => {
            Ok(None)
        }
        Some(Conversion::LineEnds) => {
            let mut plain = Vec::with_capacity(content.len());
            for (at, byte) in content.iter().enumerate() {
                if *byte != b'\r' || content.get(at + 1) != Some(&b'\n') {
                    plain.push(*byte);
                }
            }
            store.write(ObjectType::Blob, &plain).map(Some)
        }
        Some(Conversion::Pointer(pointer)) => {
            let hash: String = Sha256::digest(content).iter().map(|byte| format!("{byte:02x}")).collect();
            let named = String::from_utf8_lossy(&pointer).lines().any(|line| line == format!("oid sha256:{hash}"));
            Ok(indexed.filter(|_| named).map(|indexed| indexed.oid))
        }
    }
}

/// What a blob becomes in the folder.
pub(super) fn file_for(store: &Store, indexed: Option<&Indexed>, blob: &[u8]) -> Result<Vec<u8>, RepositoryError> {
    if blob.contains(&b'\r') || blob.contains(&0) {
        return Ok(blob.to_vec());
    }
    if !matches!(conversion(store, indexed)?, Some(Conversion::LineEnds)) {
        return Ok(blob.to_vec());
    }
    let mut file = Vec::with_capacity(blob.len() + blob.len() / 32);
    for byte in blob {
        if *byte == b'\n' {
            file.push(b'\r');
        }
        file.push(*byte);
    }
    Ok(file)
}
