//! What this node tells the DHT that it has: a queue that announces at once what is new and sweeps the rest before it expires.
//!
//! Roots are what is pinned, deployed functions among it: they are announced again and again. Results are announced once, when
//! they are made: a result can be made again, and one that matters is pinned. While many are made none is announced, and the latest wait
//! for a quiet second: an announcement costs more than a small call. The driver of the swarm takes from the queue, at a
//! pace; the content driver fills it; the API shows it. Nothing of it is kept on disk: pins are, and the sweep begins with them.

use cid::Cid;
use parking_lot::Mutex;
use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::sync::Arc;
use std::time::Duration;
use timerose_content::RAW;
use tokio::sync::Notify;
use tokio::time::{Instant, sleep_until};

/// How long a record of a provider stands at those who keep it.
pub(crate) const EXPIRES: Duration = Duration::from_secs(48 * 3600);
/// After so long a root is announced again.
const EVERY: Duration = Duration::from_secs(22 * 3600);
/// A root that is due for longer is late.
const LATE: Duration = Duration::from_secs(600);
/// Between two announcements at least.
const PACE: Duration = Duration::from_millis(50);
/// Announcements under way at the same time.
const IN_FLIGHT: usize = 8;
/// Roots that are announced; further ones are left out, and counted.
pub(crate) const ROOTS_MAX: usize = 1 << 16;
/// Results that wait; the oldest give way, and are counted.
const RESULTS_MAX: usize = 1024;
/// Results of one second beyond which they wait until so long after the last of such a rush.
const RUSH: u32 = 20;
const QUIET: Duration = Duration::from_secs(1);
/// How long a root waits that could not be announced: at first, and at most.
const RETRY: Duration = Duration::from_secs(60);
const RETRY_MAX: Duration = Duration::from_secs(3600);
/// The code of hashes that are the content itself: nobody need look for it.
const IDENTITY: u64 = 0;

/// The queue, shared. Cheap to clone.
#[derive(Clone, Default)]
pub(crate) struct Announcements(Arc<Shared>);

#[derive(Default)]
struct Shared {
    queue: Mutex<Queue>,
    news: Notify,
}

/// The state of the queue.
#[derive(Clone, Debug, Default, PartialEq, Eq, serde::Serialize)]
pub(crate) struct Stat {
    /// Roots whose announcement stands.
    pub announced: usize,
    /// Roots and results that were never announced.
    pub waiting: usize,
    /// Roots whose announcement should have been renewed by now.
    pub late: usize,
    /// Roots whose last announcement failed.
    pub failed: usize,
    /// Results announced since the node began.
    pub results: u64,
    /// Roots and results for which there was no room.
    pub left_out: u64,
    /// Seconds until the next root is announced again.
    pub next_s: Option<u64>,
    /// Why the last announcement that failed did.
    pub last_error: Option<String>,
}

impl Announcements {
    /// A root is here from now on.
    pub fn root(&self, cid: &Cid) {
        self.0.queue.lock().root(Instant::now(), cid);
        self.0.news.notify_one();
    }

    /// A result was made.
    pub fn result(&self, cid: &Cid) {
        if self.0.queue.lock().result(Instant::now(), cid) {
            self.0.news.notify_one();
        }
    }

    /// A root is no longer kept.
    pub fn withdraw(&self, cid: &Cid) {
        self.0.queue.lock().withdraw(cid);
    }

    /// How it stands.
    pub fn stat(&self) -> Stat {
        self.0.queue.lock().stat(Instant::now())
    }

    /// What is announced next, if something is due. Each that is given ends with [`Announcements::ended`].
    pub fn next(&self) -> Option<Cid> {
        self.0.queue.lock().next(Instant::now())
    }

    /// Waits until something may be due. Dropping the future loses nothing.
    pub async fn due(&self) {
        let at = self.0.queue.lock().due();
        match at {
            Some(at) => tokio::select! {
                () = sleep_until(at) => {}
                () = self.0.news.notified() => {}
            },
            None => self.0.news.notified().await,
        }
    }

    /// Whether this is a root.
    pub fn is_root(&self, cid: &Cid) -> bool {
        self.0.queue.lock().roots.contains_key(cid)
    }

    /// An announcement has ended. Says whether its content is a root.
    pub fn ended(&self, cid: &Cid, how: Result<(), String>) -> bool {
        self.0.queue.lock().ended(Instant::now(), cid, how)
    }
}

/// The same content by any of its CIDs: the DHT knows hashes alone.
pub(crate) fn by_hash(cid: &Cid) -> Cid {
    Cid::new_v1(RAW, *cid.hash())
}

#[derive(Clone, Copy)]
struct Root {
    due: Instant,
    announced: Option<Instant>,
    failures: u32,
}

#[derive(Default)]
struct Queue {
    roots: BTreeMap<Cid, Root>,
    /// Roots that are not under way, by when they are due.
    order: BTreeSet<(Instant, Cid)>,
    results: VecDeque<Cid>,
    /// When the present second of results began, and how many came in it.
    second: Option<(Instant, u32)>,
    /// Until when results wait.
    quiet: Option<Instant>,
    under_way: BTreeSet<Cid>,
    /// Whether a result comes before a root: they take turns.
    results_turn: bool,
    /// When the next may begin.
    free: Option<Instant>,
    results_done: u64,
    left_out: u64,
    last_error: Option<String>,
}

impl Queue {
    fn root(&mut self, now: Instant, cid: &Cid) {
        let key = by_hash(cid);
        if cid.hash().code() == IDENTITY || self.roots.contains_key(&key) {
            return;
        }
        if self.roots.len() >= ROOTS_MAX {
            self.left_out += 1;
            return;
        }
        self.roots.insert(key, Root { due: now, announced: None, failures: 0 });
        if !self.under_way.contains(&key) {
            self.order.insert((now, key));
        }
    }

    /// Says whether whoever takes from the queue should be told.
    fn result(&mut self, now: Instant, cid: &Cid) -> bool {
        let key = by_hash(cid);
        if cid.hash().code() == IDENTITY || self.results.back() == Some(&key) || self.roots.contains_key(&key) {
            return false;
        }
        if self.results.len() >= RESULTS_MAX {
            self.results.pop_front();
            self.left_out += 1;
        }
        self.results.push_back(key);
        let (since, count) = self.second.filter(|(since, _)| now < *since + QUIET).unwrap_or((now, 0));
        self.second = Some((since, count + 1));
        if count >= RUSH {
            self.quiet = Some(now + QUIET);
        }
        self.results.len() == 1
    }

    fn withdraw(&mut self, cid: &Cid) {
        let key = by_hash(cid);
        if let Some(root) = self.roots.remove(&key) {
            self.order.remove(&(root.due, key));
        }
    }

    fn next(&mut self, now: Instant) -> Option<Cid> {
        if self.under_way.len() >= IN_FLIGHT || self.free.is_some_and(|free| now < free) {
            return None;
        }
        let root = self.order.first().filter(|(due, _)| *due <= now).copied();
        let result = !self.results.is_empty() && self.quiet.is_none_or(|quiet| quiet <= now);
        let cid = match root {
            Some(first) if !self.results_turn || !result => {
                self.order.remove(&first);
                self.results_turn = true;
                first.1
            }
            _ => {
                self.results_turn = false;
                self.results.pop_front_if(|_| result)?
            }
        };
        self.free = Some(now + PACE);
        self.under_way.insert(cid);
        Some(cid)
    }

    fn due(&self) -> Option<Instant> {
        if self.under_way.len() >= IN_FLIGHT {
            return None;
        }
        let root = self.order.first().map(|(due, _)| *due);
        let result = (!self.results.is_empty()).then(|| self.quiet.or(self.free).unwrap_or_else(Instant::now));
        let work = root.into_iter().chain(result).min()?;
        Some(self.free.map_or(work, |free| free.max(work)))
    }

    fn ended(&mut self, now: Instant, cid: &Cid, how: Result<(), String>) -> bool {
        self.under_way.remove(cid);
        let Some(root) = self.roots.get_mut(cid) else {
            self.results_done += u64::from(how.is_ok());
            self.last_error = how.err().or(self.last_error.take());
            return false;
        };
        match how {
            Ok(()) => *root = Root { due: now + EVERY, announced: Some(now), failures: 0 },
            Err(why) => {
                root.due = now + (RETRY * (1 << root.failures.min(6))).min(RETRY_MAX);
                root.failures += 1;
                self.last_error = Some(why);
            }
        }
        self.order.insert((root.due, *cid));
        true
    }

    fn stat(&self, now: Instant) -> Stat {
        let count = |is: &dyn Fn(&Root) -> bool| self.roots.values().filter(|root| is(root)).count();
        let stands = |root: &Root| root.announced.is_some_and(|at| now < at + EXPIRES);
        let renewed = self.roots.values().filter(|root| root.announced.is_some()).map(|root| root.due).min();
        Stat {
            announced: count(&stands),
            waiting: count(&|root| root.announced.is_none()) + self.results.len(),
            late: count(&|root| root.announced.is_some_and(|at| now > at + EVERY + LATE)),
            failed: count(&|root| root.failures > 0),
            results: self.results_done,
            left_out: self.left_out,
            next_s: renewed.map(|due| due.saturating_duration_since(now).as_secs()),
            last_error: self.last_error.clone(),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use timerose_content::Block;

    fn cid(number: u64) -> Cid {
        *Block::encode(RAW, number.to_be_bytes().to_vec()).expect("small").cid()
    }

    /// Takes what is due, one after another as fast as the pace allows.
    fn take(queue: &mut Queue, now: &mut Instant) -> Vec<Cid> {
        let mut taken = Vec::new();
        while let Some(cid) = queue.next(*now) {
            taken.push(cid);
            queue.ended(*now, &cid, Ok(()));
            *now += PACE;
        }
        taken
    }

    #[test]
    fn a_root_is_announced_at_once_and_again_before_its_record_expires() {
        let (mut queue, mut now) = (Queue::default(), Instant::now());
        queue.root(now, &cid(1));
        assert_eq!(queue.stat(now).waiting, 1);
        assert_eq!(take(&mut queue, &mut now), [cid(1)]);
        let stat = queue.stat(now);
        assert_eq!((stat.announced, stat.waiting, stat.late), (1, 0, 0));
        assert!(queue.next(now + EVERY - LATE).is_none());
        let stat = queue.stat(now + EVERY + 2 * LATE);
        assert_eq!((stat.announced, stat.late), (1, 1));
        now += EVERY;
        assert_eq!(take(&mut queue, &mut now), [cid(1)]);
        assert_eq!(queue.stat(now + EXPIRES + LATE).announced, 0, "nobody announced it for too long");
        assert!(EVERY + LATE + RETRY_MAX < EXPIRES);
    }

    #[test]
    fn announcements_keep_their_pace_and_few_are_under_way() {
        let (mut queue, mut now) = (Queue::default(), Instant::now());
        (0..20).for_each(|number| queue.root(now, &cid(number)));
        let mut begun = 0;
        while queue.next(now).is_some() {
            assert!(queue.next(now).is_none(), "no two at once");
            begun += 1;
            now += PACE;
        }
        assert_eq!(begun, IN_FLIGHT);
        assert_eq!(queue.due(), None, "until one ends");
    }

    #[test]
    fn what_fails_is_tried_again_later_and_shown() {
        let (mut queue, now) = (Queue::default(), Instant::now());
        queue.root(now, &cid(1));
        let first = queue.next(now).expect("due");
        assert!(queue.ended(now, &first, Err("nobody took it".into())));
        let stat = queue.stat(now);
        assert_eq!((stat.failed, stat.announced, stat.last_error.as_deref()), (1, 0, Some("nobody took it")));
        assert!(queue.next(now + RETRY / 2).is_none());
        assert_eq!(queue.next(now + RETRY), Some(first));
    }

    #[test]
    fn results_are_announced_once_in_turn_with_roots_and_the_oldest_give_way() {
        let (mut queue, mut now) = (Queue::default(), Instant::now());
        (0..3).for_each(|number| queue.root(now, &cid(number)));
        (0..RESULTS_MAX as u64 + 2).for_each(|number| _ = queue.result(now, &cid(1000 + number)));
        assert_eq!((queue.stat(now).left_out, queue.results.len()), (2, RESULTS_MAX));
        now += QUIET;
        let taken = take(&mut queue, &mut now);
        assert_eq!(taken.len(), RESULTS_MAX + 3);
        assert_eq!(taken.iter().take(4).filter(|taken| queue.roots.contains_key(taken)).count(), 2, "in turn");
        now += EVERY;
        assert_eq!(take(&mut queue, &mut now).len(), 3, "roots alone come again");
    }

    #[test]
    fn few_results_are_announced_at_once_and_many_wait_for_a_quiet_second() {
        let (mut queue, begun) = (Queue::default(), Instant::now());
        let mut now = begun;
        for number in 0..u64::from(RUSH) {
            queue.result(now, &cid(number));
            assert_eq!(take(&mut queue, &mut now), [cid(number)], "as they come");
        }
        (100..200).for_each(|number| _ = queue.result(now, &cid(number)));
        queue.root(now, &cid(1000));
        assert_eq!(take(&mut queue, &mut now), [cid(1000)], "a root does not wait");
        let last = now;
        queue.result(last, &cid(200));
        assert_eq!((queue.due(), take(&mut queue, &mut now)), (Some(last + QUIET), vec![]));
        now = last + QUIET;
        assert_eq!(take(&mut queue, &mut now).len(), 101);
    }

    #[test]
    fn what_is_withdrawn_is_not_announced_again_and_too_many_roots_are_left_out() {
        let (mut queue, now) = (Queue::default(), Instant::now());
        queue.root(now, &cid(1));
        let first = queue.next(now).expect("due");
        queue.withdraw(&cid(1));
        assert!(!queue.ended(now, &first, Ok(())));
        assert!(queue.next(now + EVERY).is_none());
        (0..ROOTS_MAX as u64 + 1).for_each(|number| queue.root(now, &cid(number)));
        assert_eq!((queue.roots.len(), queue.stat(now).left_out), (ROOTS_MAX, 1));
    }
}
