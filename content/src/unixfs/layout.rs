//! How the parts of a file hang together: the balanced layout of `ipfs add`, and its trickle layout.

use super::Meta;
use super::encode::Part;

/// Links in a node of the balanced layout, and leaves of one node of the trickle layout, at most.
pub const LINKS_PER_NODE: usize = 174;
/// Trees of each depth below one node of the trickle layout.
const TREES_PER_DEPTH: usize = 4;

/// How the parts of a file hang together. Both are what Kubo makes by default, with [`LINKS_PER_NODE`].
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub enum Layout {
    /// All leaves are equally deep: the least work to reach any of them. A file of one part is that part.
    #[default]
    Balanced,
    /// Every node has leaves first and then trees, four of each depth, each deeper by one than those before: the first parts of a file are the
    /// least work to reach. As in Kubo, leaves with a head are of the type `raw`, not `file`, and even a file of one part or none has a node above
    /// them; Helia has to be told so.
    Trickle,
}

/// Makes a node of its parts, in order.
pub(super) type Make<'a, E> = dyn FnMut(&[Part], Meta) -> Result<Part, E> + 'a;

/// The nodes of a file that are not complete yet. It holds O([`LINKS_PER_NODE`] · depth) parts, and the depth is logarithmic in the file's size.
pub(super) enum Tree {
    /// The parts that have no node above them yet: leaves, the nodes above these, and so on.
    Balanced(Vec<Vec<Part>>),
    /// The nodes from the root to the one that is being filled.
    Trickle(Vec<Open>),
}

/// A node of the trickle layout that is being filled.
pub(super) struct Open {
    /// Trees below it are less deep than this. One that has leaves alone is 1 deep.
    depth: usize,
    parts: Vec<Part>,
}

impl Tree {
    pub fn new(layout: Layout) -> Tree {
        match layout {
            Layout::Balanced => Tree::Balanced(Vec::new()),
            // The root grows as deep as the file wants.
            Layout::Trickle => Tree::Trickle(vec![Open { depth: usize::MAX, parts: Vec::new() }]),
        }
    }

    /// Parts that wait for their node.
    #[cfg(test)]
    pub fn open_parts(&self) -> usize {
        match self {
            Tree::Balanced(layers) => layers.iter().map(Vec::len).sum(),
            Tree::Trickle(open) => open.iter().map(|node| node.parts.len()).sum(),
        }
    }

    /// Adds a leaf, and makes the nodes that are complete.
    pub fn add<E>(&mut self, leaf: Part, make: &mut Make<'_, E>) -> Result<(), E> {
        match self {
            Tree::Balanced(layers) => {
                link(layers, 0, leaf);
                // A full layer waits for one part more: its node may be the root.
                let mut height = 0;
                while layers.get(height).is_some_and(|layer| layer.len() > LINKS_PER_NODE) {
                    gather(layers, height, Meta::default(), make)?;
                    height += 1;
                }
            }
            Tree::Trickle(open) => {
                while let Some(node) = open.last_mut() {
                    if node.parts.len() < LINKS_PER_NODE {
                        node.parts.push(leaf);
                        break;
                    }
                    let depth = (node.parts.len() - LINKS_PER_NODE) / TREES_PER_DEPTH + 1;
                    if depth < node.depth {
                        open.push(Open { depth, parts: Vec::new() });
                    } else {
                        close(open, Meta::default(), make)?;
                    }
                }
            }
        }
        Ok(())
    }

    /// Makes the nodes that are left, the root last. In the balanced layout there is none above a single leaf, and none without a leaf.
    pub fn finish<E>(self, meta: Meta, make: &mut Make<'_, E>) -> Result<(), E> {
        match self {
            Tree::Balanced(mut layers) => loop {
                let left = layers.iter().map(Vec::len).sum::<usize>();
                let Some(lowest) = layers.iter().position(|layer| !layer.is_empty()) else { break };
                if left <= 1 {
                    break;
                }
                let is_root = layers[lowest].len() == left && left <= LINKS_PER_NODE;
                gather(&mut layers, lowest, if is_root { meta } else { Meta::default() }, make)?;
            },
            Tree::Trickle(mut open) => {
                while !open.is_empty() {
                    let is_root = open.len() == 1;
                    close(&mut open, if is_root { meta } else { Meta::default() }, make)?;
                }
            }
        }
        Ok(())
    }
}

/// Puts a node above the first parts of a layer.
fn gather<E>(layers: &mut Vec<Vec<Part>>, height: usize, meta: Meta, make: &mut Make<'_, E>) -> Result<(), E> {
    let layer = &mut layers[height];
    let parts: Vec<Part> = layer.drain(..layer.len().min(LINKS_PER_NODE)).collect();
    let node = make(&parts, meta)?;
    link(layers, height + 1, node);
    Ok(())
}

fn link(layers: &mut Vec<Vec<Part>>, height: usize, part: Part) {
    if layers.len() == height {
        layers.push(Vec::new());
    }
    layers[height].push(part);
}

/// Makes the lowest open node, and links it from the one above.
fn close<E>(open: &mut Vec<Open>, meta: Meta, make: &mut Make<'_, E>) -> Result<(), E> {
    let Some(node) = open.pop() else { return Ok(()) };
    let part = make(&node.parts, meta)?;
    if let Some(above) = open.last_mut() {
        above.parts.push(part);
    }
    Ok(())
}
