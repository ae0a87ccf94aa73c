//! The files that the rules read, and Rust text with its comments and literals blanked out.

use std::fs;
use std::path::Path;

/// A text file of the project.
pub struct Source {
    /// Its path below the project's root, with `/` between the parts.
    pub path: String,
    /// All of it.
    pub text: String,
    /// For Rust: the text with comments, strings and character literals turned to spaces; every byte keeps its place.
    pub code: String,
}

impl Source {
    pub fn new(path: &str, text: &str) -> Source {
        let code = if path.ends_with(".rs") { blank(text) } else { text.to_string() };
        Source { path: path.to_string(), text: text.to_string(), code }
    }

    /// Whether the name ends in one of `extensions`, given without the dot.
    pub fn is(&self, extensions: &[&str]) -> bool {
        self.path.rsplit_once('.').is_some_and(|(_, e)| extensions.contains(&e))
    }

    /// Whether it lies in a folder called `tests`, or is a test module of its own.
    pub fn is_test(&self) -> bool {
        self.path.contains("tests/") || self.path.ends_with("/tests.rs")
    }

    /// The line of a byte, counted from 1.
    pub fn line(&self, at: usize) -> usize {
        1 + self.text.as_bytes()[..at].iter().filter(|b| **b == b'\n').count()
    }

    /// `path:line`, as an editor takes it.
    pub fn place(&self, at: usize) -> String {
        format!("{}:{}", self.path, self.line(at))
    }
}

/// The project's root: the folder above this crate's.
pub fn root() -> &'static Path {
    Path::new(env!("CARGO_MANIFEST_DIR")).parent().expect("the crate lies in the project")
}

/// Every source file: code, scripts, manifests and documents; nothing that was built, locked or fetched.
pub fn sources() -> Vec<Source> {
    let mut paths = Vec::new();
    walk(root(), "", &mut paths);
    paths.sort();
    let text = |path: &String| fs::read_to_string(root().join(path)).unwrap_or_else(|e| panic!("{path}: {e}"));
    paths.iter().filter(|path| is_source(path)).map(|path| Source::new(path, &text(path))).collect()
}

/// The paths of all files below `folder` that are not built or fetched, relative to it.
pub fn walk(folder: &Path, prefix: &str, found: &mut Vec<String>) {
    for entry in fs::read_dir(folder).unwrap_or_else(|e| panic!("{}: {e}", folder.display())) {
        let entry = entry.expect("a readable folder");
        let name = entry.file_name().into_string().expect("names are UTF-8");
        let kind = entry.file_type().expect("a kind of file");
        let skipped = ["target", "node_modules", "dist"].contains(&name.as_str()) || name.starts_with('.') && name != ".ci";
        if kind.is_dir() && !skipped {
            walk(&entry.path(), &format!("{prefix}{name}/"), found);
        } else if kind.is_file() {
            found.push(format!("{prefix}{name}"));
        }
    }
}

fn is_source(path: &str) -> bool {
    let name = path.rsplit('/').next().unwrap_or(path);
    match name.rsplit_once('.') {
        Some((_, e)) => ["rs", "ts", "js", "mjs", "svelte", "css", "html", "sh", "py", "toml", "md"].contains(&e),
        None => name == "Makefile" || path.starts_with("scripts/") || path.starts_with(".ci/"),
    }
}

pub fn is_word(byte: u8) -> bool {
    byte.is_ascii_alphanumeric() || byte == b'_' || byte >= 0x80
}

/// Where `word` stands in `code` as a whole word.
pub fn find_word(code: &str, word: &str) -> Vec<usize> {
    let bytes = code.as_bytes();
    let bounded =
        |at: usize| (at == 0 || !is_word(bytes[at - 1])) && bytes.get(at + word.len()).is_none_or(|next| !is_word(*next));
    code.match_indices(word).map(|(at, _)| at).filter(|at| bounded(*at)).collect()
}

/// The place just after the brace that closes the one at `open`.
pub fn closing(code: &str, open: usize) -> usize {
    let mut depth = 0;
    for (at, byte) in code.bytes().enumerate().skip(open) {
        match byte {
            b'{' => depth += 1,
            b'}' if depth == 1 => return at + 1,
            b'}' => depth -= 1,
            _ => {}
        }
    }
    code.len()
}

/// Turns comments, strings and character literals to spaces; every other byte keeps its place.
pub fn blank(text: &str) -> String {
    let bytes = text.as_bytes();
    let mut out = bytes.to_vec();
    let mut at = 0;
    while at < bytes.len() {
        let Some(end) = literal_end(bytes, at) else {
            at += 1;
            continue;
        };
        out[at..end].iter_mut().filter(|b| **b != b'\n').for_each(|b| *b = b' ');
        at = end;
    }
    String::from_utf8(out).expect("literals begin and end between characters")
}

/// The end of the comment, string or character literal that begins at `at`, if one does.
fn literal_end(bytes: &[u8], at: usize) -> Option<usize> {
    let rest = &bytes[at..];
    let length = match rest {
        [b'/', b'/', ..] => rest.iter().position(|b| *b == b'\n').unwrap_or(rest.len()),
        [b'/', b'*', ..] => block_comment(rest),
        [b'"', ..] => quoted(rest, b'"'),
        [b'\'', b'\\', ..] => quoted(rest, b'\''),
        [b'\'', ..] => character(rest)?,
        [b'r' | b'b' | b'c', ..] if at == 0 || !is_word(bytes[at - 1]) => raw_string(rest)?,
        _ => return None,
    };
    Some(at + length)
}

fn block_comment(rest: &[u8]) -> usize {
    let mut depth = 0;
    let mut at = 0;
    while at < rest.len() {
        match &rest[at..] {
            [b'/', b'*', ..] => (depth, at) = (depth + 1, at + 2),
            [b'*', b'/', ..] if depth == 1 => return at + 2,
            [b'*', b'/', ..] => (depth, at) = (depth - 1, at + 2),
            _ => at += 1,
        }
    }
    rest.len()
}

fn quoted(rest: &[u8], quote: u8) -> usize {
    let mut at = 1;
    while at < rest.len() {
        match rest[at] {
            b'\\' => at += 2,
            b if b == quote => return at + 1,
            _ => at += 1,
        }
    }
    rest.len()
}

/// A character between quotes; none for a lifetime.
fn character(rest: &[u8]) -> Option<usize> {
    let width = match rest.get(1)? {
        0xf0.. => 4,
        0xe0.. => 3,
        0xc0.. => 2,
        _ => 1,
    };
    (rest.get(1 + width) == Some(&b'\'')).then_some(width + 2)
}

/// `r"…"`, `r#"…"#` and so on, with `b` or `c` before; none for a name that begins with one of these letters.
fn raw_string(rest: &[u8]) -> Option<usize> {
    let prefix = if rest[0] == b'r' { 1 } else { 2 };
    if rest.get(prefix - 1) != Some(&b'r') {
        return None;
    }
    let hashes = rest[prefix..].iter().take_while(|b| **b == b'#').count();
    let open = prefix + hashes;
    if rest.get(open) != Some(&b'"') {
        return None;
    }
    let end: Vec<u8> = [b'"'].into_iter().chain(std::iter::repeat_n(b'#', hashes)).collect();
    let body = rest[open + 1..].windows(end.len()).position(|w| w == end);
    Some(body.map_or(rest.len(), |at| open + 1 + at + end.len()))
}

mod tests {
    use super::*;

    #[test]
    fn blanking_leaves_code_alone_and_takes_all_that_is_not() {
        let check = |text: &str, code: &str| assert_eq!(blank(text), code, "{text}");
        check("a // {\nb", "a     \nb");
        check("a /* { /* } */ { */ b", "a                   b");
        check(r#"f("}\"}") }"#, "f(      ) }");
        check("f('{', '\\'', b'}') 'a: &'b x", "f(   ,     , b   ) 'a: &'b x");
        check("r\"}\"b", "    b");
        check("x = r##\"}\"# {\"##; r#fn var", "x =             ; r#fn var");
        check("'é' 'a", "     'a");
    }

    #[test]
    fn the_sources_are_those_of_the_project() {
        let sources = sources();
        let has = |path: &str| sources.iter().any(|s| s.path == path);
        for path in ["Makefile", "README.md", "Cargo.toml", ".ci/run", "scripts/test", "core/src/lib.rs", "cli/tests/tidy.rs"] {
            assert!(has(path), "{path}");
        }
        assert!(!has("Cargo.lock") && !has("LICENSE-MIT"));
        let built =
            |s: &&Source| s.path.starts_with("target/") || s.path.starts_with(".git/") || s.path.contains("node_modules/");
        assert_eq!(sources.iter().filter(built).count(), 0);
    }

    #[test]
    fn a_place_is_a_path_and_a_line() {
        assert_eq!(Source::new("a.rs", "x\ny z\n").place(4), "a.rs:2");
    }

    #[test]
    fn words_are_whole() {
        assert_eq!(find_word("std no_std std2 (std)", "std"), [0, 17]);
        assert_eq!(closing("a { b { } } c", 2), 11);
    }
}
