//! The rules of the house that a machine can check. Each finding says where it is and how to mend it.
//!
//! The rules are plain functions from sources to findings, in `tidy/`, each with a test that a bad sample is caught.

#[path = "tidy/documents.rs"]
mod documents;
#[path = "tidy/layers.rs"]
mod layers;
#[path = "tidy/paths.rs"]
mod paths;
#[path = "tidy/shape.rs"]
mod shape;
#[path = "tidy/source.rs"]
mod source;
#[path = "tidy/words.rs"]
mod words;

use shape::Longer;
use source::{Source, root, sources, walk};
use std::process::Command;

/// Functions that are longer than they may be, with their exact lengths. The list only ever shrinks.
const LONGER: &[Longer] = &[];

#[track_caller]
fn holds(rule: impl Fn(&[Source]) -> Vec<String>) {
    let found = rule(&sources());
    assert!(found.is_empty(), "{} findings:\n{}", found.len(), found.join("\n"));
}

#[test]
fn a_file_of_the_core_uses_only_files_above_it() {
    holds(layers::import_order);
}

#[test]
fn crates_know_only_whom_they_may() {
    holds(layers::crate_arrows);
}

#[test]
fn engines_use_only_the_vocabulary_of_the_core() {
    holds(layers::vocabulary);
}

#[test]
fn the_node_is_a_star() {
    holds(layers::star);
}

#[test]
fn modules_form_no_circle() {
    holds(layers::circles);
}

#[test]
fn every_file_is_part_of_its_crate() {
    holds(layers::dead_files);
}

#[test]
fn files_are_short() {
    holds(shape::file_length);
}

#[test]
fn functions_are_short() {
    holds(|sources| shape::function_length(sources, LONGER));
}

#[test]
fn files_open_with_their_purpose() {
    holds(shape::purpose);
}

#[test]
fn the_core_has_no_world_and_no_chance() {
    holds(words::core_purity);
}

#[test]
fn signatures_are_checked() {
    holds(words::assume);
}

#[test]
fn only_the_command_line_reads_the_environment() {
    holds(words::environment);
}

#[test]
fn nothing_is_left_unfinished() {
    holds(words::unfinished);
}

#[test]
fn nothing_names_a_registry_or_a_machine() {
    holds(words::elsewhere);
}

#[test]
fn documents_list_what_is_there() {
    holds(documents::code_map);
    holds(documents::error_codes);
    holds(documents::routes);
}

#[test]
fn the_repository_keeps_small_files_only() {
    let size = |path: String| Some((root().join(&path).symlink_metadata().ok()?.len(), path));
    let files: Vec<(String, u64)> = kept().into_iter().filter_map(size).map(|(bytes, path)| (path, bytes)).collect();
    assert!(files.iter().any(|(path, _)| path == "Cargo.toml"), "the list of files is not that of the project");
    let found = words::kept_files(&files);
    assert!(found.is_empty(), "{}", found.join("\n"));
}

/// The files that git keeps or would keep; without git, all that were not built.
fn kept() -> Vec<String> {
    let git = ["ls-files", "-z", "--cached", "--others", "--exclude-standard"];
    match Command::new("git").args(git).current_dir(root()).output() {
        Ok(listing) if listing.status.success() => {
            String::from_utf8_lossy(&listing.stdout).split_terminator('\0').map(str::to_string).collect()
        }
        _ => {
            let mut files = Vec::new();
            walk(root(), "", &mut files);
            files
        }
    }
}
