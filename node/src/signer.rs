//! The signer: signs what this node states, off the loop, and keeps its receipts.
//!
//! A receipt is answered when it can be had from this node, which is before it is on the disk: a lost one is made again by
//! running again.

use bytes::Bytes;
use std::sync::Arc;
use timerose_core::failure::Failure;
use timerose_core::id::{DAG_CBOR, cid_of};
use timerose_core::io::{Input, Output, Sealed};
use tokio::sync::mpsc;

use crate::keys::{Keys, open_verified};
use crate::ports::Shelf;

/// The most statements that are signed before the receipts among them are written together.
const BATCH_MAX: usize = 256;

/// Runs on a thread of its own until `outputs` closes.
pub(crate) fn run(keys: Keys, shelf: Arc<dyn Shelf>, mut outputs: mpsc::Receiver<Output>, done: mpsc::Sender<Input>) {
    tokio::task::spawn_blocking(move || {
        let mut batch = Vec::new();
        while outputs.blocking_recv_many(&mut batch, BATCH_MAX) > 0 {
            let (mut receipts, mut tickets) = (Vec::new(), Vec::new());
            for output in batch.drain(..) {
                match output {
                    Output::Sign { ticket, receipt } => {
                        let bytes = keys.seal(&receipt);
                        let block = Bytes::from(bytes.clone());
                        tickets.push((ticket, Sealed { cid: cid_of(DAG_CBOR, &block), key: receipt.task.memo_key(), bytes }));
                        receipts.push(block);
                    }
                    Output::Identify { ticket, task, subject } => {
                        drop(done.blocking_send(Input::Identified { ticket, task: task.id(&subject) }));
                    }
                    Output::SignAdvert { advert } => match open_verified(&keys.seal(&advert)) {
                        Ok(advert) => drop(done.blocking_send(Input::AdvertSigned { advert })),
                        Err(why) => tracing::error!(%why, "this node's own advert cannot be read back"),
                    },
                    _ => {}
                }
            }
            if receipts.is_empty() {
                continue;
            }
            let had = |had: Result<(), Failure>| {
                for (ticket, receipt) in tickets {
                    // Only a node that ends does not listen.
                    let _ = done.blocking_send(Input::Signed { ticket, receipt: had.clone().map(|()| receipt) });
                }
            };
            shelf.keep(receipts, Box::new(had));
        }
    });
}
