//! What the documents list must be what is there: a list that is kept by hand goes stale unless something reads it.

use crate::layers::core_order;
use crate::source::Source;

fn text<'a>(sources: &'a [Source], path: &str) -> &'a str {
    sources.iter().find(|s| s.path == path).map_or("", |s| &s.text)
}

/// A finding where there was nothing to compare with: a rule that reads nothing would hold for ever.
fn nothing(count: usize, what: &str) -> Vec<String> {
    if count == 0 {
        vec![format!("{what}, as far as cli/tests/tidy/documents.rs can read it: mend the reader")]
    } else {
        Vec::new()
    }
}

/// ARCHITECTURE.md names every file of the core, in import order.
pub fn code_map(sources: &[Source]) -> Vec<String> {
    let map = text(sources, "ARCHITECTURE.md");
    let mut rest = map.split_once("core/").map_or("", |(_, rest)| rest);
    let order = core_order(sources);
    let mut found = nothing(order.len(), "core/src/lib.rs declares no module");
    for module in order {
        let file = format!("`{module}.rs`");
        match rest.split_once(&file) {
            Some((_, after)) => rest = after,
            None => found.push(format!("ARCHITECTURE.md: the code map lacks {file} of core, or has it out of import order")),
        }
    }
    found
}

/// docs/errors.md explains every code that a user can meet.
pub fn error_codes(sources: &[Source]) -> Vec<String> {
    let page = text(sources, "docs/errors.md");
    let code = |line: &str| {
        let (variant, name) = line.trim().strip_prefix("Failure::")?.split_once("=> \"")?;
        let name = name.strip_suffix("\",")?;
        variant.starts_with(name).then(|| name.to_string())
    };
    let codes: Vec<String> = text(sources, "core/src/failure.rs").lines().filter_map(code).collect();
    let missing = codes.iter().filter(|code| !page.contains(&format!("\n| `{code}` |")));
    let told = missing.map(|code| format!("docs/errors.md: no row for `{code}`, which core/src/failure.rs has"));
    let own = |line: &str| Some(line.split_once("code: \"")?.1.split_once("\".into()")?.0.to_string());
    let cli = sources.iter().filter(|source| source.path.starts_with("cli/src/"));
    let owns: Vec<String> = cli.flat_map(|source| source.text.lines().filter_map(own)).collect();
    let unnamed = owns.iter().filter(|code| !page.contains(&format!("`{code}`")));
    let unnamed = unnamed.map(|code| format!("docs/errors.md: nothing of `{code}`, which the command line has"));
    let found =
        nothing(codes.len(), "core/src/failure.rs names no code").into_iter().chain(nothing(owns.len(), "cli has no code"));
    found.chain(told).chain(unnamed).collect()
}

/// docs/api.md names every route of the API.
pub fn routes(sources: &[Source]) -> Vec<String> {
    let page = text(sources, "docs/api.md");
    let route = |line: &str| {
        let (path, handler) = line.trim().strip_prefix(".route(\"")?.split_once("\", ")?;
        let method = match handler.split('(').next() {
            Some("post") => "POST",
            Some("delete") => "DELETE",
            _ => "GET",
        };
        Some(format!("`{method} {path}`"))
    };
    let served: Vec<String> = text(sources, "node/src/api.rs").lines().filter_map(route).collect();
    let missing = served.iter().filter(|route| !page.contains(*route));
    let told = missing.map(|route| format!("docs/api.md: does not name {route}, which node/src/api.rs serves"));
    nothing(served.len(), "node/src/api.rs serves no route").into_iter().chain(told).collect()
}

mod tests {
    use super::*;

    #[test]
    fn a_list_that_lacks_something_is_found() {
        let lib = Source::new("core/src/lib.rs", "pub mod id;\npub mod task;\n");
        let map = |text: &str| code_map(&[Source::new("ARCHITECTURE.md", text), Source::new(&lib.path, &lib.text)]).len();
        assert_eq!(map("core/ `id.rs` `task.rs`"), 0);
        assert_eq!(map("core/ `task.rs` `id.rs`"), 1);
        assert_eq!(map("core/ `id.rs`"), 1);
        assert_eq!(code_map(&[]).len() + error_codes(&[]).len() + routes(&[]).len(), 4);
        let failure = "Failure::NotFound { .. } => \"NotFound\",\nFailure::NotFound { .. } => \"check\",";
        let own = "CliError { code: \"Io\".into(), ..other }";
        let codes = |text: &str| {
            let given = [("docs/errors.md", text), ("core/src/failure.rs", failure), ("cli/src/error.rs", own)];
            error_codes(&given.map(|(path, text)| Source::new(path, text))).len()
        };
        assert_eq!(codes("|---|\n| `NotFound` | x |\n`Io` too"), 0);
        assert_eq!(codes("|---|\n| `Denied` | x |\n`Io` too"), 1);
        assert_eq!(codes("|---|\n| `NotFound` | x |"), 1);
        let api = "    .route(\"/v1/call\", post(call))";
        let served = |text: &str| routes(&[Source::new("docs/api.md", text), Source::new("node/src/api.rs", api)]).len();
        assert_eq!(served("| `POST /v1/call` |"), 0);
        assert_eq!(served("| `GET /v1/call` |"), 1);
    }
}
