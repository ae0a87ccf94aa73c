//! The commands, a file for each kind. Each is a thin reader of a node's API.

mod bitswap;
mod call;
mod content;
mod dag;
mod deploy;
mod doctor;
mod get;
mod mesh;
mod net;
mod pin;
mod place;
mod receipt;
mod repo;
mod seen;
mod routing;
pub mod serve;
mod sim;
mod top;
mod work;

use crate::args::{Args, Command, Completions, Receipt, ReceiptAction};
use crate::client::Client;
use crate::error::CliError;
use crate::paths::home;
use clap::CommandFactory;
use std::io::Write;

/// Does what was asked for.
pub fn run(args: Args) -> Result<(), CliError> {
    let command = match args.command {
        // The simulator and a replay need no folder.
        Command::Sim(sim) => return sim::sim(&sim),
        Command::Replay(args) => return sim::replay(&args),
        Command::Completions(args) => return completions(&args),
        // A file proves itself: no node is asked.
        Command::Receipt(Receipt { action: Some(ReceiptAction::Verify(verify)), .. }) => return receipt::verify(&verify),
        command => command,
    };
    let home = home(args.home)?;
    match command {
        Command::Up(up) => return serve::up(&home, &up, args.log_format, args.verbose),
        Command::Node(node) => return serve::node(&home, node),
        Command::Doctor(show) => return doctor::doctor(&home, show.output),
        _ => {}
    }
    let client = Client::connect(&home)?;
    match command {
        Command::Add(add) => content::add(&client, &add),
        Command::Cat(cat) => content::cat(&client, &cat.of),
        Command::Get(get) => get::get(&client, &get),
        Command::Ls(ls) => content::ls(&client, &ls),
        Command::Deploy(args) => deploy::deploy(&client, &args),
        Command::Run(args) => deploy::run(&client, &args),
        Command::Abi(abi) => call::abi(&client, &abi),
        Command::Call(call) => call::call(&client, &call),
        Command::Mapreduce(job) => call::mapreduce(&client, &job),
        Command::Where(args) => place::place(&client, &args),
        Command::Wait(wait) => work::wait(&client, &wait),
        Command::Cancel(cancel) => work::cancel(&client, &cancel),
        Command::Ps(show) => work::ps(&client, show.output),
        Command::Receipt(receipt) => receipt::receipt(&client, &receipt),
        Command::Lineage(lineage) => receipt::lineage(&client, &lineage),
        Command::Trace(trace) => seen::trace(&client, &trace),
        Command::Logs(logs) => seen::logs(&client, &logs),
        Command::Dag(command) => dag::dag(&client, &command),
        Command::Pin(command) => pin::pin(&client, &command),
        Command::Provide(command) => routing::provide(&client, &command),
        Command::Providers(args) => routing::providers(&client, &args),
        Command::Bitswap(command) => bitswap::bitswap(&client, &command),
        Command::Repo(command) => repo::repo(&client, &command),
        Command::Members(args) => mesh::members(&client, &args),
        Command::Id(show) => mesh::id(&client, show.output),
        Command::Net(command) => net::net(&client, &command),
        Command::Top(show) => top::top(&client, show.output),
        Command::Up(_)
        | Command::Node(_)
        | Command::Sim(_)
        | Command::Replay(_)
        | Command::Doctor(_)
        | Command::Completions(_) => Ok(()),
    }
}

/// `timerose completions`
fn completions(args: &Completions) -> Result<(), CliError> {
    let mut script = Vec::new();
    clap_complete::generate(args.shell, &mut Args::command(), "timerose", &mut script);
    std::io::stdout().lock().write_all(&script).map_err(|e| CliError::stdout(&e))
}
