//! Builds folders: one block, or a HAMT of blocks where it would pass 256 KiB, as Kubo does.

use super::{Error, MAX_DEPTH, Meta, Problem, Root, Shape, Sink, check_name};
use crate::block::Block;
use cid::Cid;
use rust_unixfs::Metadata;
use rust_unixfs::dir::builder::{BufferingTreeBuilder, TreeOptions};
use std::collections::BTreeMap;

enum Item {
    Link { cid: Cid, dag_size: u64, size: u64 },
    Folder(Folder),
}

#[derive(Default)]
struct Folder {
    entries: BTreeMap<String, Item>,
    meta: Meta,
}

/// Builds a tree of folders over files that are imported already. Holds all entries in memory.
#[derive(Default)]
pub struct DirBuilder {
    shape: Shape,
    root: Folder,
}

impl DirBuilder {
    /// An empty folder.
    pub fn new(shape: Shape) -> DirBuilder {
        DirBuilder { shape, root: Folder::default() }
    }

    /// Puts a file (or a folder that exists already) at a path; the folders on the way are made.
    ///
    /// Fails with [`Problem::BadName`] on a name that is refused, or where something is already.
    pub fn insert(&mut self, path: &[&str], root: Root) -> Result<(), Problem> {
        let (name, folders) = path.split_last().ok_or(Problem::BadName { name: String::new(), why: "it is empty" })?;
        check_name(name)?;
        let folder = &mut self.folder(folders)?.entries;
        if folder.contains_key(*name) {
            return Err(Problem::BadName { name: path.join("/"), why: "there is such an entry already" });
        }
        let Root { cid, size, dag_size, .. } = root;
        folder.insert((*name).to_owned(), Item::Link { cid, dag_size, size });
        Ok(())
    }

    /// Makes a folder, which may stay empty, and notes what is to be recorded of it. The empty path is the root.
    pub fn insert_dir(&mut self, path: &[&str], meta: Meta) -> Result<(), Problem> {
        self.folder(path)?.meta = meta;
        Ok(())
    }

    fn folder(&mut self, path: &[&str]) -> Result<&mut Folder, Problem> {
        if path.len() >= MAX_DEPTH {
            return Err(Problem::TooMany { what: "folders within folders", limit: MAX_DEPTH as u64 });
        }
        let mut folder = &mut self.root;
        for name in path {
            check_name(name)?;
            let item = folder.entries.entry((*name).to_owned()).or_insert_with(|| Item::Folder(Folder::default()));
            folder = match item {
                Item::Folder(folder) => folder,
                Item::Link { .. } => {
                    return Err(Problem::BadName { name: path.join("/"), why: "a file is in the way" });
                }
            };
        }
        Ok(folder)
    }

    /// Makes the blocks of all folders, each after those below it and the root last. `blocks` of the result counts these alone.
    pub fn build<E>(self, sink: &mut Sink<'_, E>) -> Result<Root, Error<E>> {
        build_tree(self.root, self.shape, sink)
    }
}

fn build_tree<E>(folder: Folder, shape: Shape, sink: &mut Sink<'_, E>) -> Result<Root, Error<E>> {
    let mut entries = Vec::new();
    let (mut content, mut below) = (0u64, 0);
    for (name, item) in folder.entries {
        let (cid, dag_size, size) = match item {
            Item::Link { cid, dag_size, size } => (cid, dag_size, size),
            Item::Folder(folder) => {
                let root = build_tree(folder, shape, sink)?;
                below += root.blocks;
                (root.cid, root.dag_size, root.size)
            }
        };
        content = content.saturating_add(size);
        entries.push((name, cid, dag_size));
    }
    let root = build_dir(entries, shape, folder.meta, sink)?;
    Ok(Root { size: content, blocks: below + root.blocks, ..root })
}

/// Makes the blocks of one folder. The names were checked; `size` of the result is left to the caller.
pub(super) fn build_dir<E>(
    entries: Vec<(String, Cid, u64)>,
    shape: Shape,
    meta: Meta,
    sink: &mut Sink<'_, E>,
) -> Result<Root, Error<E>> {
    let mut options = TreeOptions::default();
    options.cid_version(shape.version);
    let mut builder = BufferingTreeBuilder::new(options);
    // The library's own root cannot bear metadata: the folder is the one entry below it.
    builder.set_metadata("folder", Metadata::new(meta.mode, meta.mtime)).map_err(cannot)?;
    for (name, cid, dag_size) in &entries {
        builder
            .put_link(&format!("folder/{name}"), *cid, *dag_size)
            .map_err(|_| Problem::BadName { name: name.clone(), why: "there is such an entry already" })?;
    }
    let mut root: Option<Root> = None;
    for node in builder.build() {
        let node = node.map_err(cannot)?;
        let blocks = root.map_or(0, |root| root.blocks) + 1;
        root = Some(Root { cid: node.cid, size: 0, dag_size: node.total_size, blocks });
        sink(Block::hashed(node.cid, node.block.into_vec())).map_err(Error::Source)?;
    }
    root.ok_or_else(|| Problem::BadName { name: String::new(), why: "the folder has no root" }.into())
}

fn cannot(error: impl std::fmt::Display) -> Problem {
    Problem::BadName { name: error.to_string(), why: "the folder cannot be built" }
}
