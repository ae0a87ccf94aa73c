//! Pins: what the garbage collection must spare because somebody said so.
//!
//! A pin is a record in the store's metadata, by CID. Beside the pins are the blocks that this node keeps for others, as many as there are.

use crate::blockstore::{Blockstore, StoreError};
use cid::Cid;
use serde::{Deserialize, Serialize};

/// The table of pins: a CID's bytes, then a [`Pin`] without its CID.
const PINS: &str = "pins";
/// The table of blocks that are kept for others: a CID's bytes, then nothing.
const KEPT: &str = "kept";
/// The longest name, in bytes.
pub const MAX_NAME_BYTES: usize = 255;
/// Pins that are read in one step.
pub const PAGE: usize = 1024;

/// What a pin holds.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Mode {
    /// A block and everything below it.
    Recursive,
    /// A block alone.
    Direct,
}

/// One pin; a CID has at most one.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Pin {
    /// What is pinned.
    pub cid: Cid,
    /// With what is below it, or without.
    pub mode: Mode,
    /// Whether some of what is below it lies elsewhere: then what is here of it is spared. Otherwise what is missing stops a collection, as
    /// what lies below the missing is not known.
    pub partial: bool,
    /// The user's own words; may be empty.
    pub name: String,
}

/// The record on disk, DAG-CBOR: `{"timerose/pin@1": {…}}`.
#[derive(Serialize, Deserialize)]
struct Tagged {
    #[serde(rename = "timerose/pin@1")]
    pin: Body,
}

#[derive(Serialize, Deserialize)]
struct Body {
    mode: Mode,
    name: String,
    partial: bool,
}

impl Pin {
    /// A recursive pin of what is all here, without a name.
    pub fn recursive(cid: Cid) -> Pin {
        Pin { cid, mode: Mode::Recursive, partial: false, name: String::new() }
    }

    fn encode(&self) -> Vec<u8> {
        let pin = Body { mode: self.mode, name: self.name.clone(), partial: self.partial };
        // Writing to memory does not fail, and there is nothing in it that DAG-CBOR does not know.
        serde_ipld_dagcbor::to_vec(&Tagged { pin }).unwrap_or_default()
    }

    /// A record that cannot be read counts as a recursive pin: it spares what it names.
    fn decode(key: &[u8], record: &[u8]) -> Option<Pin> {
        let cid = Cid::try_from(key).ok()?;
        match serde_ipld_dagcbor::from_slice::<Tagged>(record) {
            Ok(Tagged { pin: Body { mode, name, partial } }) => Some(Pin { cid, mode, partial, name }),
            Err(_) => Some(Pin { partial: true, ..Pin::recursive(cid) }),
        }
    }
}

/// Writes a pin, in the place of one that the CID may have; durable when it returns.
pub fn put(store: &Blockstore, pin: &Pin) -> Result<(), StoreError> {
    store.meta_put(PINS, &[(pin.cid.to_bytes(), pin.encode())])
}

/// Removes the pin of a CID and gives it; durable when it returns.
pub fn remove(store: &Blockstore, cid: &Cid) -> Result<Option<Pin>, StoreError> {
    let found = get(store, cid)?;
    if found.is_some() {
        store.meta_delete(PINS, &[cid.to_bytes()])?;
    }
    Ok(found)
}

/// The pin of a CID.
pub fn get(store: &Blockstore, cid: &Cid) -> Result<Option<Pin>, StoreError> {
    let key = cid.to_bytes();
    Ok(store.meta_get(PINS, &key)?.and_then(|record| Pin::decode(&key, &record)))
}

/// Up to [`PAGE`] pins after that of a CID, in the order of their CIDs' bytes.
pub fn page(store: &Blockstore, after: Option<&Cid>) -> Result<Vec<Pin>, StoreError> {
    let after = after.map(Cid::to_bytes).unwrap_or_default();
    let found = store.meta_after(PINS, &after, PAGE)?;
    Ok(found.iter().filter_map(|(key, record)| Pin::decode(key, record)).collect())
}

/// Notes that blocks are kept for others; durable when it returns.
pub fn keep(store: &Blockstore, cids: &[Cid]) -> Result<(), StoreError> {
    store.meta_put(KEPT, &cids.iter().map(|cid| (cid.to_bytes(), Vec::new())).collect::<Vec<_>>())
}

/// Visits the blocks that are kept for others.
pub(crate) fn each_kept(store: &Blockstore, visit: &mut dyn FnMut(Cid) -> Result<(), StoreError>) -> Result<(), StoreError> {
    let mut after = Vec::new();
    loop {
        let page = store.meta_after(KEPT, &after, PAGE)?;
        let Some((last, _)) = page.last() else { return Ok(()) };
        after.clone_from(last);
        for (key, _) in &page {
            if let Ok(cid) = Cid::try_from(key.as_slice()) {
                visit(cid)?;
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::block::{DAG_PB, RAW, cid_v1};

    /// A committed record, which must be read for ever.
    const GOLDEN: &[u8] = b"\xa1ntimerose/pin@1\xa3dmodefdirectdnamedminegpartial\xf4";

    #[test]
    fn the_committed_record_is_read_and_written() {
        let cid = cid_v1(RAW, b"x");
        let pin = Pin { cid, mode: Mode::Direct, partial: false, name: "mine".into() };
        assert_eq!(pin.encode(), GOLDEN);
        assert_eq!(Pin::decode(&cid.to_bytes(), GOLDEN), Some(pin));
        // What cannot be read spares what it names.
        assert_eq!(Pin::decode(&cid.to_bytes(), b"?").map(|pin| pin.mode), Some(Mode::Recursive));
    }

    #[test]
    fn pins_are_listed_page_by_page_and_outlive_the_store() {
        let dir = tempfile::tempdir().unwrap();
        let cids: Vec<Cid> = (0..PAGE as u32 + 10).map(|n| cid_v1(DAG_PB, &n.to_le_bytes())).collect();
        {
            let store = Blockstore::open(dir.path()).unwrap();
            let records = cids.iter().map(|cid| (cid.to_bytes(), Pin::recursive(*cid).encode()));
            store.meta_put(PINS, &records.collect::<Vec<_>>()).unwrap();
            put(&store, &Pin { name: "named".into(), ..Pin::recursive(cids[3]) }).unwrap();
            assert!(remove(&store, &cids[4]).unwrap().is_some());
            assert!(remove(&store, &cids[4]).unwrap().is_none());
        }
        let store = Blockstore::open(dir.path()).unwrap();
        let mut found = page(&store, None).unwrap();
        assert_eq!(found.len(), PAGE);
        found.extend(page(&store, found.last().map(|pin| &pin.cid)).unwrap());
        assert_eq!(found.len(), cids.len() - 1);
        assert_eq!(get(&store, &cids[3]).unwrap().unwrap().name, "named");
        keep(&store, &cids[..5]).unwrap();
        let mut kept = 0;
        each_kept(&store, &mut |_| {
            kept += 1;
            Ok(())
        })
        .unwrap();
        assert_eq!(kept, 5);
    }
}
