//! Folders: listing, resolving paths, walking all files.

use super::node::{Kind, Node, target};
use super::{Error, Get, MAX_DEPTH, Meta, Problem, check_name, fetch};
use crate::block::RAW;
use cid::Cid;
use std::collections::HashSet;

/// Entries in a folder, at most.
pub const MAX_DIR_ENTRIES: usize = 1 << 20;
/// Levels of a sharded folder, at most; a 64-bit hash is used up after fewer.
pub const MAX_SHARD_DEPTH: usize = 16;
/// Blocks on the way of a path, at most, give or take the shards of one folder.
const MAX_WAY_BLOCKS: usize = 65_536;
/// The widest shard, as Kubo bounds it.
const MAX_FANOUT: u64 = 1024;

/// What an entry is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum EntryKind {
    /// A file.
    File,
    /// A folder.
    Directory,
    /// A symbolic link.
    Symlink,
}

/// An entry of a folder.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Entry {
    /// Its name: not empty, no `.` or `..`, no slash, no NUL.
    pub name: String,
    /// Where it leads.
    pub cid: Cid,
    /// Bytes in a file, as its root says; for anything else the size of its blocks, as the link says. Neither is checked here.
    pub size: u64,
    /// What it is.
    pub kind: EntryKind,
    /// What is recorded of it.
    pub meta: Meta,
    /// Where a symbolic link leads, if that is UTF-8 of at most 4,095 bytes without a NUL. It may lead anywhere.
    pub target: Option<String>,
}

/// What a path leads to.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Resolved {
    /// Its CID.
    pub cid: Cid,
    /// The blocks of folders on the way to it, from the root on: what somebody needs who checks the way.
    pub way: Vec<Cid>,
    /// What it is.
    pub kind: EntryKind,
    /// As [`Entry::size`]; for a folder its block and what its links say, which is what `ipfs files stat` calls cumulative.
    /// 0 for a symbolic link.
    pub size: u64,
    /// What is recorded of it.
    pub meta: Meta,
    /// As [`Entry::target`].
    pub target: Option<String>,
}

/// A name and where it leads, before anything was loaded.
struct Link {
    name: String,
    cid: Cid,
    dag_size: u64,
}

/// The entries of the folder `cid`, sorted by the bytes of their names. Loads the root block of every entry that is not raw.
pub fn list<E>(cid: &Cid, get: &mut Get<'_, E>) -> Result<Vec<Entry>, Error<E>> {
    let mut entries = Vec::new();
    for Link { name, cid, dag_size } in links(cid, get)? {
        entries.push(classify(name, cid, dag_size, get)?);
    }
    Ok(entries)
}

/// Follows `path` (components between slashes, empty ones ignored) from `root`.
///
/// Fails with [`Problem::NoEntry`] or [`Problem::NotADirectory`] where the path ends early.
pub fn resolve<E>(root: &Cid, path: &str, get: &mut Get<'_, E>) -> Result<Resolved, Error<E>> {
    let mut cid = *root;
    let mut way = Vec::new();
    for name in path.split('/').filter(|name| !name.is_empty()) {
        check_name(name)?;
        if way.len() >= MAX_WAY_BLOCKS {
            return Err(Problem::TooMany { what: "blocks on the way of a path", limit: MAX_WAY_BLOCKS as u64 }.into());
        }
        let links = links(&cid, &mut |cid: &Cid| {
            let block = get(cid)?;
            way.push(*cid);
            Ok(block)
        })?;
        let found = links.binary_search_by(|link| link.name.as_bytes().cmp(name.as_bytes()));
        let at = found.map_err(|_| Problem::NoEntry { cid, name: name.to_owned() })?;
        cid = links[at].cid;
    }
    let block = fetch(&cid, get)?;
    let own = block.len() as u64;
    let node = Node::parse(&cid, block)?;
    let (kind, size) = match node.kind {
        Kind::File => (EntryKind::File, node.claimed_size()),
        Kind::Symlink => (EntryKind::Symlink, 0),
        // The links may say anything: the sum of hostile ones ends at the greatest number.
        Kind::Directory | Kind::Shard => {
            (EntryKind::Directory, node.links.iter().fold(own, |sum, link| sum.saturating_add(link.size)))
        }
    };
    Ok(Resolved { cid, way, kind, size, meta: node.meta, target: node.target() })
}

/// The blocks that a folder itself consists of: one, or its shards; the root first. Nothing of what is in it is loaded.
pub fn folder_blocks<E>(cid: &Cid, get: &mut Get<'_, E>) -> Result<Vec<Cid>, Error<E>> {
    let mut blocks = Vec::new();
    links(cid, &mut |cid: &Cid| {
        blocks.push(*cid);
        get(cid)
    })?;
    Ok(blocks)
}

/// Visits every file under `root` with its path, CID and size (as [`Entry::size`]), sorted component by component. A `root` that is a file has
/// the empty path. Symbolic links are passed over.
///
/// Fails with [`Problem::TooMany`] after `most` files and folders, as a small DAG can hold endlessly many.
pub fn walk_files<E>(
    root: &Cid,
    most: u64,
    get: &mut Get<'_, E>,
    visit: &mut dyn FnMut(&str, &Cid, u64) -> Result<(), E>,
) -> Result<(), Error<E>> {
    let mut left = most;
    walk(
        root,
        0,
        &mut String::new(),
        0,
        &mut |event, get| {
            left = left.checked_sub(1).ok_or(Problem::TooMany { what: "files and folders", limit: most })?;
            match event {
                Step::File { path, cid, dag_size } => {
                    let size = classify(String::new(), *cid, dag_size, get)?.size;
                    visit(path, cid, size).map_err(Error::Source)
                }
                Step::Other => Ok(()),
            }
        },
        get,
    )
}

/// One thing on a walk.
enum Step<'a> {
    File {
        path: &'a str,
        cid: &'a Cid,
        dag_size: u64,
    },
    /// A folder or a symbolic link.
    Other,
}

type Visit<'a, E> = dyn FnMut(Step<'_>, &mut Get<'_, E>) -> Result<(), Error<E>> + 'a;

/// Walks depth first, in order; a folder comes before what is in it.
fn walk<E>(
    cid: &Cid,
    dag_size: u64,
    path: &mut String,
    depth: usize,
    visit: &mut Visit<'_, E>,
    get: &mut Get<'_, E>,
) -> Result<(), Error<E>> {
    if depth > MAX_DEPTH {
        return Err(Problem::TooMany { what: "folders within folders", limit: MAX_DEPTH as u64 }.into());
    }
    if cid.codec() == RAW {
        return visit(Step::File { path, cid, dag_size }, get);
    }
    let node = Node::parse(cid, fetch(cid, get)?)?;
    match node.kind {
        Kind::File => return visit(Step::File { path, cid, dag_size }, get),
        Kind::Symlink => return visit(Step::Other, get),
        Kind::Directory | Kind::Shard => visit(Step::Other, get)?,
    }
    for link in links_of(cid, &node, get)? {
        let length = path.len();
        if length > 0 {
            path.push('/');
        }
        path.push_str(&link.name);
        walk(&link.cid, link.dag_size, path, depth + 1, visit, get)?;
        path.truncate(length);
    }
    Ok(())
}

/// What is behind a link. A raw block is known without loading it.
fn classify<E>(name: String, cid: Cid, dag_size: u64, get: &mut Get<'_, E>) -> Result<Entry, Error<E>> {
    if cid.codec() == RAW {
        return Ok(Entry { name, cid, size: dag_size, kind: EntryKind::File, meta: Meta::default(), target: None });
    }
    let node = Node::parse(&cid, fetch(&cid, get)?)?;
    let (kind, size) = match node.kind {
        Kind::File => (EntryKind::File, node.claimed_size()),
        Kind::Symlink => (EntryKind::Symlink, dag_size),
        Kind::Directory | Kind::Shard => (EntryKind::Directory, dag_size),
    };
    Ok(Entry { name, cid, size, kind, meta: node.meta, target: node.target() })
}

fn links<E>(cid: &Cid, get: &mut Get<'_, E>) -> Result<Vec<Link>, Error<E>> {
    let node = Node::parse(cid, fetch(cid, get)?)?;
    links_of(cid, &node, get)
}

/// The links of a folder in one block or in shards, sorted, with names that are safe and different.
fn links_of<E>(cid: &Cid, node: &Node, get: &mut Get<'_, E>) -> Result<Vec<Link>, Error<E>> {
    let mut found = Vec::new();
    match node.kind {
        Kind::Directory => {
            for link in &node.links {
                push(cid, &mut found, &link.name, target(cid, link)?, link.size)?;
            }
        }
        Kind::Shard => shard(cid, node, 1, &mut HashSet::new(), &mut found, get)?,
        Kind::File | Kind::Symlink => return Err(Problem::NotADirectory { cid: *cid }.into()),
    }
    found.sort_unstable_by(|a, b| a.name.as_bytes().cmp(b.name.as_bytes()));
    if let Some(pair) = found.windows(2).find(|pair| pair[0].name == pair[1].name) {
        return Err(Problem::malformed(cid, format!("two entries are named {:?}", pair[0].name)).into());
    }
    Ok(found)
}

/// Gathers the entries of a HAMT: a link's name is the slot in hex, followed by the entry's name unless it leads to a further shard.
///
/// No shard is in a folder twice, as the names below it tell where it hangs; so the work is bounded by the blocks that somebody really made.
fn shard<E>(
    cid: &Cid,
    node: &Node,
    depth: usize,
    seen: &mut HashSet<Cid>,
    found: &mut Vec<Link>,
    get: &mut Get<'_, E>,
) -> Result<(), Error<E>> {
    if depth > MAX_SHARD_DEPTH {
        return Err(Problem::TooMany { what: "levels of shards", limit: MAX_SHARD_DEPTH as u64 }.into());
    }
    if !node.fanout.is_power_of_two() || node.fanout < 2 || node.fanout > MAX_FANOUT {
        return Err(Problem::malformed(cid, format!("a shard of width {}", node.fanout)).into());
    }
    let width = format!("{:X}", node.fanout - 1).len();
    for link in &node.links {
        let next = target(cid, link)?;
        let name = link.name.get(width..).ok_or_else(|| Problem::malformed(cid, "a shard's link has no slot"))?;
        if !name.is_empty() {
            push(cid, found, name, next, link.size)?;
            continue;
        }
        if seen.len() >= MAX_DIR_ENTRIES {
            return Err(Problem::TooMany { what: "shards in a folder", limit: MAX_DIR_ENTRIES as u64 }.into());
        }
        if !seen.insert(next) {
            return Err(Problem::malformed(cid, "a shard is there twice").into());
        }
        let child = Node::parse(&next, fetch(&next, get)?)?;
        if child.kind != Kind::Shard {
            return Err(Problem::malformed(&next, "it should be a shard").into());
        }
        shard(&next, &child, depth + 1, seen, found, get)?;
    }
    Ok(())
}

fn push(cid: &Cid, found: &mut Vec<Link>, name: &str, target: Cid, dag_size: u64) -> Result<(), Problem> {
    if found.len() >= MAX_DIR_ENTRIES {
        return Err(Problem::TooMany { what: "entries in a folder", limit: MAX_DIR_ENTRIES as u64 });
    }
    check_name(name).map_err(|problem| Problem::malformed(cid, problem.to_string()))?;
    found.push(Link { name: name.to_owned(), cid: target, dag_size });
    Ok(())
}
