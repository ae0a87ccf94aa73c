//! Hostile bytes, on stable Rust: seeded mutations of a committed corpus (`tests/corpus/*.hex`). Nothing may panic, hang or grow without bound.
//!
//! Each run uses one fixed seed and one fresh one, which a failure prints.

use bytes::Bytes;
use cid::Cid;
use std::convert::Infallible;
use std::path::Path;
use timerose_content::block::links;
use timerose_content::car::CarReader;
use timerose_content::exchange::wire::Message;
use timerose_content::frames::read_frame;
use timerose_content::unixfs::{self, FileReader};
use timerose_content::{DAG_CBOR, DAG_PB, cid_v1};
use tokio::sync::Semaphore;

/// Mutations of each entry of the corpus, for each seed.
const ROUNDS: usize = 1500;

/// Prints the seed if the test panics under it.
struct Seed(u64);

impl Drop for Seed {
    fn drop(&mut self) {
        if std::thread::panicking() {
            let _ = std::io::Write::write_fmt(&mut std::io::stderr(), format_args!("failed with seed {}\n", self.0));
        }
    }
}

fn corpus() -> Vec<Vec<u8>> {
    let dir = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/corpus");
    let mut paths: Vec<_> = std::fs::read_dir(dir).unwrap().map(|entry| entry.unwrap().path()).collect();
    paths.sort();
    assert!(!paths.is_empty());
    paths.iter().map(|path| unhex(std::fs::read_to_string(path).unwrap().trim())).collect()
}

fn unhex(text: &str) -> Vec<u8> {
    text.as_bytes().chunks(2).map(|pair| u8::from_str_radix(std::str::from_utf8(pair).unwrap(), 16).unwrap()).collect()
}

/// Calls `target` with every entry of the corpus as it is, and with many mutations of it.
fn fuzz(target: impl Fn(&[u8])) {
    let corpus = corpus();
    corpus.iter().for_each(|entry| target(entry));
    for seed in [1, fastrand::u64(..)] {
        let _seed = Seed(seed);
        let mut rng = fastrand::Rng::with_seed(seed);
        for entry in &corpus {
            for _ in 0..ROUNDS {
                let mut bytes = entry.clone();
                for _ in 0..rng.usize(1..5) {
                    mutate(&mut rng, &mut bytes, &corpus);
                }
                target(&bytes);
            }
        }
    }
}

fn mutate(rng: &mut fastrand::Rng, bytes: &mut Vec<u8>, corpus: &[Vec<u8>]) {
    let at = rng.usize(..=bytes.len());
    match rng.u8(..7) {
        0 if at < bytes.len() => bytes[at] ^= 1 << rng.u8(..8),
        1 if at < bytes.len() => bytes[at] = *rng.choice(&[0, 1, 0x7f, 0x80, 0xff]).unwrap(),
        2 => bytes.truncate(at),
        3 => bytes.insert(at, rng.u8(..)),
        4 if at < bytes.len() => drop(bytes.remove(at)),
        5 => {
            // A number as large as numbers go.
            let end = bytes.len().min(at + 9);
            bytes[at..end].fill(0xff);
        }
        _ => {
            let other = rng.choice(corpus).unwrap();
            let from = rng.usize(..=other.len());
            let part = &other[from..other.len().min(from + rng.usize(..64))];
            bytes.splice(at..at, part.iter().copied());
        }
    }
}

#[test]
fn bitswap_messages() {
    fuzz(|bytes| {
        if let Ok(message) = Message::decode(Bytes::copy_from_slice(bytes)) {
            assert_eq!(Message::decode(message.encode()), Ok(message));
        }
    });
}

#[test]
fn frames() {
    const MAX: usize = 4096;
    let runtime = tokio::runtime::Builder::new_current_thread().build().unwrap();
    fuzz(|bytes| {
        let budget = Semaphore::new(64);
        let mut stream = futures::io::Cursor::new(bytes);
        runtime.block_on(async {
            while let Ok(Some(frame)) = read_frame(&mut stream, MAX, &budget, &|| {}).await {
                assert!(frame.len() <= MAX);
            }
        });
    });
}

#[test]
fn links_of_blocks() {
    fuzz(|bytes| {
        for codec in [DAG_PB, DAG_CBOR] {
            if let Ok(links) = links(&cid_v1(codec, bytes), bytes) {
                assert!(links.len() <= bytes.len());
            }
        }
    });
}

/// Every dag-pb block is the hostile one, so that the DAG never ends; every other block is small.
fn hostile(bytes: &[u8]) -> impl FnMut(&Cid) -> Result<Bytes, Infallible> {
    let bytes = Bytes::copy_from_slice(bytes);
    move |cid| Ok(if cid.codec() == DAG_PB { bytes.clone() } else { Bytes::from_static(b"leaf") })
}

#[test]
fn folders() {
    fuzz(|bytes| {
        let (cid, mut get) = (cid_v1(DAG_PB, bytes), hostile(bytes));
        if let Ok(entries) = unixfs::list(&cid, &mut get) {
            assert!(entries.len() <= bytes.len());
            for entry in &entries {
                assert!(!entry.name.contains(['/', '\0']) && !["", ".", ".."].contains(&entry.name.as_str()));
            }
        }
        let _ = unixfs::resolve(&cid, "a/b", &mut get);
        let _ = unixfs::walk_files(&cid, 50, &mut get, &mut |_, _, _| Ok(()));
    });
}

#[test]
fn files() {
    fuzz(|bytes| {
        let (cid, mut get) = (cid_v1(DAG_PB, bytes), hostile(bytes));
        let Ok(mut reader) = FileReader::open(&cid, &mut get) else { return };
        let mut buffer = [0; 300];
        for offset in [0, 1, reader.size() / 2, reader.size().saturating_sub(1), reader.size(), u64::MAX] {
            if let Ok(read) = reader.read_range(offset, &mut buffer, &mut get) {
                assert!(read as u64 <= reader.size().saturating_sub(offset));
            }
        }
    });
}

#[test]
fn archives_never_panic_and_give_only_blocks_that_are_right() {
    fuzz(|bytes| {
        let Ok(mut reader) = CarReader::open(bytes) else { return };
        let mut left = bytes.len();
        while let Ok(Some(block)) = reader.next_block() {
            assert_eq!(timerose_content::block::verify(block.cid(), block.data()), Ok(true));
            left = left.checked_sub(block.size()).expect("no more comes out than went in");
        }
    });
}
