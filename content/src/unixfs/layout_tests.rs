//! The trickle layout: the blocks that go-ipfs made, the shape by its definition, what is kept open, and reading of nodes of any kind.

use super::encode::{self, Part};
use super::layout::Tree;
use super::*;
use crate::block::{DAG_PB, PbLink, PbNode, RAW, cid_v1};
use cid::Version;
use prost::Message;
use std::collections::{HashMap, HashSet};
use std::convert::Infallible;

type Made = Vec<(Cid, Bytes)>;

/// A file in the trickle layout, with its blocks in the order in which they were made.
fn import(bytes: &[u8], shape: Shape, meta: Meta) -> (Root, Made) {
    let mut made = Vec::new();
    let mut sink = |block: Block| -> Result<(), Infallible> {
        made.push((*block.cid(), block.into_data()));
        Ok(())
    };
    let mut importer = FileImporter::new(Shape { layout: Layout::Trickle, ..shape }, meta);
    importer.push(bytes, &mut sink).unwrap();
    let root = importer.finish(&mut sink).unwrap();
    (root, made)
}

fn reader(made: &Made) -> impl FnMut(&Cid) -> Result<Bytes, Cid> + use<> {
    let blocks: HashMap<Cid, Bytes> = made.iter().cloned().collect();
    move |cid| blocks.get(cid).cloned().ok_or(*cid)
}

/// Counts up, so that no two chunks of four bytes are the same.
fn chunks(count: u32) -> Vec<u8> {
    (0..count).flat_map(u32::to_be_bytes).collect()
}

#[test]
fn the_blocks_of_go_ipfs_come_out() {
    // What go-ipfs 0.5 made of "foobar\n" by `add --trickle --chunker size-2`, as rust-ipfs publishes it in the tests of its UnixFS.
    let shape = Shape { chunk_bytes: 2, ..Shape::of(Version::V0) };
    let (root, made) = import(b"foobar\n", shape, Meta::default());
    assert_eq!(root.cid.to_string(), "QmWfQ48ChJUj4vWKFsUDe4646xCBmXgdmNfhjz9T7crywd");
    let leaves = ["0a0808001202666f1802", "0a08080012026f621802", "0a080800120261721802", "0a07080012010a1801"];
    let hex = |bytes: &Bytes| bytes.iter().map(|byte| format!("{byte:02x}")).collect::<String>();
    assert_eq!(made[..4].iter().map(|(_, block)| hex(block)).collect::<Vec<_>>(), leaves);
    assert_eq!((root.size, root.blocks, made[4].0), (7, 5, root.cid));
    // A file without a byte is the same in every layout.
    let (empty, made) = import(b"", shape, Meta::default());
    assert_eq!((empty.cid.to_string().as_str(), made.len()), ("QmbFMke1KXqnYyBBWxB74N4c5SBnJMVAiMNRcGu6x1AwQH", 1));
}

/// The layout by its definition, top down: leaves, then four trees of each depth below `depth`.
fn defined(leaves: &mut &[Part], depth: usize, top: Meta, shape: Shape, made: &mut Made) -> Part {
    let now = leaves.len().min(LINKS_PER_NODE);
    let (first, later) = leaves.split_at(now);
    let mut parts = first.to_vec();
    *leaves = later;
    for depth in (1..depth).flat_map(|depth| [depth; 4]) {
        if leaves.is_empty() {
            break;
        }
        parts.push(defined(leaves, depth, Meta::default(), shape, made));
    }
    let block = Bytes::from(encode::branch(&parts, top));
    let cid = block::cid_pb(shape.version, &block);
    let size = parts.iter().map(|part| part.size).sum();
    let dag_size = parts.iter().map(|part| part.dag_size).sum::<u64>() + block.len() as u64;
    made.push((cid, block));
    Part { cid, size, dag_size }
}

#[test]
fn every_shape_of_tree_is_that_of_the_definition() {
    let noted = Meta { mode: Some(0o640), mtime: Some((-5, 7)) };
    // A root with trees up to a depth of n holds 174 · 5^n leaves.
    let full = [174, 174 * 5, 174 * 25, 174 * 125];
    let counts = [0, 1, 2, 173, 174 * 2, 174 * 6].into_iter().chain(full.into_iter().flat_map(|count| [count, count + 1]));
    for (count, version, raw_leaves, meta) in counts.flat_map(|count| {
        [(Version::V1, true, Meta::default()), (Version::V0, false, Meta::default()), (Version::V1, true, noted)]
            .map(|(version, raw, meta)| (count, version, raw, meta))
    }) {
        let shape = Shape { version, raw_leaves, chunk_bytes: 4, layout: Layout::Trickle };
        let bytes = chunks(count);
        let (root, made) = import(&bytes, shape, meta);
        // As in Kubo: where something is recorded, no leaf is raw, though the root could say it of raw ones.
        let raw_leaves = raw_leaves && meta == Meta::default();
        let leaves: Vec<Part> = bytes
            .chunks(4)
            .map(|chunk| {
                let block = if raw_leaves { chunk.to_vec() } else { encode::leaf(encode::RAW, chunk, Meta::default()) };
                let cid = if raw_leaves { cid_v1(RAW, &block) } else { block::cid_pb(version, &block) };
                Part { cid, size: chunk.len() as u64, dag_size: block.len() as u64 }
            })
            .collect();
        let mut nodes = Vec::new();
        let top = defined(&mut leaves.as_slice(), usize::MAX, meta, shape, &mut nodes);
        let what = format!("{count} chunks, {version:?}, raw leaves {raw_leaves}, {meta:?}");
        assert_eq!((root.cid, root.size, root.dag_size), (top.cid, top.size, top.dag_size), "{what}");
        let known: HashSet<Cid> = leaves.iter().map(|leaf| leaf.cid).collect();
        let (made_leaves, made_nodes): (Made, Made) = made.into_iter().partition(|(cid, _)| known.contains(cid));
        assert!(made_leaves.iter().map(|(cid, _)| cid).eq(leaves.iter().map(|leaf| &leaf.cid)), "{what}");
        assert!(made_nodes == nodes, "{what}");
    }
}

#[test]
fn what_is_open_stays_small_however_long_a_file_grows() {
    let part = |size| Part { cid: Cid::default(), size, dag_size: size };
    for layout in [Layout::Balanced, Layout::Trickle] {
        let mut tree = Tree::new(layout);
        let (mut most, mut left) = (0, 0);
        for _ in 0..174 * 5 * 5 * 5 * 5 * 5 {
            tree.add::<Infallible>(part(1), &mut |parts, _| Ok(part(parts.iter().map(|part| part.size).sum()))).unwrap();
            most = most.max(tree.open_parts());
        }
        tree.finish::<Infallible>(Meta::default(), &mut |parts, _| {
            left = parts.iter().map(|part| part.size).sum();
            Ok(part(left))
        })
        .unwrap();
        assert_eq!(left, 174 * 3125, "the root holds all of {layout:?}");
        assert!(most <= 7 * (LINKS_PER_NODE + 4 * 7), "{most} parts were open in {layout:?}");
    }
}

#[test]
fn trickle_files_are_read_whole_and_in_parts() {
    for raw_leaves in [true, false] {
        let bytes = chunks(174 * 25 + 9);
        let shape = Shape { chunk_bytes: 4, raw_leaves, ..Shape::default() };
        let (root, made) = import(&bytes, shape, Meta::default());
        let mut get = reader(&made);
        let mut out = Vec::new();
        export(&root.cid, &mut out, &mut get).unwrap();
        assert!(out == bytes);
        let mut file = FileReader::open(&root.cid, &mut get).unwrap();
        let mut rng = fastrand::Rng::with_seed(3);
        let mut offsets: Vec<usize> = (0..300).map(|_| rng.usize(..=bytes.len())).collect();
        // Where leaves end and trees begin, of each depth.
        offsets
            .extend([174, 174 * 2, 174 * 5, 174 * 6, 174 * 10, 174 * 25].into_iter().flat_map(|leaf| [leaf * 4 - 1, leaf * 4]));
        for offset in offsets {
            let mut buffer = vec![0; rng.usize(..5000)];
            let read = file.read_range(offset as u64, &mut buffer, &mut get).unwrap();
            assert!(buffer[..read] == bytes[offset..bytes.len().min(offset + buffer.len())], "{read} bytes at {offset}");
        }
    }
}

/// A node of a file with bytes of its own, and parts below it, each with its size.
fn mixed(own: &[u8], parts: &[(Cid, u64)], made: &mut Made) -> (Cid, u64) {
    let size = own.len() as u64 + parts.iter().map(|(_, size)| size).sum::<u64>();
    let mut data = vec![0x08, 2, 0x12, own.len() as u8];
    data.extend_from_slice(own);
    data.extend([0x18, size as u8]);
    parts.iter().for_each(|(_, size)| data.extend([0x20, *size as u8]));
    let link = |(cid, size): &(Cid, u64)| PbLink { hash: cid.to_bytes().into(), name: "".into(), size: *size };
    let block = Bytes::from(PbNode { links: parts.iter().map(link).collect(), data: Some(data.into()) }.encode_to_vec());
    let cid = cid_v1(DAG_PB, &block);
    made.push((cid, block));
    (cid, size)
}

#[test]
fn a_node_with_bytes_of_its_own_gives_them_before_what_is_below_it() {
    let mut made = Made::new();
    let mut leaf = |bytes: &'static [u8]| {
        made.push((cid_v1(RAW, bytes), Bytes::from_static(bytes)));
        (cid_v1(RAW, bytes), bytes.len() as u64)
    };
    let (fox, dog, none) = (leaf(b"fox "), leaf(b"dog"), leaf(b""));
    let below = mixed(b"over the ", &[none, dog], &mut made);
    let middle = mixed(b"", &[fox, none], &mut made);
    let (root, size) = mixed(b"the quick ", &[middle, none, below], &mut made);
    let whole = b"the quick fox over the dog";
    let mut get = reader(&made);
    let mut out = Vec::new();
    export(&root, &mut out, &mut get).unwrap();
    assert_eq!((out.as_slice(), size), (&whole[..], whole.len() as u64));
    for start in 0..=whole.len() {
        for end in start..=whole.len() {
            let mut buffer = vec![0; end - start];
            let mut file = FileReader::open(&root, &mut get).unwrap();
            assert_eq!(file.read_range(start as u64, &mut buffer, &mut get), Ok(end - start));
            assert_eq!(buffer, whole[start..end], "{start}..{end}");
        }
    }
    // One that counts its own bytes among those below it, or does not count them at all, is refused.
    for lie in [4, 5] {
        let mut made = made.clone();
        let (cid, _) = mixed(b"x", &[(fox.0, lie)], &mut made);
        let read = export(&cid, &mut Vec::new(), &mut reader(&made));
        assert_eq!(read.is_ok(), lie == 4, "{read:?}");
    }
}
