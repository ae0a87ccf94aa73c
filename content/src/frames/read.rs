//! Reads one frame off a stream: the length first, judged before anything is allocated, then the body as it comes.

use bytes::Bytes;
use futures::{AsyncRead, AsyncReadExt};
use std::io::ErrorKind;
use tokio::sync::Semaphore;

/// Bytes by which the buffer of a frame grows: memory follows what a peer has sent, not what it has announced.
const GROWTH: usize = 64 << 10;
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
        if have > 0 {
            progress();
        }
        body.resize(have + GROWTH.min(length - have), 0);
        fill(stream, &mut body[have..], length).await?;
    }
    Ok(Some(body.into()))
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

async fn fill<R: AsyncRead + Unpin>(stream: &mut R, part: &mut [u8], length: usize) -> Result<(), ReadError> {
    match stream.read_exact(part).await {
        Ok(()) => Ok(()),
        Err(e) if e.kind() == ErrorKind::UnexpectedEof => {
            Err(ReadError::Refused(format!("truncated: the stream ends inside a frame of {length} bytes")))
        }
        Err(e) => Err(e.into()),
    }
}
