//! Identities and time: nodes, content addresses, and the clock reading that every decision is given.

use alloc::string::{String, ToString};
use alloc::vec::Vec;
use cid::Cid;
use cid::multihash::Multihash;
use core::fmt;
use core::str::FromStr;
use serde::{Deserialize, Deserializer, Serialize, Serializer};
use sha2::{Digest, Sha256};

/// Multicodec of opaque bytes.
pub const RAW: u64 = 0x55;
/// Multicodec of UnixFS nodes.
pub const DAG_PB: u64 = 0x70;
/// Multicodec of our records.
pub const DAG_CBOR: u64 = 0x71;

const SHA2_256: u64 = 0x12;
/// Multicodec prefix of an Ed25519 public key, as a varint (multicodec table, `ed25519-pub`).
const ED25519_PUB: [u8; 2] = [0xed, 0x01];
const DID_KEY: &str = "did:key:";

/// A node, named by its Ed25519 public key. Shown and stored as a `did:key` (W3C did:key method).
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct NodeId(pub [u8; 32]);

impl NodeId {
    /// The last eight characters of the DID: enough to tell nodes apart on a screen.
    pub fn short(&self) -> String {
        let did = self.to_string();
        did[did.len() - 8..].to_string()
    }
}

impl fmt::Display for NodeId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let mut key = Vec::with_capacity(34);
        key.extend_from_slice(&ED25519_PUB);
        key.extend_from_slice(&self.0);
        write!(f, "{DID_KEY}{}", multibase::encode(multibase::Base::Base58Btc, key))
    }
}

impl fmt::Debug for NodeId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.short())
    }
}

/// The text was not the `did:key` of an Ed25519 key.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct NotADid;

impl fmt::Display for NotADid {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("not a did:key of an Ed25519 key")
    }
}

impl core::error::Error for NotADid {}

impl FromStr for NodeId {
    type Err = NotADid;
    fn from_str(text: &str) -> Result<Self, NotADid> {
        // A did:key of Ed25519 is 56 characters: refuse long input before decoding it.
        let encoded = text.strip_prefix(DID_KEY).filter(|e| e.len() <= 64 && e.starts_with('z')).ok_or(NotADid)?;
        let (_, bytes) = multibase::decode(encoded).map_err(|_| NotADid)?;
        let key = bytes.strip_prefix(&ED25519_PUB[..]).ok_or(NotADid)?;
        Ok(NodeId(key.try_into().map_err(|_| NotADid)?))
    }
}

impl Serialize for NodeId {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_str(self)
    }
}

impl<'de> Deserialize<'de> for NodeId {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let text = alloc::borrow::Cow::<'de, str>::deserialize(deserializer)?;
        text.parse().map_err(serde::de::Error::custom)
    }
}

/// The CIDv1 (sha2-256) of `bytes` under `codec`.
pub fn cid_of(codec: u64, bytes: &[u8]) -> Cid {
    let digest: [u8; 32] = Sha256::digest(bytes).into();
    Cid::new_v1(codec, Multihash::wrap(SHA2_256, &digest).expect("32 bytes fit a multihash of 64"))
}

/// One reading of the clocks, taken by whoever drives the core.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
pub struct Now {
    /// Microseconds since an arbitrary start; never goes back. All time-outs are measured on it.
    pub monotonic_us: u64,
    /// Milliseconds since 1970 UTC; may jump. Only for what outlives the process: expiries, receipts.
    pub unix_ms: u64,
}

/// A point on the monotonic clock, in microseconds.
pub type Instant = u64;
/// One millisecond, in the unit of [`Instant`].
pub const MILLISECOND: u64 = 1_000;
/// One second, in the unit of [`Instant`].
pub const SECOND: u64 = 1_000_000;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_did_names_its_key_and_back() {
        // The first key of the did:key specification's Ed25519 vectors.
        let did = "did:key:z6MkiTBz1ymuepAQ4HEHYSF1H8quG5GLVVQR3djdX3mDooWp";
        let id: NodeId = did.parse().expect("a published vector");
        assert_eq!(id.to_string(), did);
        assert_eq!(id.0[..4], [0x3b, 0x6a, 0x27, 0xbc]);
    }

    #[test]
    fn other_keys_and_noise_are_not_nodes() {
        for text in
            ["", "did:key:", "did:key:z6Mk", "did:web:example.org", "did:key:zQ3shokFTS3brHcDQrn82RUDfCZESWL1ZdCEJwekUDPQiYBme"]
        {
            assert_eq!(text.parse::<NodeId>(), Err(NotADid), "{text}");
        }
    }

    #[test]
    fn the_cid_of_nothing_is_the_published_one() {
        assert_eq!(cid_of(RAW, b"").to_string(), "bafkreihdwdcefgh4dqkjv67uzcmw7ojee6xedzdetojuzjevtenxquvyku");
    }
}
