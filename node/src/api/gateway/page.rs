//! The page that lists a folder: plain HTML, links in order, no script.

use cid::Cid;
use std::fmt::Write;

use crate::ports::{Named, NamedKind};

const STYLE: &str = "body{font:1rem/1.5 system-ui,sans-serif;max-width:60rem;margin:2rem auto;padding:0 1rem}\
table{border-collapse:collapse;width:100%}td,th{text-align:left;padding:.2rem .5rem;border-bottom:1px solid #8884}\
.n{text-align:right;font-variant-numeric:tabular-nums;white-space:nowrap}code{word-break:break-all}a:focus{outline:2px solid}";

/// The page of the folder `cid` at a path below a root.
pub(super) fn listing(root: &str, path: &str, cid: &Cid, entries: &[Named]) -> String {
    let path = path.trim_matches('/');
    let title = escape(&format!("/ipfs/{root}{}{path}", if path.is_empty() { "" } else { "/" }));
    let mut page = String::with_capacity(1024 + 256 * entries.len());
    // Writing to a string does not fail.
    let _ = write!(
        page,
        "<!DOCTYPE html>\n<html lang=\"en\"><head><meta charset=\"utf-8\"><title>{title}</title>\n\
         <meta name=\"viewport\" content=\"width=device-width\"><style>{STYLE}</style></head>\n\
         <body><main><h1>Index of <code>{title}</code></h1>\n<p>CID <code>{cid}</code></p>\n\
         <table><thead><tr><th scope=\"col\">Name</th><th scope=\"col\" class=\"n\">Bytes</th></tr></thead><tbody>\n"
    );
    if !path.is_empty() {
        page.push_str("<tr><td><a href=\"../\">../</a></td><td></td></tr>\n");
    }
    for entry in entries {
        let slash = if entry.kind == NamedKind::Folder { "/" } else { "" };
        let size = if entry.kind == NamedKind::File { entry.size.to_string() } else { String::new() };
        let name = escape(&entry.name);
        // The dot keeps a name with a colon from being taken for a scheme.
        let _ = writeln!(
            page,
            "<tr><td><a href=\"./{}{slash}\">{name}{slash}</a></td><td class=\"n\">{size}</td></tr>",
            percent(&entry.name)
        );
    }
    page.push_str("</tbody></table></main></body></html>\n");
    page
}

/// Text as it stands in HTML, within and outside of attributes. Characters that turn the direction of writing are shown by their number.
fn escape(text: &str) -> String {
    let mut escaped = String::with_capacity(text.len());
    for c in text.chars() {
        match c {
            '&' => escaped.push_str("&amp;"),
            '<' => escaped.push_str("&lt;"),
            '>' => escaped.push_str("&gt;"),
            '"' => escaped.push_str("&quot;"),
            '\'' => escaped.push_str("&#39;"),
            '\u{202a}'..='\u{202e}' | '\u{2066}'..='\u{2069}' => escaped.extend(c.escape_unicode()),
            c if c.is_control() => escaped.push('\u{fffd}'),
            c => escaped.push(c),
        }
    }
    escaped
}

/// A name as it stands in a URL's path.
fn percent(name: &str) -> String {
    let mut encoded = String::with_capacity(name.len());
    for byte in name.bytes() {
        match byte {
            b'A'..=b'Z' | b'a'..=b'z' | b'0'..=b'9' | b'-' | b'.' | b'_' | b'~' => encoded.push(byte as char),
            _ => encoded.push_str(&format!("%{byte:02X}")),
        }
    }
    encoded
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_cannot_leave_their_place_on_the_page() {
        let cid: Cid = "bafkreihdwdcefgh4dqkjv67uzcmw7ojee6xedzdetojuzjevtenxquvyku".parse().expect("a CID");
        let named = |name: &str, kind| Named { name: name.into(), cid, size: 7, kind, mode: None, mtime: None, target: None };
        let entries = [named("<img src=x onerror=alert(1)>\"'", NamedKind::File), named("javascript:x", NamedKind::Folder)];
        let page = listing("root", "<b>/", &cid, &entries);
        assert!(!page.contains("<img") && !page.contains("<b>"), "{page}");
        assert!(page.contains("href=\"./%3Cimg%20src%3Dx%20onerror%3Dalert%281%29%3E%22%27\""), "{page}");
        assert!(page.contains("&lt;img src=x onerror=alert(1)&gt;&quot;&#39;"), "{page}");
        assert!(page.contains("href=\"./javascript%3Ax/\"") && page.contains("href=\"../\""), "{page}");
    }
}
