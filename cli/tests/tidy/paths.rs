//! Which module mentions which: the arrows that the layering rules judge.

use crate::source::{Source, closing, find_word, is_word};

/// A module's names, from the crate's root down; the root's is empty.
pub type Module = Vec<String>;

/// One module's mention of another, told once a line.
#[derive(PartialEq)]
pub struct Arrow {
    pub from: Module,
    pub to: Module,
    /// Where it stands, for the message.
    pub place: String,
}

/// The name of a module as Rust writes it.
pub fn name(module: &[String]) -> String {
    if module.is_empty() { "the crate's root".to_string() } else { module.join("::") }
}

/// The module of a file below a `src` folder.
pub fn module_of(path: &str) -> Module {
    let below = path.split_once("src/").map_or(path, |(_, below)| below);
    let stem = below.strip_suffix(".rs").unwrap_or(below);
    let mut parts: Module = stem.split('/').map(str::to_string).collect();
    if parts.last().is_some_and(|last| last == "mod") || ["lib", "main"].contains(&stem) {
        parts.pop();
    }
    parts
}

/// The arrows between the files of one crate, from `crate::…` and `super::…` in uses and in expressions.
pub fn arrows(files: &[&Source]) -> Vec<Arrow> {
    let modules: Vec<Module> = files.iter().map(|file| module_of(&file.path)).collect();
    let known = |path: &Module| (0..=path.len()).rev().map(|n| path[..n].to_vec()).find(|m| modules.contains(m));
    let mut arrows = Vec::new();
    for (file, from) in files.iter().zip(&modules) {
        for (at, path) in absolute_paths(&file.code, from) {
            match known(&path) {
                Some(to) if to != *from => arrows.push(Arrow { from: from.clone(), to, place: file.place(at) }),
                _ => {}
            }
        }
    }
    arrows.dedup();
    arrows
}

/// Every path in `code` that begins with `crate` or `super`, from the crate's root.
fn absolute_paths(code: &str, module: &Module) -> Vec<(usize, Module)> {
    let mut paths = mentions(code, "crate");
    let inline = inline_modules(code);
    for (at, path) in mentions(code, "super") {
        let mut base = module.clone();
        base.extend(inline.iter().filter(|m| m.open < at && at < m.close).map(|m| m.name.clone()));
        let ups = 1 + path.iter().take_while(|part| *part == "super").count();
        base.truncate(base.len().saturating_sub(ups));
        base.extend(path.into_iter().skip(ups - 1));
        paths.push((at, base));
    }
    paths
}

/// A module that is written inside a file, and where its braces stand.
pub struct Inline {
    pub name: String,
    pub open: usize,
    pub close: usize,
}

/// The modules `mod name { … }` of a file, outer ones first.
pub fn inline_modules(code: &str) -> Vec<Inline> {
    let mut found = Vec::new();
    for at in find_word(code, "mod") {
        let rest = code[at + 3..].trim_start();
        let name: String = rest.chars().take_while(|c| c.is_alphanumeric() || *c == '_').collect();
        let open = code.len() - rest[name.len()..].trim_start().len();
        if code[open..].starts_with('{') {
            found.push(Inline { name, open, close: closing(code, open) });
        }
    }
    found
}

/// Whether a place lies in an inline module called `tests`.
pub fn in_tests(code: &str, at: usize) -> bool {
    inline_modules(code).iter().any(|m| m.name == "tests" && m.open < at && at < m.close)
}

/// Every path that begins with `first`, without it; `first::{a, b::c}` gives two.
pub fn mentions(code: &str, first: &str) -> Vec<(usize, Module)> {
    let bytes = code.as_bytes();
    let mut found = Vec::new();
    for at in find_word(code, first) {
        let begins = at == 0 || (bytes[at - 1] != b'$' && bytes[at - 1] != b':' && bytes[at - 1] != b'.');
        let after = at + first.len();
        if begins && code[after..].starts_with("::") {
            let mut paths = Vec::new();
            tree(code, after + 2, &mut Vec::new(), &mut paths);
            found.extend(paths.into_iter().map(|path| (at, path)));
        }
    }
    found
}

/// Reads a path or a tree of paths at `at`; gives the place after it.
fn tree(code: &str, at: usize, prefix: &mut Module, found: &mut Vec<Module>) -> usize {
    let at = at + blanks(&code[at..]);
    if code[at..].starts_with('{') {
        return group(code, at, prefix, found);
    }
    let word = code[at..].bytes().take_while(|b| is_word(*b)).count();
    if word == 0 {
        found.push(prefix.clone());
        return at + usize::from(code[at..].starts_with('*'));
    }
    prefix.push(code[at..at + word].to_string());
    let mut end = at + word;
    if code[end..].starts_with("::") {
        end = tree(code, end + 2, prefix, found);
    } else {
        found.push(prefix.clone());
    }
    prefix.pop();
    end
}

/// Reads `{a, b::c, d as e}`; gives the place after it.
fn group(code: &str, open: usize, prefix: &mut Module, found: &mut Vec<Module>) -> usize {
    let close = closing(code, open);
    let mut at = open + 1;
    while at < close {
        at = tree(code, at, prefix, found);
        // Past the comma; a new name after `as` goes with it.
        at = code[at..close].find([',', '}']).map_or(close, |skip| at + skip + 1);
        if code[at..close].trim_start().starts_with('}') {
            return close;
        }
    }
    close
}

fn blanks(text: &str) -> usize {
    text.len() - text.trim_start().len()
}

mod tests {
    use super::*;

    fn check(code: &str, paths: &[&str]) {
        let found: Vec<String> = mentions(code, "crate").into_iter().map(|(_, path)| path.join("::")).collect();
        assert_eq!(found, paths, "{code}");
    }

    #[test]
    fn paths_are_read_from_uses_and_expressions() {
        check("use crate::a::B;", &["a::B"]);
        check("use crate::{a, b::{self, C as D}, e::*,};", &["a", "b::self", "b::C", "e"]);
        check("use crate::{\n    a::{B},\n    c,\n};", &["a::B", "c"]);
        check("let x = crate::a::f(crate::b::<u8>::G);", &["a::f", "b"]);
        check("$crate::a; other_crate::b; x::crate::c", &[]);
    }

    #[test]
    fn super_counts_the_modules_inside_a_file() {
        let paths = |code: &str| -> Vec<String> {
            absolute_paths(code, &vec!["a".into(), "b".into()]).into_iter().map(|(_, path)| path.join("::")).collect()
        };
        assert_eq!(paths("use super::c::D;"), ["a::c::D"]);
        assert_eq!(paths("use super::super::e;"), ["e"]);
        assert_eq!(paths("mod tests { use super::*; }"), ["a::b"]);
        assert_eq!(paths("mod tests { use super::super::c; } use super::d;"), ["a::c", "a::d"]);
    }

    #[test]
    fn a_place_is_in_tests_or_not() {
        let code = "mod a { x } mod tests { y } z";
        let at = |what| in_tests(code, code.rfind(what).expect("it is there"));
        assert_eq!([at("x"), at("y"), at("z")], [false, true, false]);
    }

    #[test]
    fn a_file_is_a_module() {
        assert_eq!(module_of("node/src/lib.rs"), Module::new());
        assert_eq!(module_of("node/src/run.rs"), ["run"]);
        assert_eq!(module_of("node/src/api/mod.rs"), ["api"]);
        assert_eq!(module_of("node/src/api/members.rs"), ["api", "members"]);
    }
}
