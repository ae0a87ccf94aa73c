//! Text for people: columns, sizes, and what others wrote made safe for a terminal.

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

/// Takes what a peer wrote and makes it safe for a terminal: no control characters.
pub fn plain(text: &str) -> String {
    text.chars().map(|c| if c.is_control() { '\u{fffd}' } else { c }).collect()
}

/// Takes a text of several lines that somebody else wrote and makes it safe for a terminal: what would drive it, or turn the
/// order of characters around, is shown as its code.
pub fn escaped(text: &str) -> String {
    let drives = |c: char| {
        (c.is_control() && c != '\n' && c != '\t')
            || matches!(c, '\u{200e}' | '\u{200f}' | '\u{202a}'..='\u{202e}' | '\u{2066}'..='\u{2069}')
    };
    let mut safe = String::with_capacity(text.len());
    for c in text.chars() {
        match drives(c) {
            true => safe.extend(c.escape_unicode()),
            false => safe.push(c),
        }
    }
    safe
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
        assert_eq!(plain("a\u{1b}[2Jb\n"), "a\u{fffd}[2Jb\u{fffd}");
    }
}
