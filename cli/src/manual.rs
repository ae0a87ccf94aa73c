//! The manual, `docs/cli.md`: a snapshot of what `--help` says, so that it cannot go stale.

use clap::CommandFactory;
use expect_test::expect_file;

use crate::args::Args;

#[test]
fn the_manual_is_what_help_says() {
    let mut program = Args::command().term_width(100);
    program.build();
    let mut manual = String::from("# The command line\n\nMade from `timerose --help`; a test keeps it true.\n");
    let mut add = |name: &str, command: &mut clap::Command| {
        manual.push_str(&format!("\n## `{name}`\n\n```text\n{}\n```\n", command.render_long_help().to_string().trim_end()));
    };
    add("timerose", &mut program.clone());
    for command in program.get_subcommands_mut() {
        let name = format!("timerose {}", command.get_name());
        add(&name, command);
        for below in command.get_subcommands_mut().filter(|below| below.get_name() != "help") {
            add(&format!("{name} {}", below.get_name()), below);
        }
    }
    let manual = manual.lines().map(str::trim_end).collect::<Vec<_>>().join("\n") + "\n";
    expect_file!["../../docs/cli.md"].assert_eq(&manual);
}
