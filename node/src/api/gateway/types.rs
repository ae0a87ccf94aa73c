//! Content types that do no harm, by a file's name, or else by its first bytes.

/// Types by the end of a name. Scripts are text: with `nosniff`, no page loads them as anything else.
const BY_NAME: &[(&str, &str)] = &[
    ("html", "text/html; charset=utf-8"),
    ("htm", "text/html; charset=utf-8"),
    ("css", "text/css; charset=utf-8"),
    ("json", "application/json"),
    ("txt", "text/plain; charset=utf-8"),
    ("md", "text/plain; charset=utf-8"),
    ("csv", "text/csv; charset=utf-8"),
    ("js", "text/plain; charset=utf-8"),
    ("mjs", "text/plain; charset=utf-8"),
    ("xml", "text/plain; charset=utf-8"),
    ("svg", "image/svg+xml"),
    ("png", "image/png"),
    ("jpg", "image/jpeg"),
    ("jpeg", "image/jpeg"),
    ("gif", "image/gif"),
    ("webp", "image/webp"),
    ("avif", "image/avif"),
    ("ico", "image/x-icon"),
    ("bmp", "image/bmp"),
    ("mp4", "video/mp4"),
    ("webm", "video/webm"),
    ("mp3", "audio/mpeg"),
    ("ogg", "audio/ogg"),
    ("wav", "audio/wav"),
    ("flac", "audio/flac"),
    ("pdf", "application/pdf"),
    ("woff", "font/woff"),
    ("woff2", "font/woff2"),
    ("ttf", "font/ttf"),
    ("otf", "font/otf"),
    ("wasm", "application/wasm"),
    ("zip", "application/zip"),
    ("gz", "application/gzip"),
    ("tar", "application/x-tar"),
];

/// Types by first bytes: pictures and documents that browsers show.
const BY_BYTES: &[(&[u8], &str)] = &[
    (b"\x89PNG\r\n\x1a\n", "image/png"),
    (b"\xff\xd8\xff", "image/jpeg"),
    (b"GIF8", "image/gif"),
    (b"%PDF-", "application/pdf"),
    (b"\0asm", "application/wasm"),
];

/// Bytes that are looked at.
const LOOKED_AT: usize = 512;

/// The type of a file: never one that a browser would run.
pub(super) fn type_of(name: &str, beginning: &[u8]) -> &'static str {
    let end = name.rsplit_once('.').map(|(_, end)| end.to_ascii_lowercase()).unwrap_or_default();
    let by_name = || BY_NAME.iter().find(|(known, _)| *known == end).map(|(_, kind)| *kind);
    let by_bytes = || BY_BYTES.iter().find(|(first, _)| beginning.starts_with(first)).map(|(_, kind)| *kind);
    let by_text = || is_text(&beginning[..beginning.len().min(LOOKED_AT)]).then_some("text/plain; charset=utf-8");
    by_name().or_else(by_bytes).or_else(by_text).unwrap_or("application/octet-stream")
}

/// Whether bytes are the beginning of UTF-8 text. A character may be cut at the end.
fn is_text(bytes: &[u8]) -> bool {
    let whole = match std::str::from_utf8(bytes) {
        Ok(text) => text,
        Err(error) if error.error_len().is_none() => std::str::from_utf8(&bytes[..error.valid_up_to()]).unwrap_or_default(),
        Err(_) => return false,
    };
    !whole.is_empty() && whole.chars().all(|c| !c.is_control() || c.is_ascii_whitespace())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_come_first_and_nothing_is_a_script() {
        assert_eq!(type_of("a/index.HTML", b""), "text/html; charset=utf-8");
        assert_eq!(type_of("photo.png", b"<script>"), "image/png");
        assert_eq!(type_of("", b"<html><script>"), "text/plain; charset=utf-8", "a page is one by its name alone");
        assert_eq!(type_of("", "ж".as_bytes()), "text/plain; charset=utf-8");
        assert_eq!(type_of("", &"ж".as_bytes()[..1]), "application/octet-stream");
        assert_eq!(type_of("", b"\x89PNG\r\n\x1a\n\0"), "image/png");
        assert_eq!(type_of("x.bin", b"\0\x01"), "application/octet-stream");
        assert_eq!(type_of("x", b""), "application/octet-stream");
        assert!(BY_NAME.iter().chain([("", type_of("x.js", b""))].iter()).all(|(_, kind)| !kind.contains("script")));
    }
}
