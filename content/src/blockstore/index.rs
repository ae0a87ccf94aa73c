//! The index: one redb file with small blocks, the list of large ones, the counters, and other crates' metadata.

use super::bad::Bad;
use super::error::StoreError;
use super::redb_file::RedbFile;
use crate::block::{Block, Multihash};
use bytes::Bytes;
use redb::{Database, ReadableDatabase, ReadableTable, TableDefinition, TableError};
use std::path::Path;

/// Blocks of at most this many bytes live in the index, larger ones in files.
pub const MAX_SMALL_BYTES: usize = 16 << 10;
/// Memory that redb may use for its pages, in bytes.
const CACHE_BYTES: usize = 12 << 20;

const BLOCKS: TableDefinition<&[u8], &[u8]> = TableDefinition::new("blocks");
const COUNTERS: TableDefinition<&str, u64> = TableDefinition::new("counters");

/// First byte of a record in `blocks`: the block follows.
const SMALL: u8 = 0;
/// First byte of a record in `blocks`: the size of a file follows, 8 bytes little endian.
const LARGE: u8 = 1;

/// Keys and values of a metadata table.
pub(super) type Pairs = Vec<(Vec<u8>, Vec<u8>)>;

/// Where a block is.
pub(super) enum Place {
    /// Here.
    Small(Bytes),
    /// In a file of this many bytes.
    Large(u64),
}

impl Place {
    pub fn size(&self) -> u64 {
        match self {
            Place::Small(data) => data.len() as u64,
            Place::Large(size) => *size,
        }
    }
}

/// What one commit changes.
#[derive(Default)]
pub(super) struct Change<'a> {
    pub add: Vec<&'a Block>,
    pub remove: Vec<Multihash>,
    pub meta: Vec<(&'static str, &'a [u8], Option<&'a [u8]>)>,
}

/// How much the store holds.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct StoreStat {
    /// Number of blocks.
    pub blocks: u64,
    /// Bytes in them, without overhead.
    pub bytes: u64,
}

pub(super) struct Index(RedbFile);

impl Index {
    /// Opens or makes the index. redb holds a lock on the file, so that one process at a time has the store.
    pub fn open(dir: &Path) -> Result<Index, StoreError> {
        let file = RedbFile::open(dir.join("index.redb"), CACHE_BYTES)?;
        // Tables that are there need no write, which a full disk could refuse.
        let missing = file.with(|database| {
            let read = database.begin_read()?;
            match read.open_table(BLOCKS).and(read.open_table(COUNTERS).map(drop)) {
                Ok(()) => Ok(false),
                Err(TableError::TableDoesNotExist(_)) => Ok(true),
                Err(e) => Err(e.into()),
            }
        })?;
        if missing {
            file.with(|database| {
                let write = database.begin_write()?;
                write.open_table(BLOCKS)?;
                write.open_table(COUNTERS)?;
                Ok(write.commit()?)
            })?;
        }
        Ok(Index(file))
    }

    pub fn path(&self) -> &Path {
        self.0.path()
    }

    pub fn place(&self, hash: &Multihash) -> Result<Option<Place>, StoreError> {
        self.0.with(|database| {
            let table = database.begin_read()?.open_table(BLOCKS)?;
            Ok(table.get(hash.to_bytes().as_slice())?.and_then(|record| decode(record.value())))
        })
    }

    /// Which of the blocks are not here or known to be corrupt, each once.
    pub fn absent<'a>(&self, blocks: &[&'a Block], bad: &Bad) -> Result<Vec<&'a Block>, StoreError> {
        self.0.with(|database| {
            let table = database.begin_read()?.open_table(BLOCKS)?;
            let mut seen = std::collections::HashSet::new();
            let mut absent = Vec::new();
            for block in blocks {
                let hash = block.cid().hash();
                let key = hash.to_bytes();
                let listed = |record: redb::AccessGuard<'_, &[u8]>| decode(record.value()).is_some();
                if seen.insert(*hash) && (bad.has(hash) || !table.get(key.as_slice())?.is_some_and(listed)) {
                    absent.push(*block);
                }
            }
            Ok(absent)
        })
    }

    /// Makes a change durable as a whole. Returns the large blocks that were removed, whose files may now go, and how much is held from now on.
    pub fn commit(&self, change: &Change<'_>) -> Result<(Vec<Multihash>, StoreStat), StoreError> {
        self.0.with(|database| commit(database, change))
    }

    pub fn stat(&self) -> Result<StoreStat, StoreError> {
        self.0.with(|database| read_stat(&database.begin_read()?.open_table(COUNTERS)?))
    }

    /// Up to `limit` multihashes after `after`, in the order of their bytes.
    pub fn page(&self, after: Option<&Multihash>, limit: usize) -> Result<Vec<Multihash>, StoreError> {
        use std::ops::Bound::{self, Excluded, Unbounded};
        self.0.with(|database| {
            let table = database.begin_read()?.open_table(BLOCKS)?;
            let after = after.map(|hash| hash.to_bytes());
            let start: Bound<&[u8]> = after.as_deref().map_or(Unbounded, Excluded);
            let mut page = Vec::new();
            for record in table.range::<&[u8]>((start, Unbounded))?.take(limit) {
                page.extend(Multihash::from_bytes(record?.0.value()).ok());
            }
            Ok(page)
        })
    }

    pub fn meta_get(&self, table: &str, key: &[u8]) -> Result<Option<Vec<u8>>, StoreError> {
        self.0.with(|database| {
            let name = meta_name(table);
            let definition = TableDefinition::<&[u8], &[u8]>::new(&name);
            match database.begin_read()?.open_table(definition) {
                Ok(table) => Ok(table.get(key)?.map(|value| value.value().to_vec())),
                Err(TableError::TableDoesNotExist(_)) => Ok(None),
                Err(e) => Err(e.into()),
            }
        })
    }

    pub fn meta_scan(&self, table: &str, prefix: &[u8], limit: usize) -> Result<Pairs, StoreError> {
        self.meta_range(table, std::ops::Bound::Included(prefix), prefix, limit)
    }

    pub fn meta_after(&self, table: &str, after: &[u8], limit: usize) -> Result<Pairs, StoreError> {
        self.meta_range(table, std::ops::Bound::Excluded(after), b"", limit)
    }

    fn meta_range(&self, table: &str, from: std::ops::Bound<&[u8]>, prefix: &[u8], limit: usize) -> Result<Pairs, StoreError> {
        self.0.with(|database| {
            let name = meta_name(table);
            let definition = TableDefinition::<&[u8], &[u8]>::new(&name);
            let table = match database.begin_read()?.open_table(definition) {
                Ok(table) => table,
                Err(TableError::TableDoesNotExist(_)) => return Ok(Vec::new()),
                Err(e) => return Err(e.into()),
            };
            let mut found = Vec::new();
            for record in table.range::<&[u8]>((from, std::ops::Bound::Unbounded))?.take(limit) {
                let (key, value) = record?;
                if !key.value().starts_with(prefix) {
                    break;
                }
                found.push((key.value().to_vec(), value.value().to_vec()));
            }
            Ok(found)
        })
    }
}

fn commit(database: &Database, change: &Change<'_>) -> Result<(Vec<Multihash>, StoreStat), redb::Error> {
    let write = database.begin_write()?;
    let mut files = Vec::new();
    let mut stat;
    {
        let mut blocks = write.open_table(BLOCKS)?;
        let mut counters = write.open_table(COUNTERS)?;
        stat = read_stat(&counters)?;
        for block in &change.add {
            let before = blocks.insert(block.cid().hash().to_bytes().as_slice(), encode(block).as_slice())?;
            // One that is there already was corrupt, and is replaced.
            let before = before.and_then(|record| decode(record.value()));
            stat.blocks += u64::from(before.is_none());
            stat.bytes = (stat.bytes + block.size() as u64).saturating_sub(before.map_or(0, |place| place.size()));
        }
        for hash in &change.remove {
            let Some(record) = blocks.remove(hash.to_bytes().as_slice())? else { continue };
            let Some(place) = decode(record.value()) else { continue };
            stat.blocks = stat.blocks.saturating_sub(1);
            stat.bytes = stat.bytes.saturating_sub(place.size());
            if matches!(place, Place::Large(_)) {
                files.push(*hash);
            }
        }
        counters.insert("blocks", stat.blocks)?;
        counters.insert("bytes", stat.bytes)?;
        for (table, key, value) in &change.meta {
            let name = meta_name(table);
            let mut meta = write.open_table(TableDefinition::<&[u8], &[u8]>::new(&name))?;
            match value {
                Some(value) => drop(meta.insert(*key, *value)?),
                None => drop(meta.remove(*key)?),
            };
        }
    }
    write.commit()?;
    Ok((files, stat))
}

/// Other crates' tables cannot collide with ours.
fn meta_name(table: &str) -> String {
    format!("meta/{table}")
}

fn read_stat(counters: &impl ReadableTable<&'static str, u64>) -> Result<StoreStat, redb::Error> {
    let get = |name| -> Result<u64, redb::Error> { Ok(counters.get(name)?.map_or(0, |value| value.value())) };
    Ok(StoreStat { blocks: get("blocks")?, bytes: get("bytes")? })
}

fn encode(block: &Block) -> Vec<u8> {
    if block.size() <= MAX_SMALL_BYTES {
        let mut record = Vec::with_capacity(1 + block.size());
        record.push(SMALL);
        record.extend_from_slice(block.data());
        return record;
    }
    let mut record = vec![LARGE];
    record.extend_from_slice(&(block.size() as u64).to_le_bytes());
    record
}

/// A record that makes no sense counts as no record: the block is then fetched again.
fn decode(record: &[u8]) -> Option<Place> {
    match record.split_first()? {
        (&SMALL, data) => Some(Place::Small(Bytes::copy_from_slice(data))),
        (&LARGE, size) => Some(Place::Large(u64::from_le_bytes(size.try_into().ok()?))),
        _ => None,
    }
}
