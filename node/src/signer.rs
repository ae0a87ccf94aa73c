//! The signer: signs what this node states, off the loop. Receipts are signed together: all that wait have one signature.

use cid::Cid;
use std::time::Duration;
use timerose_core::io::{Input, Output, SIGNED_MAX, Sealed, Statement, Ticket};
use timerose_core::proof::{LEAVES_MAX, prove};
use tokio::sync::mpsc;
use tokio::task::JoinHandle;

use crate::keys::{Keys, open_verified};

/// How long receipts gather before they are signed: a signature and what follows it cost as much as a small call, and take a core from those
/// who call. Only what an answer waits for is signed at once.
const GATHER: Duration = Duration::from_millis(10);

/// Runs on a thread of its own until `outputs` closes; what waits then is still signed.
pub(crate) fn run(keys: Keys, mut outputs: mpsc::Receiver<Output>, done: mpsc::Sender<Input>) -> JoinHandle<()> {
    tokio::task::spawn_blocking(move || {
        let mut batch = Vec::new();
        while outputs.blocking_recv_many(&mut batch, LEAVES_MAX) > 0 {
            if batch.iter().all(|output| matches!(output, Output::Sign { urgent: false, .. })) {
                std::thread::sleep(GATHER);
            }
            batch.extend(std::iter::from_fn(|| outputs.try_recv().ok()).take(LEAVES_MAX - batch.len()));
            let mut statements = Vec::new();
            for output in batch.drain(..) {
                match output {
                    Output::Sign { ticket, statement, .. } => statements.push((ticket, statement)),
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
            if statements.is_empty() {
                continue;
            }
            let mut signed = sign(&keys, statements).into_iter().peekable();
            while signed.peek().is_some() {
                let receipts = signed.by_ref().take(SIGNED_MAX).collect();
                // Only a node that ends does not listen.
                let _ = done.blocking_send(Input::Signed { receipts });
            }
        }
    })
}

fn sign(keys: &Keys, statements: Vec<(Ticket, Statement)>) -> Vec<(Ticket, Sealed)> {
    let leaves: Vec<(Cid, &[u8])> = statements.iter().map(|(_, s)| (s.names.receipt, &s.bytes[..])).collect();
    let proofs = prove(keys.id(), &leaves, |root| keys.sign(root));
    let seal = |((ticket, s), bytes): (&(Ticket, Statement), _)| (*ticket, Sealed { names: s.names, tell: s.tell, bytes });
    statements.iter().zip(proofs).map(seal).collect()
}
