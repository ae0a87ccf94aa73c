//! Whether the store is what it says: every block is read and hashed, and every file is looked for in the index.

use super::{Blockstore, StoreError, Work};
use crate::block::{Block, Multihash, RAW};
use cid::Cid;
use std::path::{Path, PathBuf};

/// Findings that a report lists. Further ones are only counted.
pub const MAX_FINDINGS: usize = 10_000;

/// What is wrong with a block or a file.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Fault {
    /// The bytes are not the block's: a flipped bit, a file that was cut short.
    Corrupt,
    /// The index lists the block, and its file is gone.
    Missing,
    /// A whole block's file that the index does not list: left by a crash, or the index was lost.
    Unlisted,
    /// A file in the folder of blocks that is no block, or not the one that its name says.
    Foreign,
}

/// One thing that is wrong.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Finding {
    /// What.
    pub fault: Fault,
    /// The block, as a raw CIDv1; none for a file whose name is no CID.
    pub cid: Option<Cid>,
    /// The file that it is about: the index's own for a small block.
    pub path: PathBuf,
    /// Whether it was put right.
    pub repaired: bool,
}

/// What a check found.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Report {
    /// Blocks that the index lists.
    pub blocks: u64,
    /// Bytes in those that are right.
    pub bytes: u64,
    /// What is wrong, at most [`MAX_FINDINGS`].
    pub findings: Vec<Finding>,
    /// How many findings there are.
    pub found: u64,
    /// How many of them mean that something is wrong and still is: all but unlisted blocks, which a crash may leave, and what was put right.
    pub wrong: u64,
}

impl Blockstore {
    /// Reads and hashes every block, and looks for every file in the index. Blocks that come and go meanwhile are no findings.
    ///
    /// `repair`: corrupt and missing blocks are taken off the index, so that they are fetched again; unlisted ones are taken in; files that are
    /// no blocks are left alone, as nobody knows whose they are. `progress` is told the blocks checked so far and says whether to go on.
    pub fn verify(&self, repair: bool, progress: &mut dyn FnMut(u64) -> bool) -> Result<Report, StoreError> {
        let mut report = Report::default();
        for hash in self.iter() {
            self.check_block(&hash?, repair, &mut report)?;
            report.blocks += 1;
            if !progress(report.blocks) {
                return Ok(report);
            }
        }
        for shard in 0..=u8::MAX {
            self.check_files(shard, repair, &mut report)?;
            if !progress(report.blocks) {
                return Ok(report);
            }
        }
        Ok(report)
    }

    fn check_block(&self, hash: &Multihash, repair: bool, report: &mut Report) -> Result<(), StoreError> {
        let cid = Cid::new_v1(RAW, *hash);
        match self.get(&cid) {
            Ok(data) => report.bytes += data.map_or(0, |data| data.len() as u64),
            Err(StoreError::Corrupt { path, .. }) => {
                let fault = if path.exists() { Fault::Corrupt } else { Fault::Missing };
                if repair {
                    self.delete_many(&[cid])?;
                }
                report.add(Finding { fault, cid: Some(cid), path, repaired: repair });
            }
            Err(other) => return Err(other),
        }
        Ok(())
    }

    fn check_files(&self, shard: u8, repair: bool, report: &mut Report) -> Result<(), StoreError> {
        let disk = &self.0.disk;
        let listed = |hash: &Multihash| disk.index.place(hash).map(|place| place.is_some());
        let mut suspects = Vec::new();
        for path in disk.flat.files(shard) {
            let cid = named(&path).filter(|cid| disk.flat.path(cid.hash()) == path);
            if !cid.is_some_and(|cid| listed(cid.hash()).unwrap_or(false)) {
                suspects.push((path, cid));
            }
        }
        if suspects.is_empty() {
            return Ok(());
        }
        // A block's file is there before the index lists it: what was being put is listed when the writer has come this far.
        self.0.writer.begin(Work::Delete(Vec::new()))?.wait()?;
        for (path, cid) in suspects {
            let Some(cid) = cid else {
                report.add(Finding { fault: Fault::Foreign, cid: None, path, repaired: false });
                continue;
            };
            if listed(cid.hash())? {
                continue;
            }
            let Some(data) = disk.flat.read(cid.hash())? else { continue };
            let (fault, repaired) = match Block::new(cid, data) {
                Ok(block) if repair => {
                    self.put_many(&[block])?;
                    (Fault::Unlisted, true)
                }
                Ok(_) => (Fault::Unlisted, false),
                Err(_) => (Fault::Foreign, false),
            };
            report.add(Finding { fault, cid: Some(cid), path, repaired });
        }
        Ok(())
    }
}

/// The block that a file's name says it is.
fn named(path: &Path) -> Option<Cid> {
    path.file_name()?.to_str()?.parse().ok()
}

impl Report {
    fn add(&mut self, finding: Finding) {
        self.found += 1;
        self.wrong += u64::from(!finding.repaired && finding.fault != Fault::Unlisted);
        if self.findings.len() < MAX_FINDINGS {
            self.findings.push(finding);
        }
    }
}
