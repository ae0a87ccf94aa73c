//! The shape of a file: how long it is, how long its functions are, and that it opens with its purpose.

use crate::source::{Source, closing, find_word};

/// The most lines of a file.
pub const FILE_LINES: usize = 600;
/// The most lines of a function, from its `fn` to its closing brace.
pub const FUNCTION_LINES: usize = 70;

/// A function that is longer than it may be: its file, its name, and its exact length.
pub type Longer = (&'static str, &'static str, usize);

/// No file is longer than a person reads at once.
pub fn file_length(sources: &[Source]) -> Vec<String> {
    let long = |s: &&Source| s.is(&["rs", "ts", "svelte"]) && s.text.lines().count() > FILE_LINES;
    let tell = |s: &Source| format!("{}: {} lines, over {FILE_LINES}: split it", s.path, s.text.lines().count());
    sources.iter().filter(long).map(tell).collect()
}

/// No function is longer than a page, but for those that `known` lists; what it lists must be exact, so that it shrinks.
pub fn function_length(sources: &[Source], known: &[Longer]) -> Vec<String> {
    let mut found = Vec::new();
    let mut met = Vec::new();
    for file in sources.iter().filter(|s| s.is(&["rs"])) {
        for Function { name, at, lines } in functions(&file.code).into_iter().filter(|f| f.lines > FUNCTION_LINES) {
            let listed = known.iter().find(|(path, function, _)| *path == file.path && *function == name);
            met.extend(listed);
            let advice = match listed {
                Some((.., length)) if *length == lines => continue,
                Some((.., length)) if *length > lines => "well done; write its new length into the list",
                _ => "split it",
            };
            found.push(format!("{}: fn {name} has {lines} lines, over {FUNCTION_LINES}: {advice}", file.place(at)));
        }
    }
    let gone = known.iter().filter(|entry| !met.contains(entry));
    found.extend(gone.map(|(path, name, _)| format!("{path}: fn {name} is not too long any more: take it off the list")));
    found
}

/// A function with a body.
struct Function {
    name: String,
    at: usize,
    lines: usize,
}

fn functions(code: &str) -> Vec<Function> {
    let mut found = Vec::new();
    for at in find_word(code, "fn") {
        let rest = code[at + 2..].trim_start();
        let name: String = rest.chars().take_while(|c| c.is_alphanumeric() || *c == '_').collect();
        if let Some(open) = body(code, at).filter(|_| !name.is_empty()) {
            let lines = 1 + code[at..closing(code, open)].matches('\n').count();
            found.push(Function { name, at, lines });
        }
    }
    found
}

/// The brace that opens the body of the function at `at`; none for a declaration. A `;` inside `[u8; 32]` ends nothing.
fn body(code: &str, at: usize) -> Option<usize> {
    let mut depth = 0;
    for (i, byte) in code.bytes().enumerate().skip(at) {
        match byte {
            b'(' | b'[' => depth += 1,
            b')' | b']' => depth -= 1,
            b';' if depth == 0 => return None,
            b'{' if depth == 0 => return Some(i),
            _ => {}
        }
    }
    None
}

/// Every file says at its head what it is for.
pub fn purpose(sources: &[Source]) -> Vec<String> {
    let mut found = Vec::new();
    for file in sources {
        let lines: Vec<&str> = file.text.lines().skip_while(|l| l.starts_with("#!/")).take(3).collect();
        let first = lines.first().copied().unwrap_or("");
        let script = !file.path.contains('.') || file.path.starts_with(".ci/") || file.is(&["sh", "py"]);
        let (says, wanted) = match () {
            () if file.is(&["rs"]) => (first.starts_with("//! "), "`//! ` on its first line"),
            () if file.is(&["ts", "js", "mjs"]) => {
                (first.starts_with("//") || first.starts_with("/*"), "a comment on its first line")
            }
            () if file.is(&["svelte"]) => (first.starts_with("<!--"), "`<!--` on its first line"),
            () if script => (lines.iter().any(|l| l.starts_with("# ")), "a `# ` comment near its top"),
            () => continue,
        };
        if !says {
            found.push(format!("{}: say what the file is for, by {wanted}", file.path));
        }
    }
    found
}

mod tests {
    use super::*;

    fn one(path: &str, text: &str) -> [Source; 1] {
        [Source::new(path, text)]
    }

    #[test]
    fn a_long_file_is_found() {
        assert!(file_length(&one("a.rs", &"x\n".repeat(600))).is_empty());
        assert_eq!(file_length(&one("a.rs", &"x\n".repeat(601))).len(), 1);
        assert_eq!(file_length(&one("a.svelte", &"x\n".repeat(601))).len(), 1);
    }

    #[test]
    fn a_long_function_is_found_and_the_list_only_shrinks() {
        let of = |lines: usize, known: &[Longer]| {
            let text = format!("trait T {{ fn g(x: [u8; 2]); }}\nfn f(x: [u8; 2]) {{\n{}}}\n", "    '}';\n".repeat(lines - 2));
            function_length(&one("a.rs", &text), known)
        };
        assert!(of(70, &[]).is_empty());
        assert_eq!(of(71, &[]).len(), 1);
        assert!(of(75, &[("a.rs", "f", 75)]).is_empty());
        assert_eq!(of(75, &[("b.rs", "f", 75), ("a.rs", "g", 75)]).len(), 3, "others are listed");
        assert_eq!(of(76, &[("a.rs", "f", 75)]).len(), 1, "longer");
        assert_eq!(of(74, &[("a.rs", "f", 75)]).len(), 1, "shorter: the list must follow");
        assert_eq!(of(70, &[("a.rs", "f", 75)]).len(), 1, "short enough: the entry must go");
    }

    #[test]
    fn a_file_without_a_purpose_is_found() {
        for (path, good, bad) in [
            ("a.rs", "//! Adds.\nfn f() {}", "// Adds.\n//! Adds."),
            ("scripts/x", "#!/bin/sh\n# Adds.\n", "#!/bin/sh\nset -e\necho # Adds\n"),
            (".ci/run", "#!/bin/sh\n# Adds.\n", "#!/bin/sh\nset -e\n"),
            ("Makefile", "# Adds.\n", "all:\n"),
            ("a.ts", "// Adds.\n", "let a;\n"),
            ("a.svelte", "<!-- Adds. -->\n", "<p>\n"),
        ] {
            assert!(purpose(&one(path, good)).is_empty(), "{path}");
            assert_eq!(purpose(&one(path, bad)).len(), 1, "{path}");
        }
        assert!(purpose(&one("a.md", "x")).is_empty());
    }
}
