//! CAR: content-addressed archives, versions 1 and 2 (<https://ipld.io/specs/transport/car/>), as streams.
//!
//! Reading checks every block against its CID and bounds every length before it allocates. The index of version 2 is read past, never trusted.
//! Writing is depth first; version 2 puts an index behind the archive of version 1.

mod index;

pub use index::version_2;

use crate::block::{self, Block, BlockError, MAX_BLOCK_BYTES};
use crate::exchange::MAX_FETCH_BLOCKS;
use crate::unixfs::{Error, Get, Problem};
use bytes::Bytes;
use cid::Cid;
use ipld_core::ipld::Ipld;
use std::collections::{BTreeMap, HashMap, HashSet};
use std::io::{self, Read};

/// The longest header, in bytes.
pub const MAX_HEADER_BYTES: u64 = 64 << 10;
/// Roots, at most.
pub const MAX_ROOTS: usize = 1024;
/// The longest CID, in bytes: version, codec, and a multihash of 64 bytes.
const MAX_CID_BYTES: u64 = 96;
/// Bytes between the header of version 2 and what it holds, at most.
const MAX_PADDING: u64 = 1 << 20;
/// The header of version 2, which follows a line that looks like a header of version 1.
const V2_HEADER_BYTES: usize = 40;
const V2_PRAGMA_BYTES: u64 = 11;

/// Why a stream is no CAR, or no good one.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum CarError {
    /// It could not be read to its end.
    #[error("the archive breaks off: {0}")]
    Read(String),
    /// It is not as the format says.
    #[error("this is no CAR: {0}")]
    Malformed(String),
    /// A block is not what its CID says.
    #[error(transparent)]
    Block(#[from] BlockError),
}

fn malformed(why: impl Into<String>) -> CarError {
    CarError::Malformed(why.into())
}

impl From<io::Error> for CarError {
    fn from(error: io::Error) -> CarError {
        match error.kind() {
            io::ErrorKind::UnexpectedEof => CarError::Read("it ends in the midst of something".into()),
            _ => CarError::Read(error.to_string()),
        }
    }
}

/// Reads a CAR from a stream; memory holds one block.
pub struct CarReader<R> {
    source: R,
    roots: Vec<Cid>,
    /// Bytes of version 1 that are left within version 2.
    left: Option<u64>,
}

impl<R: Read> CarReader<R> {
    /// Reads the header.
    pub fn open(source: R) -> Result<CarReader<R>, CarError> {
        let mut reader = CarReader { source, roots: Vec::new(), left: None };
        let (version, roots) = reader.header()?;
        reader.roots = match version {
            1 => roots,
            2 => reader.version_2()?,
            other => return Err(malformed(format!("version {other} is not known"))),
        };
        Ok(reader)
    }

    /// What the archive is about, as it says. Nothing tells whether the blocks are in it.
    pub fn roots(&self) -> &[Cid] {
        &self.roots
    }

    /// The next block, which hashes to its CID; `None` at the end.
    pub fn next_block(&mut self) -> Result<Option<Block>, CarError> {
        let Some(length) = self.length()? else {
            // What follows version 1 within version 2 is an index.
            if self.left.is_some() {
                io::copy(&mut self.source, &mut io::sink())?;
            }
            return Ok(None);
        };
        if length == 0 || length > MAX_BLOCK_BYTES as u64 + MAX_CID_BYTES {
            return Err(malformed(format!("a section of {length} bytes")));
        }
        let section = Bytes::from(self.take(length)?);
        let mut rest = &section[..];
        let cid = Cid::read_bytes(&mut rest).map_err(|e| malformed(format!("a section does not begin with a CID: {e}")))?;
        let data = section.slice(section.len() - rest.len()..);
        Ok(Some(Block::new(cid, data)?))
    }

    fn header(&mut self) -> Result<(i128, Vec<Cid>), CarError> {
        let length = self.length()?.ok_or_else(|| malformed("it is empty"))?;
        if length == 0 || length > MAX_HEADER_BYTES {
            return Err(malformed(format!("a header of {length} bytes")));
        }
        let header: Ipld =
            serde_ipld_dagcbor::from_slice(&self.take(length)?).map_err(|e| malformed(format!("its header: {e}")))?;
        let Ipld::Map(fields) = header else { return Err(malformed("its header is no map")) };
        let Some(Ipld::Integer(version)) = fields.get("version") else { return Err(malformed("its header tells no version")) };
        let roots = match fields.get("roots") {
            Some(Ipld::List(roots)) => roots.as_slice(),
            None if *version == 2 => &[],
            _ => return Err(malformed("its header tells no roots")),
        };
        if roots.len() > MAX_ROOTS {
            return Err(malformed(format!("more than {MAX_ROOTS} roots")));
        }
        let roots =
            roots.iter().map(|root| if let Ipld::Link(cid) = root { Ok(*cid) } else { Err(malformed("a root is no CID")) });
        Ok((*version, roots.collect::<Result<_, _>>()?))
    }

    fn version_2(&mut self) -> Result<Vec<Cid>, CarError> {
        let header = self.take(V2_HEADER_BYTES as u64)?;
        let number = |at: usize| header[at..].first_chunk::<8>().map_or(0, |bytes| u64::from_le_bytes(*bytes));
        // Characteristics are 16 bytes; the place of the index at the end does not matter.
        let (offset, size) = (number(16), number(24));
        let padding = offset.checked_sub(V2_PRAGMA_BYTES + V2_HEADER_BYTES as u64).filter(|padding| *padding <= MAX_PADDING);
        let padding = padding.ok_or_else(|| malformed(format!("its content begins at byte {offset}")))?;
        if io::copy(&mut self.source.by_ref().take(padding), &mut io::sink())? != padding {
            return Err(io::Error::from(io::ErrorKind::UnexpectedEof).into());
        }
        self.left = Some(size);
        match self.header()? {
            (1, roots) => Ok(roots),
            (other, _) => Err(malformed(format!("version {other} within version 2"))),
        }
    }

    /// The length of the next part; `None` where the archive ends in order.
    fn length(&mut self) -> Result<Option<u64>, CarError> {
        let mut length = 0u64;
        for place in 0..9 {
            if self.left == Some(0) && place == 0 {
                return Ok(None);
            }
            let mut byte = [0];
            let ended = loop {
                match self.source.read(&mut byte) {
                    Err(e) if e.kind() == io::ErrorKind::Interrupted => {}
                    read => break read? == 0,
                }
            };
            match (ended, place, self.left) {
                (true, 0, None) => return Ok(None),
                (true, ..) | (_, _, Some(0)) => return Err(io::Error::from(io::ErrorKind::UnexpectedEof).into()),
                _ => self.left = self.left.map(|left| left - 1),
            }
            length |= u64::from(byte[0] & 0x7f) << (7 * place);
            if byte[0] & 0x80 == 0 {
                let minimal = byte[0] != 0 || place == 0;
                return if minimal { Ok(Some(length)) } else { Err(malformed("a length that is not minimal")) };
            }
        }
        Err(malformed("a length of over 9 bytes"))
    }

    /// Reads exactly so many bytes, of which there are few enough to allocate.
    fn take(&mut self, length: u64) -> Result<Vec<u8>, CarError> {
        if let Some(left) = &mut self.left {
            *left = left.checked_sub(length).ok_or_else(|| CarError::from(io::Error::from(io::ErrorKind::UnexpectedEof)))?;
        }
        let mut bytes = vec![0; length as usize];
        self.source.read_exact(&mut bytes)?;
        Ok(bytes)
    }
}

/// Bytes of an archive.
pub type Out<'a, E> = dyn FnMut(Bytes) -> Result<(), E> + 'a;

/// Writes an archive of version 1.
pub struct CarWriter {
    /// Whether a block is written each time that it is come by, and not the first time alone.
    repeats: bool,
    /// Where the section of each block begins; with repetitions, that of the last.
    written: HashMap<Cid, u64>,
    /// Bytes so far.
    size: u64,
}

impl CarWriter {
    /// Writes the header. With `repeats`, who reads a DAG along with the archive need not remember blocks.
    pub fn begin<E>(roots: &[Cid], repeats: bool, out: &mut Out<'_, E>) -> Result<CarWriter, E> {
        let links = roots.iter().map(|root| Ipld::Link(*root)).collect();
        let fields = [("roots".to_string(), Ipld::List(links)), ("version".to_string(), Ipld::Integer(1))];
        // Writing to memory does not fail.
        let header = serde_ipld_dagcbor::to_vec(&Ipld::Map(BTreeMap::from(fields))).unwrap_or_default();
        let header = prefixed(header.len(), &header);
        let size = header.len() as u64;
        out(header)?;
        Ok(CarWriter { repeats, written: HashMap::new(), size })
    }

    /// Bytes that were written.
    pub fn size(&self) -> u64 {
        self.size
    }

    /// The index for version 2 of what was written. It takes 40 bytes a block.
    pub fn index(&self) -> Bytes {
        index::of(&self.written)
    }

    /// Writes everything below a block, and it first, depth first.
    ///
    /// Fails with [`Problem::TooMany`] beyond the number of blocks that a fetch may bring.
    pub fn below<E>(&mut self, root: &Cid, get: &mut Get<'_, E>, out: &mut Out<'_, E>) -> Result<(), Error<E>> {
        let mut left = vec![*root];
        let mut followed = HashSet::new();
        let mut steps = 0;
        while let Some(cid) = left.pop() {
            if !self.repeats && !followed.insert(cid) {
                continue;
            }
            steps += 1;
            if steps > MAX_FETCH_BLOCKS || left.len() > MAX_FETCH_BLOCKS {
                return Err(Problem::TooMany { what: "blocks in an archive", limit: MAX_FETCH_BLOCKS as u64 }.into());
            }
            let data = self.block(&cid, get, out)?;
            // What has no links that can be read has nothing below it.
            left.extend(block::links(&cid, &data).unwrap_or_default().into_iter().rev());
        }
        Ok(())
    }

    /// Writes one block, and gives it.
    pub fn block<E>(&mut self, cid: &Cid, get: &mut Get<'_, E>, out: &mut Out<'_, E>) -> Result<Bytes, Error<E>> {
        // What a CID carries itself needs no block.
        if let Some(data) = block::inline_data(cid) {
            return Ok(data);
        }
        let data = get(cid).map_err(Error::Source)?;
        let known = self.written.contains_key(cid);
        if self.repeats || !known {
            self.written.insert(*cid, self.size);
            let name = cid.to_bytes();
            let head = prefixed(name.len() + data.len(), &name);
            self.size += (head.len() + data.len()) as u64;
            out(head).map_err(Error::Source)?;
            out(data.clone()).map_err(Error::Source)?;
        }
        Ok(data)
    }
}

fn prefixed(length: usize, first: &[u8]) -> Bytes {
    let mut buffer = unsigned_varint::encode::usize_buffer();
    [unsigned_varint::encode::usize(length, &mut buffer), first].concat().into()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::block::{DAG_CBOR, Multihash, RAW};
    use std::collections::HashMap;
    use std::convert::Infallible;

    fn written(root: &Cid, blocks: &HashMap<Cid, Bytes>, repeats: bool) -> (Vec<u8>, CarWriter) {
        let mut car = Vec::new();
        let mut out = |bytes: Bytes| -> Result<(), Infallible> {
            car.extend_from_slice(&bytes);
            Ok(())
        };
        let mut writer = CarWriter::begin(&[*root], repeats, &mut out).unwrap();
        writer.below(root, &mut |cid| Ok(blocks[cid].clone()), &mut out).unwrap();
        (car, writer)
    }

    fn write(root: &Cid, blocks: &HashMap<Cid, Bytes>) -> Vec<u8> {
        written(root, blocks, false).0
    }

    fn read(car: &[u8]) -> Result<(Vec<Cid>, Vec<Block>), CarError> {
        let mut reader = CarReader::open(car)?;
        let mut blocks = Vec::new();
        while let Some(block) = reader.next_block()? {
            blocks.push(block);
        }
        Ok((reader.roots().to_vec(), blocks))
    }

    /// Two nodes over a shared leaf, with an inline CID that needs no block.
    fn dag() -> (Cid, HashMap<Cid, Bytes>) {
        let leaf = Block::encode(RAW, &b"leaf"[..]).unwrap();
        let inline = Cid::new_v1(RAW, Multihash::wrap(0, b"tiny").unwrap());
        let list =
            |cids: &[Cid]| serde_ipld_dagcbor::to_vec(&cids.iter().map(|cid| Ipld::Link(*cid)).collect::<Vec<_>>()).unwrap();
        let inner = Block::encode(DAG_CBOR, list(&[*leaf.cid(), inline])).unwrap();
        let root = Block::encode(DAG_CBOR, list(&[*inner.cid(), *leaf.cid(), *inner.cid()])).unwrap();
        let cid = *root.cid();
        (cid, [leaf, inner, root].into_iter().map(|block| (*block.cid(), block.into_data())).collect())
    }

    /// The same within version 2, with padding and an index of nonsense.
    fn odd_version_2(v1: &[u8]) -> Vec<u8> {
        let mut car = b"\x0a\xa1gversion\x02".to_vec();
        car.extend([0; 16]);
        let (offset, size) = (51 + 7, v1.len() as u64);
        for number in [offset, size, offset + size] {
            car.extend(u64::to_le_bytes(number));
        }
        car.extend([9; 7]);
        car.extend(v1);
        car.extend(b"what is said to be an index");
        car
    }

    #[test]
    fn what_is_written_is_read_back_once_each_depth_first_in_both_versions() {
        let (root, blocks) = dag();
        let car = write(&root, &blocks);
        let (roots, found) = read(&car).unwrap();
        assert_eq!(roots, [root]);
        assert_eq!(found.len(), 3);
        assert_eq!(found[0].cid(), &root);
        assert_eq!(found[2].data(), &b"leaf"[..]);
        assert_eq!(read(&odd_version_2(&car)).unwrap(), (roots, found));
    }

    #[test]
    fn with_repetitions_a_block_comes_wherever_it_is_linked_to() {
        let (root, blocks) = dag();
        let (car, writer) = written(&root, &blocks, true);
        assert_eq!(writer.size(), car.len() as u64);
        let kinds: Vec<u64> = read(&car).unwrap().1.iter().map(|block| block.cid().codec()).collect();
        // The root; its inner node with the leaf; the leaf; the inner node with the leaf.
        assert_eq!(kinds, [DAG_CBOR, DAG_CBOR, RAW, RAW, DAG_CBOR, RAW]);
    }

    #[test]
    fn the_index_of_version_2_leads_to_every_section() {
        let (root, blocks) = dag();
        let (v1, writer) = written(&root, &blocks, false);
        let car = [&version_2(writer.size())[..], &v1, &writer.index()].concat();
        assert_eq!(read(&car).unwrap(), read(&v1).unwrap());
        let number = |at: usize| u64::from_le_bytes(*car[at..].first_chunk().unwrap()) as usize;
        let (begin, size, index) = (number(27), number(35), number(43));
        assert_eq!((begin, size, index), (51, v1.len(), 51 + v1.len()));
        // The codec, one hash function, sha2-256, one length of entries, which is 40, and the bytes of all.
        assert_eq!(car[index..index + 6], *b"\x81\x08\x01\0\0\0");
        assert_eq!(car[index + 6..index + 22], *b"\x12\0\0\0\0\0\0\0\x01\0\0\0\x28\0\0\0");
        assert_eq!((number(index + 22), car.len() - index - 30), (3 * 40, 3 * 40));
        let entries: Vec<&[u8]> = car[index + 30..].chunks(40).collect();
        assert!(entries.is_sorted());
        for entry in entries {
            let section = begin + u64::from_le_bytes(*entry[32..].first_chunk().unwrap()) as usize;
            let length = car[section..].iter().position(|byte| byte & 0x80 == 0).unwrap() + 1;
            let cid = Cid::read_bytes(&car[section + length..]).unwrap();
            assert_eq!(cid.hash().digest(), &entry[..32]);
        }
    }

    #[test]
    fn the_header_of_the_specification_comes_out() {
        let root: Cid = "bafkreihdwdcefgh4dqkjv67uzcmw7ojee6xedzdetojuzjevtenxquvyku".parse().unwrap();
        let mut car = Vec::new();
        CarWriter::begin(&[root], false, &mut |bytes| {
            car.extend_from_slice(&bytes);
            Ok::<_, Infallible>(())
        })
        .unwrap();
        assert_eq!(car[..10], *b"\x3a\xa2eroots\x81\xd8");
        assert_eq!(car[car.len() - 9..], *b"gversion\x01");
    }

    #[test]
    fn archives_that_lie_or_break_off_are_refused() {
        let (root, blocks) = dag();
        let car = write(&root, &blocks);
        let v2 = odd_version_2(&car);
        let section = car.len() - 41;
        let mut wrong = car.clone();
        *wrong.last_mut().unwrap() ^= 1;
        assert!(matches!(read(&wrong), Err(CarError::Block(BlockError::Mismatch { .. }))));
        for cut in [1, 20, section + 1, section + 30, car.len() - 1] {
            assert!(matches!(read(&car[..cut]), Err(CarError::Read(_))), "cut at {cut}");
        }
        assert!(matches!(read(&v2[..v2.len() - 40]), Err(CarError::Read(_))));
        for bad in [
            &b""[..],
            b"\x00",
            b"\xff\xff\xff\xff\xff\xff\xff\xff\xff\xff",
            b"\x81\x80\x04",
            b"\x81\x00",
            b"\x01\x80",
            b"\x0a\xa1gversion\x03",
            b"\x0a\xa1gversion\x01",
            b"\x11\xa2eroots\x80gversion\x01\x80\x80\x80\x02",
            b"\x11\xa2eroots\x80gversion\x01\x00",
        ] {
            assert!(matches!(read(bad), Err(CarError::Malformed(_))), "{bad:?}: {:?}", read(bad));
        }
        let mut far = v2.clone();
        far[27..35].copy_from_slice(&u64::MAX.to_le_bytes());
        assert!(matches!(read(&far), Err(CarError::Malformed(_))));
        let mut long = v2;
        long[35..43].copy_from_slice(&u64::MAX.to_le_bytes());
        assert!(read(&long).is_err(), "the index is no section");
    }
}
