//! The commands, a file for each kind. Each is a thin reader of a node's API.

mod call;
mod content;
mod dag;
mod deploy;
mod get;
mod mesh;
mod pin;
mod place;
mod receipt;
mod repo;
pub mod serve;
mod sim;
mod work;

use crate::args::{Args, Command, Receipt, ReceiptAction};
use crate::client::Client;
use crate::error::CliError;
use crate::paths::home;

/// Does what was asked for.
pub fn run(args: Args) -> Result<(), CliError> {
    let command = match args.command {
        // The simulator and a replay need no folder.
        Command::Sim(sim) => return sim::sim(&sim),
        Command::Replay(args) => return sim::replay(&args),
        // A file proves itself: no node is asked.
        Command::Receipt(Receipt { action: Some(ReceiptAction::Verify(verify)), .. }) => return receipt::verify(&verify),
        command => command,
    };
    let home = home(args.home)?;
    match command {
        Command::Up(up) => return serve::up(&home, &up),
        Command::Node(node) => return serve::node(&home, node),
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
        Command::Dag(command) => dag::dag(&client, &command),
        Command::Pin(command) => pin::pin(&client, &command),
        Command::Repo(command) => repo::repo(&client, &command),
        Command::Members(show) => mesh::members(&client, show.output),
        Command::Id(show) => mesh::id(&client, show.output),
        Command::Up(_) | Command::Node(_) | Command::Sim(_) | Command::Replay(_) => Ok(()),
    }
}
