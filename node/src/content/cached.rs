//! Whether what a path names is here, so that it can be given without asking anybody.

use cid::Cid;
use timerose_content::{Content, ContentError, DAG_PB, EntryKind, StoreError, block};
use timerose_core::failure::Failure;

use super::{Driver, blocking, of_content};

/// Blocks of one file that are looked for, at most: of a larger one the first stand for all. 256 MiB in the usual shape.
const LOOKED_FOR_MAX: usize = 1024;

type Found = Result<bool, ContentError>;

impl Driver {
    /// Whether the blocks are here that an answer is made of: those on the way of the path, and of a file its own, of a folder those that its list
    /// or its `index.html` needs. With `alone` the block that the path leads to is all. For a path that leads nowhere nobody has to be asked either.
    pub(super) async fn cached(&self, root: Cid, path: String, alone: bool) -> Result<bool, Failure> {
        let content = self.0.content.clone();
        blocking(move || cached(&content, &root, &path, alone).or_else(absent).map_err(of_content)).await
    }
}

fn cached(content: &Content, root: &Cid, path: &str, alone: bool) -> Found {
    if root.codec() != DAG_PB || alone && path.split('/').all(str::is_empty) {
        return Ok(content.store().has(root)?);
    }
    let found = content.resolve(root, path)?;
    if alone {
        return Ok(content.store().has(&found.cid)?);
    }
    if found.kind != EntryKind::Directory {
        return file(content, &found.cid);
    }
    match content.resolve(&found.cid, "index.html") {
        Ok(index) => file(content, &index.cid),
        Err(ContentError::UnixFs(_)) => content.list(&found.cid).map(|_| true),
        Err(other) => Err(other),
    }
}

/// What it means that a block could not be read.
fn absent(problem: ContentError) -> Found {
    match problem {
        ContentError::Missing { .. } | ContentError::Store(StoreError::Corrupt { .. }) => Ok(false),
        ContentError::UnixFs(_) => Ok(true),
        other @ ContentError::Store(_) => Err(other),
    }
}

/// Whether the blocks of a file are here.
fn file(content: &Content, root: &Cid) -> Found {
    let mut left = vec![*root];
    for _ in 0..LOOKED_FOR_MAX {
        let Some(cid) = left.pop() else { break };
        if cid.codec() != DAG_PB {
            if !content.store().has(&cid)? {
                return Ok(false);
            }
            continue;
        }
        // One that is no block of a file is for whoever reads the file to refuse.
        let links = block::links(&cid, &content.block(&cid)?).unwrap_or_default();
        left.extend(links.into_iter().rev());
    }
    Ok(true)
}
