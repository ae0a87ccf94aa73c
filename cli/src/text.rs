//! Text for people: columns, sizes, and what others wrote made safe for a terminal or a URL.

use serde_json::Value;

/// Lines up columns. The first row is the heading.
pub fn columns(rows: &[Vec<String>]) -> String {
    let widths: Vec<usize> = (0..rows.first().map_or(0, Vec::len))
        .map(|column| rows.iter().filter_map(|row| row.get(column)).map(|cell| cell.chars().count()).max().unwrap_or(0))
        .collect();
    let line = |row: &Vec<String>| {
        let cells: Vec<String> = row.iter().zip(&widths).map(|(cell, width)| format!("{cell:<width$}")).collect();
        cells.join("  ").trim_end().to_string()
    };
    rows.iter().map(line).collect::<Vec<_>>().join("\n")
}

/// Bytes as people read them.
pub fn bytes(count: u64) -> String {
    const UNITS: [&str; 4] = ["B", "KiB", "MiB", "GiB"];
    let mut unit = 0;
    let mut whole = count as f64;
    while whole >= 1024.0 && unit + 1 < UNITS.len() {
        whole /= 1024.0;
        unit += 1;
    }
    if unit == 0 { format!("{count} B") } else { format!("{whole:.1} {}", UNITS[unit]) }
}

/// A text of an answer, as [`plain`]; nothing where there is none.
pub fn text(value: &Value) -> String {
    value.as_str().map(plain).unwrap_or_default()
}

/// A number of an answer, or a dash where there is none.
pub fn number(value: &Value) -> String {
    value.as_u64().map_or_else(|| "-".into(), |number| number.to_string())
}

/// Takes what a peer wrote and makes it safe for a terminal: one line, and nothing that drives it.
pub fn plain(text: &str) -> String {
    text.chars().map(|c| if drives(c) { '\u{fffd}' } else { c }).collect()
}

/// Takes a text of several lines that somebody else wrote and makes it safe for a terminal: what would drive it is shown as its code.
pub fn escaped(text: &str) -> String {
    let mut safe = String::with_capacity(text.len());
    for c in text.chars() {
        match drives(c) && c != '\n' && c != '\t' {
            true => safe.extend(c.escape_unicode()),
            false => safe.push(c),
        }
    }
    safe
}

/// Whether a character would do something to a terminal other than to stand there, or turns the order of others around.
fn drives(c: char) -> bool {
    c.is_control() || matches!(c, '\u{200e}' | '\u{200f}' | '\u{202a}'..='\u{202e}' | '\u{2066}'..='\u{2069}')
}

/// A text as it stands in one part of a URL (RFC 3986, unreserved characters as they are).
pub fn url_part(text: &str) -> String {
    let mut part = String::with_capacity(text.len());
    for byte in text.bytes() {
        match byte {
            b'A'..=b'Z' | b'a'..=b'z' | b'0'..=b'9' | b'-' | b'.' | b'_' | b'~' => part.push(char::from(byte)),
            _ => part.push_str(&format!("%{byte:02X}")),
        }
    }
    part
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn columns_line_up_and_end_where_they_end() {
        let rows = [vec!["name".into(), "n".into()], vec!["a".into(), "100".into()]];
        assert_eq!(columns(&rows), "name  n\na     100");
    }

    #[test]
    fn sizes_are_read_at_a_glance() {
        assert_eq!([0, 1023, 1024, 157_286_400].map(bytes), ["0 B", "1023 B", "1.0 KiB", "150.0 MiB"]);
    }

    #[test]
    fn hostile_words_do_not_drive_the_terminal_and_keep_their_lines() {
        assert_eq!(escaped("a\u{1b}[2J\tb\n\u{202e}c\r"), "a\\u{1b}[2J\tb\n\\u{202e}c\\u{d}");
    }

    #[test]
    fn a_hostile_name_does_not_drive_the_terminal() {
        assert_eq!(plain("a\u{1b}[2Jb\n\u{202e}c"), "a\u{fffd}[2Jb\u{fffd}\u{fffd}c");
    }

    #[test]
    fn what_is_no_id_stays_one_part_of_a_url() {
        assert_eq!(url_part("../a b?c=ü~"), "..%2Fa%20b%3Fc%3D%C3%BC~");
    }
}
