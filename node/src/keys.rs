//! The node's key: read or made, and what it signs and checks.

use cid::Cid;
use libp2p::PeerId;
use libp2p::identity::{Keypair, ed25519};
use libp2p::multihash::Multihash;
use parking_lot::Mutex;
use std::collections::{HashMap, VecDeque};
use std::fs;
use std::io::{ErrorKind, Write};
use std::os::unix::fs::OpenOptionsExt;
use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{SystemTime, UNIX_EPOCH};
use timerose_core::capability::Session;
use timerose_core::id::{NodeId, Now};
use timerose_core::io::Memo;
use timerose_core::proof::{Root, open_proof};
use timerose_core::record::{RecordError, Signed, Verified, open, seal};
use timerose_core::task::Receipt;

use crate::config::StartError;

/// The name of the key's file in a data folder.
const KEY_FILE: &str = "key";
/// Roots whose signatures are remembered as right: receipts of one root mostly come together.
const ROOTS_MAX: usize = 256;

/// This node's key pair. Cheap to clone; never shown.
#[derive(Clone)]
pub struct Keys {
    pair: Arc<ed25519::Keypair>,
    id: NodeId,
    nonces: Arc<AtomicU64>,
}

impl Keys {
    /// Reads the key of a data folder, or makes one, readable by its owner alone (mode 0600).
    ///
    /// # Errors
    /// [`StartError::Data`] where the folder cannot be used or its key file is not a key.
    pub fn open(dir: &Path) -> Result<Keys, StartError> {
        let path = dir.join(KEY_FILE);
        let fail = |why: String| StartError::Data { path: path.clone(), why };
        fs::create_dir_all(dir).map_err(|e| fail(e.to_string()))?;
        match fs::read(&path) {
            Ok(mut secret) => {
                let secret = ed25519::SecretKey::try_from_bytes(&mut secret).map_err(|_| fail("not a key of 32 bytes".into()))?;
                Ok(Keys::from(ed25519::Keypair::from(secret)))
            }
            Err(e) if e.kind() == ErrorKind::NotFound => {
                let secret = ed25519::SecretKey::generate();
                // A link is made or it is not: of two processes that begin at once, the second reads the first's key.
                let fresh = dir.join(format!("{KEY_FILE}.{}", std::process::id()));
                let written = fs::OpenOptions::new().write(true).create(true).truncate(true).mode(0o600).open(&fresh);
                let linked = written
                    .and_then(|mut file| file.write_all(secret.as_ref()).and_then(|()| file.sync_all()))
                    .and_then(|()| fs::hard_link(&fresh, &path));
                let _ = fs::remove_file(&fresh);
                match linked {
                    Ok(()) => Ok(Keys::from(ed25519::Keypair::from(secret))),
                    Err(e) if e.kind() == ErrorKind::AlreadyExists => Keys::open(dir),
                    Err(e) => Err(fail(e.to_string())),
                }
            }
            Err(e) => Err(fail(e.to_string())),
        }
    }

    /// The node that this key makes.
    pub fn id(&self) -> NodeId {
        self.id
    }

    /// The same for libp2p.
    pub(crate) fn keypair(&self) -> Keypair {
        Keypair::from((*self.pair).clone())
    }

    /// Signs a record.
    pub(crate) fn seal<R: Signed>(&self, record: &R) -> Vec<u8> {
        seal(record, |bytes| self.sign(bytes))
    }

    /// Signs bytes.
    pub(crate) fn sign(&self, bytes: &[u8]) -> [u8; 64] {
        self.pair.sign(bytes).try_into().expect("an Ed25519 signature has 64 bytes")
    }

    /// The seed of the key, for what is sealed to this node.
    pub(crate) fn secret(&self) -> [u8; 32] {
        self.pair.secret().as_ref().try_into().expect("an Ed25519 seed has 32 bytes")
    }

    /// The token that opens a stream to `to`.
    pub(crate) fn session(&self, to: NodeId) -> Vec<u8> {
        let now = wall_clock();
        // Distinct for every stream of every life of this node; it need not be secret.
        let mut nonce = now.unix_ms.to_be_bytes().to_vec();
        nonce.extend_from_slice(&self.nonces.fetch_add(1, Ordering::Relaxed).to_be_bytes());
        self.seal(&Session::new(self.id, to, now, nonce))
    }
}

impl From<ed25519::Keypair> for Keys {
    fn from(pair: ed25519::Keypair) -> Keys {
        let id = NodeId(pair.public().to_bytes());
        Keys { pair: Arc::new(pair), id, nonces: Arc::new(AtomicU64::new(0)) }
    }
}

/// Opens a signed record with a real signature check.
pub(crate) fn open_verified<R: Signed>(bytes: &[u8]) -> Result<Verified<R>, RecordError> {
    open(bytes, verifies)
}

/// Whether a signature is that of a node over some bytes.
pub(crate) fn verifies(issuer: &NodeId, message: &[u8], signature: &[u8; 64]) -> bool {
    ed25519::PublicKey::try_from_bytes(&issuer.0).is_ok_and(|key| key.verify(message, signature))
}

/// Checks a receipt's proof, down to its executor's signature, and gives the receipt with its CID. Needs nothing but the
/// bytes.
///
/// # Errors
/// [`RecordError`] where a byte is not as it was when the executor signed.
pub fn open_receipt(proof: &[u8]) -> Result<(Cid, Verified<Receipt>), RecordError> {
    open_proof(proof, open_verified)
}

/// Roots whose signatures were checked lately, by their bytes: a signature is checked once for all of its receipts.
#[derive(Default)]
pub(crate) struct Roots(Mutex<Checked>);

#[derive(Default)]
struct Checked {
    roots: HashMap<Vec<u8>, Verified<Root>>,
    /// From the oldest.
    order: VecDeque<Vec<u8>>,
}

impl Roots {
    /// As [`open_receipt`], with the memo key of the receipt's own task.
    pub fn open(&self, proof: &[u8]) -> Result<Memo, RecordError> {
        let (cid, receipt) = open_proof(proof, |root| self.root(root))?;
        Ok(Memo { key: receipt.task.memo_key(), cid, receipt })
    }

    fn root(&self, sealed: &[u8]) -> Result<Verified<Root>, RecordError> {
        if let Some(known) = self.0.lock().roots.get(sealed) {
            return Ok(known.clone());
        }
        let root = open_verified::<Root>(sealed)?;
        let mut checked = self.0.lock();
        if checked.roots.insert(sealed.to_vec(), root.clone()).is_none() {
            checked.order.push_back(sealed.to_vec());
        }
        if checked.order.len() > ROOTS_MAX
            && let Some(oldest) = checked.order.pop_front()
        {
            checked.roots.remove(&oldest);
        }
        Ok(root)
    }
}

/// What a libp2p name of an Ed25519 key begins with, before the key itself: the key as a protobuf, in the identity hash.
const NAME_HEAD: [u8; 4] = [0x08, 0x01, 0x12, 0x20];
/// The code of that hash.
const IDENTITY: u64 = 0;

/// The libp2p name of a node. Whether the key is a point of the curve is not asked, as that costs as much as the rest of sending a message:
/// nobody can connect by a name that is none.
pub(crate) fn peer_of(node: &NodeId) -> Option<PeerId> {
    let mut name = [0; NAME_HEAD.len() + 32];
    name[..NAME_HEAD.len()].copy_from_slice(&NAME_HEAD);
    name[NAME_HEAD.len()..].copy_from_slice(&node.0);
    PeerId::from_multihash(Multihash::wrap(IDENTITY, &name).ok()?).ok()
}

/// The node behind a libp2p name, if that holds an Ed25519 key (peers with other keys are no nodes of ours).
pub(crate) fn node_of(peer: &PeerId) -> Option<NodeId> {
    let hash: &Multihash<64> = peer.as_ref();
    let key = hash.digest().strip_prefix(&NAME_HEAD).filter(|_| hash.code() == IDENTITY)?;
    key.try_into().ok().map(NodeId)
}

/// The wall clock alone, for expiries.
pub(crate) fn wall_clock() -> Now {
    let unix_ms = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default().as_millis() as u64;
    Now { monotonic_us: 0, unix_ms }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_key_is_made_once_kept_private_and_names_one_node() {
        use std::os::unix::fs::PermissionsExt;
        let dir = tempfile::tempdir().expect("a folder");
        let first = Keys::open(dir.path()).expect("made").id();
        let again = Keys::open(dir.path()).expect("read").id();
        assert_eq!(first, again);
        let mode = fs::metadata(dir.path().join(KEY_FILE)).expect("there").permissions().mode();
        assert_eq!(mode & 0o777, 0o600);
        let peer = peer_of(&first).expect("a peer id");
        assert_eq!(node_of(&peer), Some(first));
    }

    #[test]
    fn a_node_and_its_libp2p_name_stand_for_each_other_and_other_names_for_no_node() {
        let pair = Keypair::generate_ed25519();
        let name = pair.public().to_peer_id();
        let node = node_of(&name).expect("a node");
        assert_eq!(node.0, pair.public().try_into_ed25519().expect("Ed25519").to_bytes());
        assert_eq!(peer_of(&node), Some(name));
        assert_eq!(node_of(&PeerId::random()), None, "random digests are no keys");
        // A key of another kind, as a protobuf in the identity hash: secp256k1 has 33 bytes.
        let other = [&[0x08, 0x02, 0x12, 0x21][..], &[2; 33]].concat();
        let other = Multihash::wrap(IDENTITY, &other).expect("it fits");
        assert_eq!(node_of(&PeerId::from_multihash(other).expect("a name")), None);
    }

    #[test]
    fn a_file_that_is_no_key_is_refused_and_left_alone() {
        let dir = tempfile::tempdir().expect("a folder");
        fs::write(dir.path().join(KEY_FILE), b"short").expect("written");
        assert!(matches!(Keys::open(dir.path()), Err(StartError::Data { .. })));
        assert_eq!(fs::read(dir.path().join(KEY_FILE)).expect("there"), b"short");
    }
}
