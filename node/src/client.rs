//! The handle by which a node's users ask its core: the API's routes, and programs that have the node in their process.
//!
//! The loop hands answers straight to whoever waits: there is no queue between, and nothing that could be full.

use cid::Cid;
use parking_lot::Mutex;
use std::collections::HashMap;
use std::sync::Arc;
use std::time::Duration;
use timerose_core::envelope::Via;
use timerose_core::failure::Failure;
use timerose_core::id::NodeId;
use timerose_core::io::{Answer, Input, Memo, Output, Request, WorkView};
use timerose_core::job::{JobDone, JobProgress, JobSpec};
use timerose_core::placement::Ranking;
use timerose_core::promise::Asked;
use timerose_core::span::{Context, Question, Reply};
use timerose_core::task::Task;
use tokio::sync::{mpsc, oneshot};

use crate::ports::{Functions, Known, Requests, WorkSender};

/// Progress reports of one job, or of one check, that wait for its reader; further ones are left out.
pub(crate) const PROGRESS_QUEUE: usize = 16;

type Waiting<T> = Mutex<HashMap<Request, oneshot::Sender<Result<T, Failure>>>>;

/// Asks a node's core. Cheap to clone.
#[derive(Clone)]
pub struct Client(Arc<Inner>);

struct Inner {
    work: WorkSender,
    requests: Requests,
    functions: Functions,
    known: Known,
    calls: Waiting<Answer>,
    rankings: Waiting<Ranking>,
    searches: Waiting<Vec<Option<Memo>>>,
    inquiries: Waiting<Vec<(NodeId, Reply)>>,
    accepts: Waiting<()>,
    works: Waiting<Vec<WorkView>>,
    jobs: Mutex<HashMap<Request, mpsc::Sender<JobNews>>>,
}

/// What is heard of a job.
pub(crate) enum JobNews {
    /// How far it is.
    Progress(JobProgress),
    /// How it ended.
    Ended(Result<JobDone, Failure>),
}

impl Client {
    /// A client that gives new work to the loop by `work`. It saves the loop some questions by what is known beside it.
    pub(crate) fn new(work: WorkSender, requests: Requests, functions: Functions, known: Known) -> Client {
        let (calls, rankings, searches, inquiries, accepts, works, jobs) = Default::default();
        Client(Arc::new(Inner { work, requests, functions, known, calls, rankings, searches, inquiries, accepts, works, jobs }))
    }

    /// Calls a function where it is best run, and waits for the result at most so long. With `memo` the result of an equal
    /// call will do. Calls of one `client` share a turn where there is not room for all. `via` says how it has to travel, if
    /// that matters; `trace`, what it is a part of. Dropping the future takes the call back.
    ///
    /// # Errors
    /// What the call failed with.
    pub async fn call(
        &self,
        task: Task,
        timeout: Duration,
        memo: bool,
        client: u64,
        via: Option<Via>,
        trace: Option<Context>,
    ) -> Result<Answer, Failure> {
        let timeout_ms = timeout.as_millis() as u64;
        let function = self.0.functions.get(&task.function);
        let new = memo.then(|| task.memo_key()).filter(|key| !self.0.known.may_hold(key));
        let submit = |request| Input::Submit { request, task, timeout_ms, memo, function, new, client, via, trace };
        self.ask(&self.0.calls, submit).await
    }

    /// Says where a call would run now, after at most so long. Without arguments the function alone is looked at.
    pub(crate) async fn rank(&self, task: Task, timeout: Duration) -> Result<Ranking, Failure> {
        let timeout_ms = timeout.as_millis() as u64;
        self.ask(&self.0.rankings, |request| Input::Where { request, task, timeout_ms }).await
    }

    /// Looks for receipts by any of their names, here and at the peers that this node trusts.
    pub(crate) async fn search(&self, of: Vec<Cid>) -> Result<Vec<Option<Memo>>, Failure> {
        self.ask(&self.0.searches, |request| Input::Search { request, of }).await
    }

    /// Asks this node, and the peers that it trusts, what they saw.
    pub(crate) async fn inquire(&self, question: Question) -> Result<Vec<(NodeId, Reply)>, Failure> {
        self.ask(&self.0.inquiries, |request| Input::Inquire { request, question }).await
    }

    /// Has work accepted under its handle: it is tried for so long, whether anybody waits or not.
    pub(crate) async fn accept(&self, handle: Cid, asked: Asked, timeout_ms: u64) -> Result<(), Failure> {
        self.ask(&self.0.accepts, |request| Input::Accept { request, handle, asked, timeout_ms }).await
    }

    /// Asks about accepted work, by an input that [`Output::Works`] answers.
    pub(crate) async fn works(&self, input: impl FnOnce(Request) -> Input) -> Result<Vec<WorkView>, Failure> {
        self.ask(&self.0.works, input).await
    }

    /// Runs a job; its news comes until it has ended. Dropping the guard before takes it back.
    pub(crate) async fn job(
        &self,
        (job, spec): (Cid, JobSpec),
        locality: bool,
        timeout_ms: u64,
        memo: bool,
        trace: Option<Context>,
    ) -> Result<(mpsc::Receiver<JobNews>, Guard), Failure> {
        let (news, heard) = mpsc::channel(PROGRESS_QUEUE);
        let request = self.0.requests.next();
        self.0.jobs.lock().insert(request, news);
        let guard = self.guard(request);
        self.submit(Input::SubmitJob { request, job, spec, locality, timeout_ms, memo, trace }).await?;
        Ok((heard, guard))
    }

    async fn ask<T>(&self, waiting: &Waiting<T>, input: impl FnOnce(Request) -> Input) -> Result<T, Failure> {
        let request = self.0.requests.next();
        let (sender, receiver) = oneshot::channel();
        waiting.lock().insert(request, sender);
        let guard = self.guard(request);
        self.submit(input(request)).await?;
        let answer = receiver.await.map_err(|_| ending())?;
        guard.answered();
        answer
    }

    async fn submit(&self, input: Input) -> Result<(), Failure> {
        self.0.work.send(input).await.map_err(|_| ending())
    }

    fn guard(&self, request: Request) -> Guard {
        Guard { client: self.clone(), request, armed: true }
    }

    /// Hands an answer of the core to the request that waits for it. Whoever waited may be gone; the core hears of that by
    /// [`Input::Cancel`].
    pub(crate) fn answer(&self, output: Output) {
        match output {
            Output::Reply { request, reply } => give(&self.0.calls, request, reply),
            Output::Ranked { request, reply } => give(&self.0.rankings, request, reply),
            Output::Searched { request, found } => give(&self.0.searches, request, found),
            Output::Informed { request, replies } => give(&self.0.inquiries, request, replies),
            Output::Accepted { request, reply } => give(&self.0.accepts, request, reply),
            Output::Works { request, works } => give(&self.0.works, request, Ok(works)),
            Output::Progress { request, progress } => {
                if let Some(job) = self.0.jobs.lock().get(&request) {
                    let _ = job.try_send(JobNews::Progress(progress));
                }
            }
            Output::JobReply { request, reply } => {
                if let Some(job) = self.0.jobs.lock().remove(&request) {
                    // In a task: a reader that is slow to take progress must not hold up the loop.
                    tokio::spawn(async move { job.send(JobNews::Ended(reply)).await });
                }
            }
            _ => {}
        }
    }
}

fn give<T>(waiting: &Waiting<T>, request: Request, answer: Result<T, Failure>) {
    if let Some(waiter) = waiting.lock().remove(&request) {
        let _ = waiter.send(answer);
    }
}

fn ending() -> Failure {
    Failure::NodeFailed { what: "the node is ending".into() }
}

/// Takes a request back unless it was answered.
pub(crate) struct Guard {
    client: Client,
    request: Request,
    armed: bool,
}

impl Guard {
    /// There is nothing to be taken back any more.
    pub fn answered(mut self) {
        self.armed = false;
    }
}

impl Drop for Guard {
    fn drop(&mut self) {
        if !self.armed {
            return;
        }
        let (inner, request) = (&self.client.0, self.request);
        inner.calls.lock().remove(&request);
        inner.rankings.lock().remove(&request);
        inner.searches.lock().remove(&request);
        inner.inquiries.lock().remove(&request);
        inner.accepts.lock().remove(&request);
        inner.works.lock().remove(&request);
        inner.jobs.lock().remove(&request);
        let work = inner.work.clone();
        // Outside of a runtime the node has ended with it.
        if let Ok(runtime) = tokio::runtime::Handle::try_current() {
            runtime.spawn(async move { work.send(Input::Cancel { request }).await });
        }
    }
}
