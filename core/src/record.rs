//! Records: canonical DAG-CBOR with the schema's name and version inside, and signed envelopes around them.
//!
//! A record is a map of one entry, `{"timerose/function@1": {…}}`: whoever holds the bytes knows what they are. A signed
//! record is a UCAN 1.0-rc.1 envelope, `[signature, {"h": header, "<schema>": {…}}]`. Bytes are verified as they were
//! received, never encoded again to be verified; every non-canonical form is refused (order of keys, length of integers,
//! indefinite lengths), also within unknown fields, which are ignored.

use alloc::string::String;
use alloc::vec::Vec;
use cid::Cid;
use core::fmt;
use core::marker::PhantomData;
use serde::de::{DeserializeOwned, MapAccess, Visitor};
use serde::{Deserialize, Deserializer, Serialize, Serializer, ser::SerializeMap};

use crate::canonical;
use crate::id::{DAG_CBOR, NodeId, cid_of};

/// A kind of record: its name on the wire and the versions that this build reads.
pub trait Record: Serialize + DeserializeOwned {
    /// The schema's name, without its version: `timerose/function`.
    const SCHEMA: &'static str;
    /// The version that this build writes, after the `@`. UCAN's own tags use `1.0.0-rc.1`, ours whole numbers.
    const VERSION: &'static str = "1";
    /// The largest encoding that is read, in bytes.
    const MAX_BYTES: usize;
}

/// A record that somebody signs: it names its issuer, whose key must have made the signature.
pub trait Signed: Record {
    /// The node whose key signs.
    fn issuer(&self) -> NodeId;
}

/// Why bytes were refused as a record.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum RecordError {
    /// Longer than the schema allows.
    TooLarge {
        /// The schema's bound, in bytes.
        max: usize,
    },
    /// Another schema, or a version that this build does not read.
    Unsupported {
        /// What the bytes say they are.
        found: String,
        /// What this build reads.
        wanted: String,
    },
    /// Not canonical DAG-CBOR of this schema.
    Malformed(String),
    /// The signature is not the issuer's over these bytes.
    Forged {
        /// Who is said to have signed.
        issuer: NodeId,
    },
    /// A receipt that is not among those whose root was signed, or not the signer's own.
    Unproven {
        /// Who signed the root.
        issuer: NodeId,
    },
}

impl fmt::Display for RecordError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            RecordError::TooLarge { max } => write!(f, "record over {max} bytes"),
            RecordError::Unsupported { found, wanted } => write!(f, "unsupported record {found:?}, wanted {wanted:?}"),
            RecordError::Malformed(why) => write!(f, "malformed record: {why}"),
            RecordError::Forged { issuer } => write!(f, "forged record: signature is not that of {issuer}"),
            RecordError::Unproven { issuer } => write!(f, "forged receipt: it is not under the root that {issuer} signed"),
        }
    }
}

impl core::error::Error for RecordError {}

/// Encodes a record. The same value always gives the same bytes.
pub fn encode<R: Record>(record: &R) -> Vec<u8> {
    to_cbor(&Tagged(record))
}

/// The CID of a record's encoding, with the bytes.
pub fn address<R: Record>(record: &R) -> (Cid, Vec<u8>) {
    let bytes = encode(record);
    (cid_of(DAG_CBOR, &bytes), bytes)
}

/// Decodes a record, refusing other schemas, other versions, and every non-canonical encoding.
pub fn decode<R: Record>(bytes: &[u8]) -> Result<R, RecordError> {
    if bytes.len() > R::MAX_BYTES {
        return Err(RecordError::TooLarge { max: R::MAX_BYTES });
    }
    let untagged: Untagged<R> = from_cbor(bytes)?;
    untagged.check()
}

/// Signs a record: `sign` is given the bytes to sign and returns an Ed25519 signature (64 bytes).
pub fn seal<R: Signed>(record: &R, sign: impl FnOnce(&[u8]) -> [u8; 64]) -> Vec<u8> {
    let payload = to_cbor(&Payload(record));
    let mut sealed = Vec::with_capacity(ENVELOPE_HEAD.len() + 64 + payload.len());
    sealed.extend_from_slice(&ENVELOPE_HEAD);
    sealed.extend_from_slice(&sign(&payload));
    sealed.extend_from_slice(&payload);
    sealed
}

/// Opens a signed record: `verify` says whether a signature is that of a key over some bytes.
pub fn open<R: Signed>(bytes: &[u8], verify: impl FnOnce(&NodeId, &[u8], &[u8; 64]) -> bool) -> Result<Verified<R>, RecordError> {
    if bytes.len() > R::MAX_BYTES {
        return Err(RecordError::TooLarge { max: R::MAX_BYTES });
    }
    let rest = bytes.strip_prefix(&ENVELOPE_HEAD[..]).ok_or_else(|| malformed("not an envelope"))?;
    let (signature, payload) = rest.split_first_chunk::<64>().ok_or_else(|| malformed("truncated"))?;
    let untagged: Untagged<R> = from_cbor(payload)?;
    if untagged.header.as_deref() != Some(&VARSIG_ED25519_DAG_CBOR[..]) {
        return Err(malformed("the signature is not Ed25519 over DAG-CBOR"));
    }
    let record = untagged.check()?;
    let issuer = record.issuer();
    if !verify(&issuer, payload, signature) {
        return Err(RecordError::Forged { issuer });
    }
    Ok(Verified { value: record, sealed: bytes.to_vec() })
}

/// A signed record whose signature was checked: the only form of one that the core accepts.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Verified<R> {
    value: R,
    sealed: Vec<u8>,
}

impl<R> Verified<R> {
    /// Takes the record as signed without a check. For drivers whose signer is null, such as the simulator; a tidy test
    /// forbids it in the node.
    pub fn assume(value: R) -> Self {
        Verified { value, sealed: Vec::new() }
    }

    /// A record from a recording, which holds only what had been checked when it was taken.
    pub(crate) fn recorded(value: R, sealed: Vec<u8>) -> Self {
        Verified { value, sealed }
    }

    /// A record that is signed together with others, once its proof was checked.
    pub(crate) fn proven(value: R, sealed: &[u8]) -> Self {
        Verified { value, sealed: sealed.to_vec() }
    }

    /// The envelope, or the proof, as it was received, to be passed on.
    pub fn sealed(&self) -> &[u8] {
        &self.sealed
    }

    /// The record itself.
    pub fn into_value(self) -> R {
        self.value
    }
}

impl<R> core::ops::Deref for Verified<R> {
    type Target = R;
    fn deref(&self) -> &R {
        &self.value
    }
}

/// DAG-CBOR of a list of two whose first entry is a byte string of 64.
const ENVELOPE_HEAD: [u8; 3] = [0x82, 0x58, 0x40];

/// The varsig header of UCAN 1.0-rc.1 for Ed25519 over DAG-CBOR.
const VARSIG_ED25519_DAG_CBOR: [u8; 8] = [0x34, 0x01, 0xed, 0x01, 0xed, 0x01, 0x13, 0x71];

fn malformed(why: &str) -> RecordError {
    RecordError::Malformed(why.into())
}

/// Encodes any serialisable value as canonical DAG-CBOR.
pub(crate) fn to_cbor<T: Serialize>(value: &T) -> Vec<u8> {
    serde_ipld_dagcbor::to_vec(value).expect("records hold no floats and no maps with other than text keys")
}

/// Decodes canonical DAG-CBOR.
pub(crate) fn from_cbor<'a, T: Deserialize<'a>>(bytes: &'a [u8]) -> Result<T, RecordError> {
    canonical::check(bytes).map_err(malformed)?;
    serde_ipld_dagcbor::from_slice(bytes).map_err(|e| RecordError::Malformed(alloc::format!("{e:?}")))
}

struct Tag<R>(PhantomData<R>);

impl<R: Record> fmt::Display for Tag<R> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}@{}", R::SCHEMA, R::VERSION)
    }
}

impl<R: Record> Serialize for Tag<R> {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_str(self)
    }
}

/// `{"<schema>@<version>": {…}}`
struct Tagged<'a, R>(&'a R);

impl<R: Record> Serialize for Tagged<'_, R> {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        let mut map = serializer.serialize_map(Some(1))?;
        map.serialize_entry(&Tag::<R>(PhantomData), self.0)?;
        map.end()
    }
}

/// `{"h": header, "<schema>@<version>": {…}}`
struct Payload<'a, R>(&'a R);

impl<R: Record> Serialize for Payload<'_, R> {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        let mut map = serializer.serialize_map(Some(2))?;
        map.serialize_entry("h", serde_bytes::Bytes::new(&VARSIG_ED25519_DAG_CBOR))?;
        map.serialize_entry(&Tag::<R>(PhantomData), self.0)?;
        map.end()
    }
}

/// What a tagged map held: the record if the tag was ours, else the tag.
struct Untagged<R> {
    header: Option<Vec<u8>>,
    body: Option<R>,
    foreign: Option<String>,
}

impl<R: Record> Untagged<R> {
    fn check(self) -> Result<R, RecordError> {
        match (self.body, self.foreign) {
            (Some(record), None) => Ok(record),
            (_, found) => Err(RecordError::Unsupported {
                found: found.unwrap_or_default(),
                wanted: alloc::format!("{}", Tag::<R>(PhantomData)),
            }),
        }
    }
}

impl<'de, R: Record> Deserialize<'de> for Untagged<R> {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct Entries<R>(PhantomData<R>);
        impl<'de, R: Record> Visitor<'de> for Entries<R> {
            type Value = Untagged<R>;
            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                write!(f, "a map tagged {}", Tag::<R>(PhantomData))
            }
            fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<Untagged<R>, A::Error> {
                let wanted = alloc::format!("{}", Tag::<R>(PhantomData));
                let mut found = Untagged { header: None, body: None, foreign: None };
                while let Some(key) = map.next_key::<String>()? {
                    if key == wanted {
                        found.body = Some(map.next_value()?);
                    } else if key == "h" {
                        found.header = Some(map.next_value::<serde_bytes::ByteBuf>()?.into_vec());
                    } else {
                        map.next_value::<serde::de::IgnoredAny>()?;
                        found.foreign = Some(key);
                    }
                }
                Ok(found)
            }
        }
        deserializer.deserialize_map(Entries(PhantomData))
    }
}
