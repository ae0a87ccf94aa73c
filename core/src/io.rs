//! The whole contract between the core and the world: two closed enums.
//!
//! An [`Output`] that wants an answer bears a [`Ticket`]; the [`Input`] that answers repeats it.

use alloc::string::String;
use alloc::sync::Arc;
use alloc::vec::Vec;
use cid::Cid;
use serde::{Deserialize, Serialize};
use serde_bytes::ByteBuf;

use crate::capability::Advert;
use crate::envelope::{Opened, Post, Via};
use crate::failure::Failure;
use crate::function::Function;
use crate::id::NodeId;
use crate::job::{File, JobDone, JobProgress, JobSpec};
pub use crate::message::Here;
use crate::message::Message;
use crate::placement::Ranking;
use crate::promise::{Asked, Class, JournalEntry};
pub use crate::promise::{WorkState, WorkView};
use crate::record::Verified;
use crate::recorded;
use crate::span::{Context, Question, Reply, Seen};
pub use crate::statement::{Exit, Memo, Names, SIGNED_MAX, Sealed, Statement};
use crate::task::{Done, Task, Usage};

/// Names a request of this node's own users: a call, a job, an import.
pub type Request = u64;

/// Who in the core asked for something, and for which of its items.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
pub enum Ticket {
    /// The scheduler, for a call.
    Call(u64),
    /// The executor, for a piece of work.
    Work(u64),
    /// The job runner, for a job.
    Job(u64),
    /// The job runner, for its question of that number what lies here.
    JobHave(u64),
    /// The store keeper, for a batch that a peer asked this node to keep.
    Hold(NodeId, u64),
    /// The store keeper, for a peer's question of what lies here.
    Holds(NodeId, u64),
    /// The job runner, for its look-up of that number.
    JobMemo(u64),
    /// The memory, for a peer's question of that number.
    Recall(NodeId, u64),
    /// The ledger, for the acceptance of work.
    Accept(u64),
    /// The ledger, for the result of its work of that number.
    Keep(u64),
    /// The ledger, for the end of work.
    End(u64),
    /// A search for receipts, of that number.
    Search(u64),
    /// An inquiry of this node's users, of that number.
    Inquiry(u64),
    /// A peer's inquiry of that number.
    Inform(NodeId, u64),
    /// A peer's question of that number for a block.
    Give(NodeId, u64),
}

/// What happened. It can be written down and read back, so that a node's decisions can be replayed.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub enum Input {
    /// What the journal holds: the first input of a node, before it promises anything.
    Restored {
        /// The live entries, one a key.
        entries: Vec<JournalEntry>,
    },
    /// The time has come that [`Node::next_wakeup`](crate::node::Node::next_wakeup) named, or a node begins.
    Tick,
    /// A user asks for a call.
    Submit {
        /// Names it.
        request: Request,
        /// What is to be run.
        task: Task,
        /// How long the user waits, in milliseconds.
        timeout_ms: u64,
        /// Whether the result of an equal task will do.
        memo: bool,
        /// The manifest, where it was read before.
        #[serde(with = "recorded::perhaps")]
        function: Option<Arc<Function>>,
        /// The task's memo key, where it is known that nothing is remembered here under it.
        new: Option<Cid>,
        /// Who asks: calls of one client share a turn.
        client: u64,
        /// How it has to travel; `None`: by a stream where one stands, by PubSub elsewhere.
        via: Option<Via>,
        /// The trace that it is part of.
        trace: Option<Context>,
    },
    /// A user asks where a call would run. Answered by [`Output::Ranked`].
    Where {
        /// Names the request.
        request: Request,
        /// The call; without arguments the function alone is looked at.
        task: Task,
        /// How long the user waits, in milliseconds.
        timeout_ms: u64,
    },
    /// A user asks for receipts.
    Search {
        /// Names the request.
        request: Request,
        /// What they are of: results, TaskIds, or receipts; at most [`crate::message::KEYS_MAX`].
        of: Vec<Cid>,
    },
    /// A user asks for a job.
    SubmitJob {
        /// Names it.
        request: Request,
        /// The job's CID.
        job: Cid,
        /// What is to be run.
        spec: JobSpec,
        /// Whether tasks go where their data lies.
        locality: bool,
        /// How long the user waits, in milliseconds.
        timeout_ms: u64,
        /// Whether results of equal tasks will do.
        memo: bool,
        /// The trace that it is part of.
        trace: Option<Context>,
    },
    /// A user asks what the nodes of the mesh saw.
    Inquire {
        /// Names the request.
        request: Request,
        /// Of what.
        question: Question,
    },
    /// A user takes a request back, or is gone.
    Cancel {
        /// Which.
        request: Request,
    },
    /// A user wants work done that outlives the request. Answered by [`Output::Accepted`].
    Accept {
        /// Names the request.
        request: Request,
        /// Names the work: a call's TaskId with this node as its subject, a job's CID.
        handle: Cid,
        /// What is to be done.
        asked: Asked,
        /// How long it is tried, in milliseconds.
        timeout_ms: u64,
    },
    /// A user asks how accepted work is. Answered by [`Output::Works`].
    Ask {
        /// Names the request.
        request: Request,
        /// Which; none means all.
        handle: Option<Cid>,
        /// Whether the answer has time until the work has ended.
        wait: bool,
    },
    /// A user takes accepted work back. Answered by [`Output::Works`].
    Revoke {
        /// Names the request.
        request: Request,
        /// Which.
        handle: Cid,
    },
    /// An import has blocks and asks where they go.
    Place {
        /// The import.
        request: Request,
        /// For each file the block that decides where it goes, and its blocks; together at most
        /// [`crate::message::CIDS_MAX`] blocks.
        files: Vec<(Cid, Vec<Cid>)>,
        /// How many stores are to keep each block.
        copies: u8,
    },
    /// A peer said something.
    Message {
        /// The authenticated sender.
        from: NodeId,
        /// What it said.
        message: Message,
    },
    /// A letter came on one of this node's topics.
    Posted(Opened),
    /// An advert came on the members topic.
    Heard {
        /// A verified one.
        #[serde(with = "recorded::one")]
        advert: Verified<Advert>,
    },
    /// One more peer listens to the members topic.
    Audience,
    /// A peer passed adverts on.
    Adverts {
        /// The authenticated sender.
        from: NodeId,
        /// Verified ones only.
        #[serde(with = "recorded::many")]
        adverts: Vec<Verified<Advert>>,
    },
    /// A peer tells receipts: an answer, or to be remembered.
    Receipts {
        /// The authenticated sender.
        from: NodeId,
        /// The question, as in [`Frame::Receipts`](crate::message::Frame::Receipts).
        query: u64,
        /// Those whose signatures are right.
        receipts: Vec<Memo>,
    },
    /// The first connection to a peer stands.
    PeerUp {
        /// Who.
        peer: NodeId,
    },
    /// The last connection to a peer is gone.
    PeerGone {
        /// Who.
        peer: NodeId,
    },
    /// This node is about to end: whoever listens is told.
    Leave,
    /// A measured round trip.
    Rtt {
        /// With whom.
        peer: NodeId,
        /// Microseconds.
        us: u64,
    },
    /// The addresses on which this node can be dialled changed.
    Listening {
        /// All of them, as multiaddrs.
        addrs: Vec<String>,
    },
    /// Answer to [`Output::SignAdvert`].
    AdvertSigned {
        /// This node's own.
        #[serde(with = "recorded::one")]
        advert: Verified<Advert>,
    },
    /// Answer to [`Output::Load`].
    Loaded {
        /// Who asked.
        ticket: Ticket,
        /// The manifest.
        #[serde(with = "recorded::shared")]
        function: Result<Arc<Function>, Failure>,
    },
    /// Answer to [`Output::Fetch`].
    Fetched {
        /// Who asked.
        ticket: Ticket,
        /// Bytes that came from other nodes.
        bytes: Result<u64, Failure>,
    },
    /// Answer to [`Output::List`].
    Listed {
        /// Who asked.
        ticket: Ticket,
        /// The files below the root, in path order.
        files: Result<Vec<File>, Failure>,
    },
    /// Answer to [`Output::Have`].
    Have {
        /// Who asked.
        ticket: Ticket,
        /// Which are here.
        here: Here,
    },
    /// Answer to [`Output::Read`].
    Read {
        /// Who asked.
        ticket: Ticket,
        /// The block, unless it is not here or too large.
        bytes: Option<ByteBuf>,
    },
    /// Answer to [`Output::Start`].
    Exited {
        /// Who asked.
        ticket: Ticket,
        /// What came of it.
        exit: Result<Exit, Failure>,
    },
    /// Answer to every [`Output::Sign`] that it names.
    Signed {
        /// Who asked, each with the signed receipt; at most [`SIGNED_MAX`].
        receipts: Vec<(Ticket, Sealed)>,
    },
    /// Answer to [`Output::Persist`].
    Persisted {
        /// Who asked.
        ticket: Ticket,
        /// Whether the journal has the entry.
        result: Result<(), Failure>,
    },
    /// Answer to [`Output::Inquire`].
    Informed {
        /// Who asked.
        ticket: Ticket,
        /// What was seen here.
        reply: Reply,
    },
    /// Answer to [`Output::Identify`].
    Identified {
        /// Who asked.
        ticket: Ticket,
        /// The TaskId.
        task: Cid,
    },
    /// Answer to [`Output::Recall`].
    Recalled {
        /// Who asked.
        ticket: Ticket,
        /// What was looked up, in order: memo keys, or the other names of a receipt.
        keys: Vec<Cid>,
        /// For each, what is remembered.
        found: Vec<Option<Memo>>,
    },
}

/// What is to be done.
#[derive(Clone, Debug)]
pub enum Output {
    /// Say something to a peer. It may get lost; whoever needs an answer keeps a timer.
    Send {
        /// To whom.
        to: NodeId,
        /// What.
        message: Message,
    },
    /// Seal a letter and publish it. It may get lost: it comes again until it is acknowledged.
    Post(Post),
    /// Publish this node's advert on the members topic.
    Announce {
        /// The envelope.
        sealed: Vec<u8>,
    },
    /// Pass adverts on to a peer.
    SendAdverts {
        /// To whom.
        to: NodeId,
        /// The envelopes as they were received.
        sealed: Vec<Vec<u8>>,
    },
    /// Sign what this node says of itself.
    SignAdvert {
        /// What it says.
        advert: Advert,
    },
    /// Try to connect.
    Dial {
        /// Whom, where it is known.
        peer: Option<NodeId>,
        /// Where: any of these multiaddrs.
        addrs: Vec<String>,
    },
    /// Read a function's manifest, from peers where it is not here.
    Load {
        /// Who asks.
        ticket: Ticket,
        /// Its CID.
        function: Cid,
        /// Who is likely to have it.
        hints: Vec<NodeId>,
    },
    /// Put down a manifest that came by letter, if it is what it should be. Answered by [`Input::Loaded`].
    Learn {
        /// Who asks.
        ticket: Ticket,
        /// Its CID.
        function: Cid,
        /// The block, still to be checked.
        block: ByteBuf,
    },
    /// Bring content here.
    Fetch {
        /// Who asks.
        ticket: Ticket,
        /// What.
        roots: Vec<Cid>,
        /// Whether all that is linked from it is wanted as well.
        recursive: bool,
        /// Whether what is here already must be safe on the disk too, before this is answered.
        durable: bool,
        /// Who is likely to have it.
        hints: Vec<NodeId>,
    },
    /// Stop bringing content here, or running, or whatever the ticket was for. Not answered by itself, but what was
    /// started still ends with [`Input::Exited`]: the slot is taken until then.
    Stop {
        /// Who asked.
        ticket: Ticket,
    },
    /// List the files of a data set.
    List {
        /// Who asks.
        ticket: Ticket,
        /// A folder or a file.
        root: Cid,
    },
    /// Say which blocks are here and, of at most [`crate::message::SIZES_MAX`], how long the files below them are.
    Have {
        /// Who asks.
        ticket: Ticket,
        /// Which.
        cids: Vec<Cid>,
    },
    /// Read a block that is here, of at most [`crate::message::RESULT_MAX`] bytes.
    Read {
        /// Who asks.
        ticket: Ticket,
        /// Which.
        cid: Cid,
    },
    /// Put down the bytes of a result that came along with its outcome, if they are what it says. Answered by
    /// [`Input::Message`] with the outcome alone.
    Unpack {
        /// Who sent it.
        from: NodeId,
        /// The lease of which it is the outcome.
        lease: u64,
        /// The outcome.
        done: Done,
        /// The bytes, still to be checked.
        body: ByteBuf,
    },
    /// Run a task whose code and arguments are here.
    Start {
        /// Who asks.
        ticket: Ticket,
        /// The manifest.
        function: Arc<Function>,
        /// The task.
        task: Task,
        /// Whose task it is: the id depends on it.
        subject: NodeId,
        /// What was spent on it before: the fetching.
        spent: Usage,
        /// The trace that it is part of.
        trace: Option<Context>,
    },
    /// Sign a receipt, together with those that are waiting.
    Sign {
        /// Who asks.
        ticket: Ticket,
        /// What is to be signed.
        statement: Statement,
        /// Whether an answer waits for it.
        urgent: bool,
    },
    /// Keep receipts under their names.
    Remember {
        /// Which.
        receipts: Vec<Sealed>,
    },
    /// Say what is remembered.
    Recall {
        /// Who asks.
        ticket: Ticket,
        /// Of what; at most [`crate::message::KEYS_MAX`].
        of: Wanted,
    },
    /// Write an entry to the journal. Entries of one key are written in the order of these outputs.
    Persist {
        /// Who is told by [`Input::Persisted`] when it is as safe as it has to be; nobody waits where there is none.
        ticket: Option<Ticket>,
        /// What is written.
        entry: JournalEntry,
        /// How safe.
        class: Class,
    },
    /// Compute a TaskId.
    Identify {
        /// Who asks.
        ticket: Ticket,
        /// Of which task.
        task: Task,
        /// Whose task it is.
        subject: NodeId,
    },
    /// Tell receipts to a peer.
    SendReceipts {
        /// To whom.
        to: NodeId,
        /// The question, as in [`Frame::Receipts`](crate::message::Frame::Receipts).
        query: u64,
        /// The receipts with their proofs.
        sealed: Vec<Vec<u8>>,
    },
    /// Where a call would run.
    Ranked {
        /// Which request.
        request: Request,
        /// The executors as the scheduler ranks them now, or why it cannot.
        reply: Result<Ranking, Failure>,
    },
    /// A search for receipts ended.
    Searched {
        /// Which.
        request: Request,
        /// For each CID that was asked for, a receipt of it; or why nothing was searched.
        found: Result<Vec<Option<Memo>>, Failure>,
    },
    /// Keep what was seen of something that is over.
    Seen(Seen),
    /// Say what was seen here.
    Inquire {
        /// Who asks.
        ticket: Ticket,
        /// Of what.
        question: Question,
    },
    /// An inquiry ended.
    Informed {
        /// Which.
        request: Request,
        /// What each node told that knows of it; or why nobody was asked.
        replies: Result<Vec<(NodeId, Reply)>, Failure>,
    },
    /// A call ended.
    Reply {
        /// Which.
        request: Request,
        /// How, and who did it.
        reply: Result<Answer, Failure>,
    },
    /// A job went on.
    Progress {
        /// Which.
        request: Request,
        /// How far it is.
        progress: JobProgress,
    },
    /// A job ended.
    JobReply {
        /// Which.
        request: Request,
        /// How.
        reply: Result<JobDone, Failure>,
    },
    /// Work was accepted, and is done even if this node dies and begins again; or it was not.
    Accepted {
        /// Which request.
        request: Request,
        /// Why not.
        reply: Result<(), Failure>,
    },
    /// How accepted work is.
    Works {
        /// Which request.
        request: Request,
        /// What is known of what was asked about, in order of acceptance.
        works: Vec<WorkView>,
    },
    /// A copy of some of an import's blocks has its place: there is one such word for each copy of a block.
    Placed {
        /// The import.
        request: Request,
        /// Which.
        cids: Vec<Cid>,
        /// Where they are durable; this node itself means: keep them. `None`: no store is left for this copy.
        at: Option<NodeId>,
    },
}

/// The result of a call.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Answer {
    /// The result.
    pub done: Done,
    /// Who ran it.
    pub executor: NodeId,
    /// How many executors were asked in all.
    pub claims: u32,
    /// Microseconds from submission to outcome.
    pub total_us: u64,
}

/// What is looked up in the memory.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Wanted {
    /// Tasks, whose memo keys are still to be computed.
    Tasks(Vec<Task>),
    /// Memo keys, or other names of receipts.
    Keys(Vec<Cid>),
}
