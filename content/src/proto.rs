//! A look at protobuf's wire format without building anything (<https://protobuf.dev/programming-guides/encoding/>): an empty part costs two
//! bytes on the wire and fifty in memory, so parts are counted before a message of a peer is decoded.

/// Calls `f` with the number and, if it has a length, the body of each field.
pub(crate) fn each_field(mut message: &[u8], f: &mut dyn FnMut(u64, &[u8]) -> Result<(), String>) -> Result<(), String> {
    let varint = |bytes| unsigned_varint::decode::u64(bytes).map_err(|e| e.to_string());
    while !message.is_empty() {
        let (key, rest) = varint(message)?;
        let (size, rest) = match key & 7 {
            0 => (0, skip_varint(rest)?),
            1 => (8, rest),
            2 => varint(rest)?,
            5 => (4, rest),
            other => return Err(format!("wire type {other}")),
        };
        let size = usize::try_from(size).unwrap_or(usize::MAX);
        let (body, rest) = rest.split_at_checked(size).ok_or("a field is cut short")?;
        f(key >> 3, body)?;
        message = rest;
    }
    Ok(())
}

/// Passes over a number, which protobuf may write in up to ten bytes and need not write minimally.
fn skip_varint(bytes: &[u8]) -> Result<&[u8], String> {
    let end = bytes.iter().take(10).position(|byte| byte & 0x80 == 0);
    end.map(|end| &bytes[end + 1..]).ok_or_else(|| "a number is cut short".into())
}
