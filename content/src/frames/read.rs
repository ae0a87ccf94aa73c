//! Reads one frame off a stream: the length first, judged before anything is allocated, then the body as it comes.

use bytes::Bytes;
use futures::{AsyncRead, AsyncReadExt};
use std::io::ErrorKind;
use tokio::sync::Semaphore;

/// Bytes that a frame's buffer begins with, and that are made ready in it at once: few enough to be in the processor's cache when they are written.
const STEP: usize = 64 << 10;
/// By how many times what has come the buffer grows: memory follows what a peer has sent, not what it has announced, and little is moved.
const GROWTH: usize = 8;
/// Bytes in a length prefix at most; 5 groups of 7 bits are more than any frame needs.
const MAX_PREFIX: usize = 5;
/// Bytes that one permit of the budget stands for.
pub(super) const PERMIT_BYTES: usize = 1 << 10;

/// Why there is no next frame.
#[derive(Debug, thiserror::Error)]
pub enum ReadError {
    /// The peer broke the framing.
    #[error("{0}")]
    Refused(String),
    /// The stream failed.
    #[error(transparent)]
    Io(#[from] std::io::Error),
}

/// Reads a frame of at most `max` bytes. `Ok(None)`: the stream ended where a frame would begin.
///
/// `budget` counts the bytes (in KiB) that may be in reading at once; a frame waits until there is room for it. `progress` is called when a part
/// of a long frame has come and more of it is to come.
pub async fn read_frame<R: AsyncRead + Unpin>(
    stream: &mut R,
    max: usize,
    budget: &Semaphore,
    progress: &(dyn Fn() + Sync),
) -> Result<Option<Bytes>, ReadError> {
    read_throttled(stream, max, budget, progress, usize::MAX, |_| std::future::ready(())).await
}

/// The same, reading at most `part` bytes at once, each time after having waited for `wait` of that many.
pub(super) async fn read_throttled<R: AsyncRead + Unpin, W: Future<Output = ()>>(
    stream: &mut R,
    max: usize,
    budget: &Semaphore,
    progress: &(dyn Fn() + Sync),
    part: usize,
    wait: impl Fn(usize) -> W,
) -> Result<Option<Bytes>, ReadError> {
    let Some(length) = read_length(stream).await? else { return Ok(None) };
    if length > max as u64 {
        return Err(ReadError::Refused(format!("oversize: a frame of {length} bytes, the limit is {max}")));
    }
    let length = length as usize;
    let permits = u32::try_from(length / PERMIT_BYTES + 1).unwrap_or(u32::MAX);
    let Ok(_reading) = budget.acquire_many(permits).await else { return Ok(None) };
    let mut body = Vec::new();
    while body.len() < length {
        let have = body.len();
        if have == body.capacity() {
            body.reserve_exact(room(have, length) - have);
        }
        let more = STEP.min(part).min(body.capacity().min(length) - have);
        wait(more).await;
        body.resize(have + more, 0);
        fill(stream, &mut body[have..], length, have, progress).await?;
    }
    Ok(Some(body.into()))
}

/// Bytes that the buffer of a frame may take once so many of it have come.
fn room(have: usize, length: usize) -> usize {
    STEP.max(GROWTH * have).min(length)
}

async fn read_length<R: AsyncRead + Unpin>(stream: &mut R) -> Result<Option<u64>, ReadError> {
    let mut prefix = [0; MAX_PREFIX];
    for at in 0..MAX_PREFIX {
        if stream.read(&mut prefix[at..=at]).await? == 0 {
            return match at {
                0 => Ok(None),
                _ => Err(ReadError::Refused("truncated: the stream ends inside a frame's length".into())),
            };
        }
        if prefix[at] & 0x80 == 0 {
            return match unsigned_varint::decode::u64(&prefix[..=at]) {
                Ok((length, _)) => Ok(Some(length)),
                Err(e) => Err(ReadError::Refused(format!("bad length: {e}"))),
            };
        }
    }
    Err(ReadError::Refused(format!("oversize: a length of more than {MAX_PREFIX} bytes")))
}

/// Fills a part of a frame's body, of which so many bytes have come before.
async fn fill<R: AsyncRead + Unpin>(
    stream: &mut R,
    part: &mut [u8],
    length: usize,
    before: usize,
    progress: &(dyn Fn() + Sync),
) -> Result<(), ReadError> {
    let mut have = 0;
    while have < part.len() {
        match stream.read(&mut part[have..]).await {
            Ok(0) => return Err(ReadError::Refused(format!("truncated: the stream ends inside a frame of {length} bytes"))),
            Ok(more) => have += more,
            Err(e) if e.kind() == ErrorKind::Interrupted => {}
            Err(e) => return Err(e.into()),
        }
        // However slow a peer is, it is not silent.
        if before + have < length {
            progress();
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;
    use futures::io::Cursor;

    #[tokio::test]
    async fn frames_of_every_length_come_whole_however_small_the_parts() {
        let budget = Semaphore::new(1 << 20);
        for length in [0, 1, STEP - 1, STEP, STEP + 1, GROWTH * STEP, GROWTH * STEP + 1, 4 << 20] {
            let body: Vec<u8> = (0..length).map(|at| (at % 251) as u8).collect();
            let mut prefix = unsigned_varint::encode::usize_buffer();
            let sent = [unsigned_varint::encode::usize(length, &mut prefix), &body].concat();
            for part in [1000, STEP, usize::MAX] {
                let mut stream = Cursor::new(&sent);
                let read = read_throttled(&mut stream, 4 << 20, &budget, &|| {}, part, |_| std::future::ready(())).await;
                assert!(read.unwrap().unwrap() == body, "{length} bytes in parts of {part}");
            }
        }
    }

    #[test]
    fn a_buffer_is_never_much_larger_than_what_has_come_and_seldom_grows() {
        let (length, mut have, mut grown) = (4 << 20, 0, 0);
        while have < length {
            let more = room(have, length);
            assert!(more > have && more <= STEP.max(GROWTH * have));
            have = more;
            grown += 1;
        }
        assert!(grown <= 3);
    }
}
