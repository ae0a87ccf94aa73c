//! The failures that a user can meet: each with a code, a cause, and what to do next.

use alloc::format;
use alloc::string::String;
use alloc::vec::Vec;
use cid::Cid;
use core::fmt;
use serde::{Deserialize, Deserializer, Serialize};

/// Why a call, a job or a look-up did not give what was asked for.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum Failure {
    /// No peer that was asked has the block.
    NotFound {
        /// The block that is missing.
        cid: Cid,
        /// How many peers were asked.
        asked: u32,
        /// Some of those that were said to have it, and why it did not come from them: [`PROVIDERS_MAX`] at most.
        #[serde(default, skip_serializing_if = "Vec::is_empty", deserialize_with = "first_few")]
        failed: Vec<Provider>,
        /// How many more there were.
        #[serde(default, skip_serializing_if = "is_none")]
        more: u32,
    },
    /// No member that this node trusts can run the function.
    NoExecutor {
        /// What the function needs, in words.
        needed: String,
        /// How many members are known.
        seen: u32,
    },
    /// Every suitable executor and the queue are full.
    Overloaded {
        /// When trying again makes sense, in milliseconds from now.
        retry_after_ms: u64,
    },
    /// The caller is not allowed to do this here.
    Denied {
        /// The rule that refused.
        rule: String,
        /// The capability that would have allowed it.
        missing: String,
    },
    /// The function is not fit to enter the mesh.
    Rejected {
        /// What the checker found.
        finding: String,
    },
    /// The guest ended with an error of its own.
    FunctionFailed {
        /// The exit code; 134 for a trap, as a Unix shell reports an abort.
        exit: i32,
        /// The end of its standard error, or the trap.
        stderr: String,
    },
    /// The guest went over one of its limits.
    LimitExceeded {
        /// `memory`, `time`, `output`, `fuel` or `input`.
        which: String,
        /// The limit, in bytes, milliseconds or units of fuel.
        at: u64,
    },
    /// The caller's deadline passed.
    DeadlineExceeded {
        /// How far the work had come.
        stage: String,
    },
    /// An argument does not fit the function.
    BadArgument {
        /// Its position, from 0; for a wrong count, the first that is missing or too many.
        index: u32,
        /// What the function takes there.
        wanted: String,
        /// What was given.
        got: String,
    },
    /// The caller took it back.
    Cancelled,
    /// There is no room left on a node's disk, or its blocks take as much as they may.
    StorageFull {
        /// The file or folder that could not be written.
        at: String,
        /// The bytes that blocks may take, where that is what was reached.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        max: Option<u64>,
    },
    /// A node's copy of a block is damaged, and no peer has another.
    Corrupt {
        /// The block.
        cid: Cid,
        /// The file with the wrong bytes.
        at: String,
    },
    /// A node could not do its part: a disk that fails, an engine that could not start.
    NodeFailed {
        /// What went wrong, and where.
        what: String,
    },
    /// Work with effects was lost: it may have run, and is not run again.
    MayHaveRun {
        /// How it was lost, and where.
        what: String,
    },
}

/// Somebody who was said to have a block.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Provider {
    /// Its peer id, as text.
    pub peer: String,
    /// Why the block did not come from it: `it cannot be reached`, `it does not have it`.
    pub why: String,
}

/// Providers that a failure names; more there are in number alone.
pub const PROVIDERS_MAX: usize = 8;

/// Reads the providers that may be named. A peer says who they are, and could say it of any number.
fn first_few<'de, D: Deserializer<'de>>(from: D) -> Result<Vec<Provider>, D::Error> {
    let mut all = Vec::<Provider>::deserialize(from)?;
    all.truncate(PROVIDERS_MAX);
    Ok(all)
}

fn is_none(count: &u32) -> bool {
    *count == 0
}

impl Failure {
    /// That nobody who was asked has a block.
    pub fn not_found(cid: Cid, asked: u32) -> Failure {
        Failure::NotFound { cid, asked, failed: Vec::new(), more: 0 }
    }

    /// That it did not come from those either who were said to have it.
    pub fn not_given(cid: Cid, asked: u32, mut failed: Vec<Provider>) -> Failure {
        let more = u32::try_from(failed.len().saturating_sub(PROVIDERS_MAX)).unwrap_or(u32::MAX);
        failed.truncate(PROVIDERS_MAX);
        Failure::NotFound { cid, asked, failed, more }
    }

    /// The name under which scripts and the API know this failure.
    pub fn code(&self) -> &'static str {
        match self {
            Failure::NotFound { .. } => "NotFound",
            Failure::NoExecutor { .. } => "NoExecutor",
            Failure::Overloaded { .. } => "Overloaded",
            Failure::Denied { .. } => "Denied",
            Failure::Rejected { .. } => "Rejected",
            Failure::FunctionFailed { .. } => "FunctionFailed",
            Failure::LimitExceeded { .. } => "LimitExceeded",
            Failure::DeadlineExceeded { .. } => "DeadlineExceeded",
            Failure::BadArgument { .. } => "BadArgument",
            Failure::Cancelled => "Cancelled",
            Failure::StorageFull { .. } => "StorageFull",
            Failure::Corrupt { .. } => "Corrupt",
            Failure::NodeFailed { .. } => "NodeFailed",
            Failure::MayHaveRun { .. } => "MayHaveRun",
        }
    }

    /// What the user can do about it.
    pub fn hint(&self) -> String {
        match self {
            Failure::NotFound { asked: 0, failed, .. } if failed.is_empty() => {
                "this node has no peers: join one with --join, or add the content here".into()
            }
            Failure::NotFound { .. } => "check the CID, or join a node that holds it".into(),
            Failure::NoExecutor { .. } => "start a node with the role executor, and trust its key with --trust".into(),
            Failure::Overloaded { retry_after_ms } => format!("try again in {retry_after_ms} ms"),
            Failure::Denied { .. } => "ask the node's operator to add your key with --trust (timerose id shows it)".into(),
            Failure::Rejected { .. } => "mend the module or its manifest, and deploy again".into(),
            Failure::FunctionFailed { .. } => "read the guest's message above".into(),
            Failure::LimitExceeded { which, .. } if which == "input" => {
                "raise limits.memory in the manifest and deploy again: input may take half of it".into()
            }
            Failure::LimitExceeded { which, .. } => {
                format!(
                    "raise limits.{} in the manifest and deploy again, or give it less to do",
                    if which == "time" { "timeout_ms" } else { which }
                )
            }
            Failure::DeadlineExceeded { .. } => "allow more with --timeout".into(),
            Failure::BadArgument { .. } => "timerose abi FN shows what the function takes".into(),
            Failure::Cancelled => "call again".into(),
            Failure::StorageFull { max: Some(_), .. } => {
                "raise --storage-max, or remove pins that are not needed (timerose pin ls); what is young may go later, and nothing is lost"
                    .into()
            }
            Failure::StorageFull { .. } => {
                "free space on that disk and try again; nothing that was stored is lost, and the node need not be restarted"
                    .into()
            }
            Failure::Corrupt { .. } => {
                "add the content again, or join a node that has it; timerose repo verify shows what else is damaged".into()
            }
            Failure::NodeFailed { .. } => "the node's log says more; another node may do it".into(),
            Failure::MayHaveRun { .. } => "look whether its effects are there; another --seq runs it again".into(),
        }
    }

    /// Whether another executor may do better: the fault was the node's, not the work's.
    pub fn is_retriable(&self) -> bool {
        matches!(
            self,
            Failure::NodeFailed { .. } | Failure::StorageFull { .. } | Failure::Corrupt { .. } | Failure::Overloaded { .. }
        )
    }
}

impl fmt::Display for Failure {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Failure::NotFound { cid, asked, failed, more } => {
                write!(f, "{cid} was not found; {asked} peers were asked")?;
                failed.iter().try_for_each(|Provider { peer, why }| write!(f, "; {peer} was said to have it: {why}"))?;
                if *more > 0 { write!(f, "; and {more} more") } else { Ok(()) }
            }
            Failure::NoExecutor { needed, seen } => write!(f, "no executor for {needed} among {seen} members"),
            Failure::Overloaded { .. } => write!(f, "all executors and the queue are full"),
            Failure::Denied { rule, missing } => write!(f, "denied by the rule {rule:?}: {missing} is missing"),
            Failure::Rejected { finding } => write!(f, "{finding}"),
            Failure::FunctionFailed { exit, stderr } if stderr.is_empty() => {
                write!(f, "the function failed with exit code {exit}")
            }
            Failure::FunctionFailed { exit, stderr } => write!(f, "the function failed with exit code {exit}: {stderr}"),
            Failure::LimitExceeded { which, at } => {
                let unit = match which.as_str() {
                    "time" => "ms",
                    "fuel" => "units",
                    _ => "bytes",
                };
                write!(f, "the function went over its {which} limit of {at} {unit}")
            }
            Failure::DeadlineExceeded { stage } => write!(f, "the deadline passed while {stage}"),
            Failure::BadArgument { index, wanted, got } => write!(f, "argument {index}: wanted {wanted}, got {got}"),
            Failure::Cancelled => write!(f, "cancelled"),
            Failure::StorageFull { at, max: Some(max) } => {
                write!(f, "the blocks in {at} have reached the {max} bytes that they may take")
            }
            Failure::StorageFull { at, max: None } => write!(f, "no space left on the disk of {at}"),
            Failure::Corrupt { cid, at } => write!(f, "{cid} is corrupt in {at}"),
            Failure::NodeFailed { what } => write!(f, "a node failed: {what}"),
            Failure::MayHaveRun { what } => write!(f, "the work may have run: {what}"),
        }
    }
}

impl core::error::Error for Failure {}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::id::{RAW, cid_of};
    use alloc::string::ToString;

    fn providers(count: usize) -> Vec<Provider> {
        (0..count).map(|n| Provider { peer: format!("p{n}"), why: "it did not give it".into() }).collect()
    }

    #[test]
    fn of_many_who_did_not_give_a_block_some_are_named_and_the_others_counted() {
        let cid = cid_of(RAW, b"lost");
        let few = Failure::not_given(cid, 3, providers(PROVIDERS_MAX));
        assert!(few.to_string().ends_with("; p7 was said to have it: it did not give it"), "{few}");
        let many = Failure::not_given(cid, 3, providers(PROVIDERS_MAX + 5));
        assert!(many.to_string().ends_with("; p7 was said to have it: it did not give it; and 5 more"), "{many}");
    }

    #[test]
    fn a_peer_that_names_many_is_heard_on_the_first() {
        let cid = cid_of(RAW, b"lost");
        let said = Failure::NotFound { cid, asked: 3, failed: providers(100), more: 2 };
        let bytes = serde_ipld_dagcbor::to_vec(&said).expect("encoded");
        let heard: Failure = serde_ipld_dagcbor::from_slice(&bytes).expect("a failure");
        assert_eq!(heard, Failure::NotFound { cid, asked: 3, failed: providers(PROVIDERS_MAX), more: 2 });
    }
}
