//! The published CIDs, round trips around every boundary, and data that lies about itself.

use super::node::Node;
use super::*;
use crate::block::{DAG_PB, PbLink, PbNode, RAW, cid_v1};
use prost::Message;
use std::collections::HashMap;
use std::convert::Infallible;

type Blocks = HashMap<Cid, Bytes>;

/// A source of blocks that says which one is missing.
fn source(blocks: &Blocks) -> impl FnMut(&Cid) -> Result<Bytes, Cid> + '_ {
    |cid| blocks.get(cid).cloned().ok_or(*cid)
}

fn add(bytes: &[u8], step: usize, blocks: &mut Blocks) -> Root {
    let mut sink = |block: Block| -> Result<(), Infallible> {
        assert!(block::verify(block.cid(), block.data()).unwrap());
        blocks.insert(*block.cid(), block.into_data());
        Ok(())
    };
    let mut importer = FileImporter::default();
    for part in bytes.chunks(step.max(1)) {
        importer.push(part, &mut sink).unwrap();
    }
    importer.finish(&mut sink).unwrap()
}

fn read_all(cid: &Cid, blocks: &Blocks) -> Vec<u8> {
    let mut out = Vec::new();
    export(cid, &mut out, &mut source(blocks)).unwrap();
    out
}

/// Different in every chunk, so that no two leaves are the same block.
fn content(size: usize) -> Vec<u8> {
    let mut bytes = vec![0; size];
    fastrand::Rng::with_seed(size as u64).fill(&mut bytes);
    bytes
}

#[test]
fn the_published_cids_come_out() {
    let root = add(b"", 1, &mut Blocks::new());
    assert_eq!(root.cid.to_string(), "bafkreihdwdcefgh4dqkjv67uzcmw7ojee6xedzdetojuzjevtenxquvyku");
    let root = add(b"hello world", 4, &mut Blocks::new());
    assert_eq!(root.cid.to_string(), "bafkreifzjut3te2nhyekklss27nh3k72ysco7y32koao5eei66wof36n5e");
    let root = DirBuilder::default().build::<Infallible>(&mut |_| Ok(())).unwrap();
    assert_eq!(root.cid.to_string(), "bafybeiczsscdsbs7ffqz55asqdf3smv6klcw3gofszvwlyarci47bgf354");
}

#[test]
fn files_read_back_around_every_boundary_of_chunks() {
    const C: usize = CHUNK_BYTES;
    for size in [0, 1, 100, C - 1, C, C + 1, 2 * C - 1, 2 * C, 2 * C + 1, 5 * C + 17] {
        let bytes = content(size);
        let mut blocks = Blocks::new();
        let root = add(&bytes, C, &mut blocks);
        for step in [1 << 20, 70_001, C + 1] {
            assert_eq!(add(&bytes, step, &mut Blocks::new()), root, "however it is pushed: {size} by {step}");
        }
        assert_eq!(read_all(&root.cid, &blocks), bytes);
        assert_eq!((root.size, root.blocks), (size as u64, blocks.len() as u64));
        assert_eq!(root.dag_size, blocks.values().map(|b| b.len() as u64).sum::<u64>());
        assert_eq!(root.cid.codec(), if size <= C { RAW } else { DAG_PB });
    }
}

#[test]
fn every_shape_of_tree_is_that_of_the_reference_importer() {
    use cid::Version::{V0, V1};
    use rust_unixfs::Metadata;
    use rust_unixfs::file::adder::{Chunker, FileAdder};
    // Zeros: all leaves are one block, and the importers can go through many levels' worth of them.
    let zeros = vec![0; 1000];
    let plain = Meta::default();
    let noted = Meta { mode: Some(0o640), mtime: Some((-5, 7)) };
    let ways =
        [(V1, true, plain), (V1, false, plain), (V0, false, plain), (V0, true, plain), (V1, false, noted), (V0, false, noted)];
    for (leaves, (version, raw_leaves, meta)) in [0, 1, 2, 173, 174, 175, 348, 349, 174 * 3 + 1, 174 * 174, 174 * 174 + 1]
        .into_iter()
        .flat_map(|n| ways.map(|way| (n, way)))
    {
        for last in [0, 1] {
            let (mut ours, mut theirs) = (Vec::new(), Vec::new());
            let mut sink = |block: Block| -> Result<(), Infallible> {
                ours.push((*block.cid(), block.into_data().to_vec()));
                Ok(())
            };
            let mut importer =
                FileImporter::new(Shape { version, raw_leaves, chunk_bytes: zeros.len(), layout: Layout::Balanced }, meta);
            // The reference records nothing of a file that is exactly one chunk, as it learns too late that no other comes.
            let theirs_chunk = if leaves == 1 && last == 0 { zeros.len() + 1 } else { zeros.len() };
            let mut adder = FileAdder::builder()
                .with_cid_version(version)
                .with_raw_leaves(raw_leaves)
                .with_chunker(Chunker::Size(theirs_chunk))
                .with_metadata(Metadata::new(meta.mode, meta.mtime))
                .build();
            for part in std::iter::repeat_n(&zeros[..], leaves).chain([&zeros[..last]]) {
                importer.push(part, &mut sink).unwrap();
                theirs.extend(adder.push(part).0);
            }
            let root = importer.finish(&mut sink).unwrap();
            theirs.extend(adder.finish());
            assert_eq!(root.cid, ours.last().unwrap().0);
            assert!(ours == theirs, "{leaves} chunks and {last} byte, {version:?}, raw leaves {raw_leaves}, {meta:?}");
        }
    }
}

#[test]
fn what_is_recorded_beside_content_comes_back() {
    let meta = Meta { mode: Some(0o4751), mtime: Some((-1, 999_999_999)) };
    for version in [cid::Version::V0, cid::Version::V1] {
        let mut blocks = Blocks::new();
        let mut sink = |block: Block| -> Result<(), Infallible> {
            blocks.insert(*block.cid(), block.into_data());
            Ok(())
        };
        let shape = Shape::of(version);
        let mut tree = DirBuilder::new(shape);
        let mut importer = FileImporter::new(shape, meta);
        importer.push(b"noted", &mut sink).unwrap();
        tree.insert(&["file"], importer.finish(&mut sink).unwrap()).unwrap();
        tree.insert(&["link"], symlink("../else/where", shape, meta, &mut sink).unwrap()).unwrap();
        tree.insert_dir(&["folder"], meta).unwrap();
        tree.insert_dir(&[], meta).unwrap();
        let root = tree.build(&mut sink).unwrap();
        assert_eq!(root.cid.version(), version);
        let mut get = source(&blocks);
        let found = resolve(&root.cid, "", &mut get).unwrap();
        assert_eq!((found.meta, found.kind), (meta, EntryKind::Directory));
        let entries = list(&root.cid, &mut get).unwrap();
        let shown: Vec<_> = entries.iter().map(|e| (e.name.as_str(), e.meta, e.target.as_deref())).collect();
        let link = Meta { mode: None, ..meta };
        assert_eq!(shown, [("file", meta, None), ("folder", meta, None), ("link", link, Some("../else/where"))]);
        assert!(entries.iter().all(|e| e.cid.version() == version));
    }
    for target in ["", "nul\0", &"x".repeat(4096)] {
        assert!(symlink::<Infallible>(target, Shape::default(), meta, &mut |_| Ok(())).is_err());
    }
}

#[test]
fn a_source_that_gives_little_at_a_time_is_cut_into_the_same_chunks() {
    struct Trickle<'a>(&'a [u8]);
    impl std::io::Read for Trickle<'_> {
        fn read(&mut self, buffer: &mut [u8]) -> std::io::Result<usize> {
            let most = buffer.len().min(70_001);
            std::io::Read::read(&mut self.0, &mut buffer[..most])
        }
    }
    let bytes = content(3 * CHUNK_BYTES + 5);
    let mut importer = FileImporter::default();
    let mut sink = |_: Block| -> Result<(), Infallible> { Ok(()) };
    let mut source = Trickle(&bytes);
    while importer.read(&mut source, &mut sink).unwrap().unwrap() > 0 {}
    assert_eq!(importer.finish(&mut sink).unwrap(), add(&bytes, 1 << 20, &mut Blocks::new()));
}

#[test]
fn a_file_over_174_chunks_has_two_levels_and_reads_at_any_offset() {
    let size = LINKS_PER_NODE * CHUNK_BYTES;
    let bytes = content(size + 1);
    let mut blocks = Blocks::new();
    let one_level = add(&bytes[..size], 1 << 20, &mut blocks);
    assert_eq!(one_level.blocks, 174 + 1);
    let two_levels = add(&bytes, 1 << 20, &mut blocks);
    assert_eq!(two_levels.blocks, 175 + 3);
    let mut get = source(&blocks);
    let mut reader = FileReader::open(&two_levels.cid, &mut get).unwrap();
    assert_eq!(reader.size(), bytes.len() as u64);
    let mut rng = fastrand::Rng::with_seed(1);
    let mut offsets: Vec<usize> = (0..200).map(|_| rng.usize(..=bytes.len())).collect();
    offsets.extend([0, CHUNK_BYTES - 1, CHUNK_BYTES, size - 1, size, size + 1]);
    for offset in offsets {
        let mut buffer = vec![0; rng.usize(..400_000)];
        let expected = &bytes[offset..bytes.len().min(offset + buffer.len())];
        let read = reader.read_range(offset as u64, &mut buffer, &mut get).unwrap();
        assert!(buffer[..read] == *expected, "{} bytes at {offset}", expected.len());
    }
    assert_eq!(reader.read_range(u64::MAX, &mut [0; 9], &mut get).unwrap(), 0);
}

#[test]
fn reading_on_loads_every_block_once() {
    let mut blocks = Blocks::new();
    let root = add(&content(10 * CHUNK_BYTES), CHUNK_BYTES, &mut blocks);
    let mut loads = 0;
    let mut get = |cid: &Cid| -> Result<Bytes, Infallible> {
        loads += 1;
        Ok(blocks[cid].clone())
    };
    let mut reader = FileReader::open(&root.cid, &mut get).unwrap();
    let mut buffer = [0; 1000];
    let mut offset = 0;
    while offset < reader.size() {
        offset += reader.read_range(offset, &mut buffer, &mut get).unwrap() as u64;
    }
    assert_eq!(loads, 11);
}

/// A folder with two levels and names that sort in their own way.
fn tree(blocks: &mut Blocks) -> Root {
    let mut builder = DirBuilder::default();
    for path in [&["b", "two"][..], &["a.txt"], &["b", "one"], &["b.txt"], &["b", "c", "deep"]] {
        let root = add(path.join("/").as_bytes(), 99, blocks);
        builder.insert(path, root).unwrap();
    }
    builder.insert_dir(&["empty"], Meta::default()).unwrap();
    let mut sink = |block: Block| -> Result<(), Infallible> {
        blocks.insert(*block.cid(), block.into_data());
        Ok(())
    };
    builder.build(&mut sink).unwrap()
}

#[test]
fn a_tree_is_listed_resolved_and_walked() {
    let mut blocks = Blocks::new();
    let root = tree(&mut blocks);
    assert_eq!(root.size, 28);
    let mut get = source(&blocks);
    let entries = list(&root.cid, &mut get).unwrap();
    let names: Vec<(&str, EntryKind)> = entries.iter().map(|e| (e.name.as_str(), e.kind)).collect();
    let (file, folder) = (EntryKind::File, EntryKind::Directory);
    assert_eq!(names, [("a.txt", file), ("b", folder), ("b.txt", file), ("empty", folder)]);
    let found = resolve(&root.cid, "/b/c//deep/", &mut get).unwrap();
    assert_eq!((found.kind, found.size), (file, 8));
    assert_eq!(read_all(&found.cid, &blocks), b"b/c/deep");
    let top = resolve(&root.cid, "", &mut get).unwrap();
    assert_eq!((top.cid, top.kind, top.size), (root.cid, folder, root.dag_size), "the size of a folder is that of its blocks");
    assert_eq!(resolve(&root.cid, "b", &mut get).unwrap().size, entries[1].size, "from within as from without");
    let missing = resolve(&root.cid, "b/three", &mut get).unwrap_err();
    assert!(matches!(missing, Error::UnixFs(Problem::NoEntry { ref name, .. }) if name == "three"));
    let through = resolve(&root.cid, "a.txt/b", &mut get).unwrap_err();
    assert!(matches!(through, Error::UnixFs(Problem::NotADirectory { .. })));
    assert!(resolve(&root.cid, "b/../a.txt", &mut get).is_err());
    let mut walked = Vec::new();
    walk_files(&root.cid, 100, &mut get, &mut |path, _, size| {
        walked.push((path.to_owned(), size));
        Ok(())
    })
    .unwrap();
    let expected = [("a.txt", 5), ("b/c/deep", 8), ("b/one", 5), ("b/two", 5), ("b.txt", 5)];
    assert_eq!(walked, expected.map(|(path, size)| (path.to_owned(), size)));
    let few = walk_files(&root.cid, 3, &mut get, &mut |_, _, _| Ok(())).unwrap_err();
    assert!(matches!(few, Error::UnixFs(Problem::TooMany { limit: 3, .. })));
}

#[test]
fn a_folder_on_disk_gets_the_cid_of_the_built_one_with_its_links() {
    let mut blocks = Blocks::new();
    let dir = tempfile::tempdir().unwrap();
    let mut builder = DirBuilder::default();
    for path in ["b/two", "a.txt", "b/c/deep"] {
        let parts: Vec<&str> = path.split('/').collect();
        builder.insert(&parts, add(path.as_bytes(), 99, &mut blocks)).unwrap();
        std::fs::create_dir_all(dir.path().join(path).parent().unwrap()).unwrap();
        std::fs::write(dir.path().join(path), path).unwrap();
    }
    let link = symlink::<Infallible>("/etc/passwd", Shape::default(), Meta::default(), &mut |_| Ok(())).unwrap();
    builder.insert(&["link"], link).unwrap();
    builder.insert_dir(&["empty"], Meta::default()).unwrap();
    std::os::unix::fs::symlink("/etc/passwd", dir.path().join("link")).unwrap();
    std::fs::create_dir(dir.path().join("empty")).unwrap();
    let root = builder.build::<Infallible>(&mut |_| Ok(())).unwrap();
    let mut told = 0;
    let back = import_path::<Infallible>(dir.path(), &mut |_| Ok(()), &mut |_, bytes| told += bytes).unwrap();
    assert_eq!((back.cid, back.dag_size, back.size, told), (root.cid, root.dag_size, 18, 18));
}

#[test]
fn a_folder_of_many_entries_is_sharded_and_found_again() {
    let mut blocks = Blocks::new();
    let leaf = add(b"leaf", 9, &mut blocks);
    let mut builder = DirBuilder::default();
    let name = |n: usize| format!("an entry with a rather long name, number {n:06}");
    for n in 0..4000 {
        builder.insert(&[&name(n)], leaf).unwrap();
    }
    let mut sink = |block: Block| -> Result<(), Infallible> {
        assert!(block.size() < 1 << 20);
        blocks.insert(*block.cid(), block.into_data());
        Ok(())
    };
    let root = builder.build(&mut sink).unwrap();
    assert!(root.blocks > 1, "one block would be too large");
    let entries = list(&root.cid, &mut source(&blocks)).unwrap();
    assert_eq!(entries.len(), 4000);
    assert!(entries.iter().enumerate().all(|(n, entry)| entry.name == name(n) && entry.cid == leaf.cid));
    assert_eq!(resolve(&root.cid, &name(1234), &mut source(&blocks)).unwrap().cid, leaf.cid);
    assert_eq!(resolve(&root.cid, "", &mut source(&blocks)).unwrap().size, root.dag_size, "shards count");
}

#[test]
fn names_that_lead_elsewhere_are_refused_going_in_and_coming_out() {
    for bad in ["", ".", "..", "a/b", "/etc", "nul\0"] {
        let root = add(b"x", 1, &mut Blocks::new());
        assert!(matches!(DirBuilder::default().insert(&[bad], root), Err(Problem::BadName { .. })), "{bad:?}");
        let mut blocks = Blocks::new();
        let dir = folder_block(&[(bad, root.cid)], &mut blocks);
        let error = list(&dir, &mut source(&blocks)).unwrap_err();
        assert!(matches!(error, Error::UnixFs(Problem::Malformed { .. })), "{bad:?}: {error:?}");
    }
    let root = add(b"x", 1, &mut Blocks::new());
    let mut builder = DirBuilder::default();
    builder.insert(&["a"], root).unwrap();
    assert!(builder.insert(&["a"], root).is_err());
    assert!(builder.insert(&["a", "b"], root).is_err());
}

fn put(codec: u64, data: Vec<u8>, blocks: &mut Blocks) -> Cid {
    let cid = cid_v1(codec, &data);
    blocks.insert(cid, data.into());
    cid
}

/// A node with the protobuf of its data and links by name.
fn pb(data: &[u8], links: &[(&str, Cid)], blocks: &mut Blocks) -> Cid {
    let link = |(name, cid): &(&str, Cid)| PbLink { hash: cid.to_bytes().into(), name: (*name).into(), size: 1 };
    let node = PbNode { links: links.iter().map(link).collect(), data: Some(Bytes::copy_from_slice(data)) };
    put(DAG_PB, node.encode_to_vec(), blocks)
}

fn folder_block(links: &[(&str, Cid)], blocks: &mut Blocks) -> Cid {
    pb(&[0x08, 1], links, blocks)
}

/// The data of a file node: its size, and those of its links (each below 128).
fn file_data(size: u8, links: &[u8]) -> Vec<u8> {
    let mut data = vec![0x08, 2, 0x18, size];
    links.iter().for_each(|size| data.extend([0x20, *size]));
    data
}

#[test]
fn files_that_lie_about_their_sizes_are_refused() {
    let mut blocks = Blocks::new();
    let leaf = put(RAW, b"leaf".to_vec(), &mut blocks);
    let honest = pb(&file_data(8, &[4, 4]), &[("", leaf), ("", leaf)], &mut blocks);
    assert_eq!(read_all(&honest, &blocks), b"leafleaf");
    let overflowing = {
        let mut data = vec![0x08, 2];
        for _ in 0..2 {
            data.push(0x20);
            data.extend([0xff; 9]);
            data.push(1);
        }
        data
    };
    let lies = [
        (file_data(9, &[4, 4]), "a total that is too large"),
        (file_data(10, &[4, 6]), "a leaf that is too small"),
        (file_data(6, &[4, 2]), "a leaf that is too large"),
        (file_data(8, &[8]), "fewer sizes than links"),
        (overflowing, "sizes that overflow"),
    ];
    for (data, what) in lies {
        let lie = pb(&data, &[("", leaf), ("", leaf)], &mut blocks);
        let result = export(&lie, &mut std::io::sink(), &mut source(&blocks));
        assert!(matches!(result, Err(Error::UnixFs(Problem::Malformed { .. }))), "{what}: {result:?}");
    }
}

#[test]
fn endless_depth_is_refused_in_files_folders_and_shards() {
    let mut blocks = Blocks::new();
    let mut file = put(RAW, b"x".to_vec(), &mut blocks);
    let mut folder = file;
    let mut shard = file;
    for _ in 0..=MAX_DEPTH {
        file = pb(&file_data(1, &[1]), &[("", file)], &mut blocks);
        folder = folder_block(&[("d", folder)], &mut blocks);
        shard = pb(&[0x08, 5, 0x30, 0x80, 2], &[("00", shard)], &mut blocks);
    }
    let too_many = |result: Result<(), Error<Cid>>| {
        assert!(matches!(result, Err(Error::UnixFs(Problem::TooMany { .. }))), "{result:?}");
    };
    too_many(export(&file, &mut std::io::sink(), &mut source(&blocks)).map(drop));
    too_many(walk_files(&folder, u64::MAX, &mut source(&blocks), &mut |_, _, _| Ok(())));
    too_many(list(&shard, &mut source(&blocks)).map(drop));
}

#[test]
fn a_small_dag_that_unfolds_endlessly_is_cut_off() {
    let mut blocks = Blocks::new();
    let mut bomb = folder_block(&[], &mut blocks);
    for _ in 0..40 {
        bomb = folder_block(&[("a", bomb), ("b", bomb)], &mut blocks);
    }
    let result = walk_files(&bomb, 10_000, &mut source(&blocks), &mut |_, _, _| Ok(()));
    assert!(matches!(result, Err(Error::UnixFs(Problem::TooMany { limit: 10_000, .. }))));
}

#[test]
fn a_shard_that_unfolds_endlessly_is_refused() {
    let mut blocks = Blocks::new();
    let data = [0x08, 5, 0x30, 0x80, 2];
    let mut bomb = pb(&data, &[], &mut blocks);
    for _ in 0..MAX_SHARD_DEPTH - 1 {
        let links: Vec<(String, Cid)> = (0..256).map(|slot| (format!("{slot:02X}"), bomb)).collect();
        let links: Vec<(&str, Cid)> = links.iter().map(|(name, cid)| (name.as_str(), *cid)).collect();
        bomb = pb(&data, &links, &mut blocks);
    }
    let result = list(&bomb, &mut source(&blocks));
    assert!(matches!(result, Err(Error::UnixFs(Problem::Malformed { .. }))), "{result:?}");
}

#[test]
fn other_codecs_types_and_twins_are_named() {
    let mut blocks = Blocks::new();
    let leaf = put(RAW, b"x".to_vec(), &mut blocks);
    let twins = folder_block(&[("a", leaf), ("a", leaf)], &mut blocks);
    let cbor = put(0x71, vec![0x80], &mut blocks);
    let bare = put(DAG_PB, Vec::new(), &mut blocks);
    for cid in [twins, cbor, bare] {
        let result = list(&cid, &mut source(&blocks));
        assert!(matches!(result, Err(Error::UnixFs(Problem::Malformed { cid: named, .. })) if named == cid));
    }
    assert!(Node::parse(&pb(&[0x08, 9], &[], &mut blocks), blocks[&bare].clone()).is_err());
    let missing = cid_v1(RAW, b"missing");
    assert_eq!(resolve(&missing, "", &mut source(&blocks)), Err(Error::Source(missing)));
}
