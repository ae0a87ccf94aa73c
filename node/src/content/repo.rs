//! Checking the store, at a user's request.

use timerose_content::Content;
use tokio::sync::mpsc;

use super::{blocking, of_store};
use crate::ports::RepoNews;

/// Blocks between two reports of progress.
const TELL_EVERY: u64 = 64;

/// Reads and hashes every block; ends when nobody listens any more.
pub(super) async fn verify(content: Content, repair: bool, news: mpsc::Sender<RepoNews>) {
    let heard = news.clone();
    let checked = blocking(move || {
        let store = content.store();
        let blocks = store.stat().map_err(|e| of_store(&e))?.blocks;
        let mut tell = |checked: u64| {
            if checked.is_multiple_of(TELL_EVERY) {
                // Whoever is slow to take progress misses some.
                let _ = heard.try_send(RepoNews::Progress { checked, blocks });
            }
            !heard.is_closed()
        };
        store.verify(repair, &mut tell).map_err(|e| of_store(&e))
    });
    let _ = news.send(RepoNews::Ended(checked.await)).await;
}
