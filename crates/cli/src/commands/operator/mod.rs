//! `conclave operator`: keys and members, one file for each act on the keys.

pub(super) mod debug;
mod generate_root;
mod init;
mod join_token;
mod members;
pub(super) mod people;
mod rekey;
mod rotate;
mod seals;
mod shares;
mod snapshot;
pub(super) mod top;
mod unseal;
mod upgrade;

use client::Client;

use crate::args::Operator;
use crate::ceremony;
use crate::fault::Fault;
use crate::output::Printer;

/// Runs one of them.
pub(crate) async fn run(client: &Client, printer: &Printer, command: Operator) -> Result<(), Fault> {
    match command {
        Operator::Init(args) if args.status => init::status(client, printer).await,
        Operator::Init(args) => init::run(client, printer, &args).await,
        Operator::Unseal(args) => unseal::run(client, printer, args).await,
        Operator::Seal(args) => unseal::seal(client, printer, &args).await,
        Operator::Shares(args) => shares::run(client, printer, &args).await,
        Operator::VerifyShare(args) => shares::verify(client, printer, args).await,
        Operator::ShareSheet(args) => ceremony::run(client, printer, &args).await,
        Operator::JoinToken(args) => join_token::run(client, printer, &args).await,
        Operator::Members(args) => members::run(client, printer, args.verb).await,
        Operator::Check => members::check(client, printer).await,
        Operator::StepDown => members::step_down(client, printer).await,
        Operator::Raft(verb) => members::raft(client, printer, verb).await,
        Operator::Snapshot(command) => snapshot::run(client, printer, command).await,
        Operator::Rekey(args) => rekey::run(client, printer, args).await,
        Operator::GenerateRoot(args) => generate_root::run(client, printer, args).await,
        Operator::Rotate => rotate::rotate(client, printer).await,
        Operator::KeyStatus => rotate::key_status(client, printer).await,
        Operator::Rotation(args) => rotate::rotation(client, printer, &args).await,
        Operator::Upgrade(command) => upgrade::run(client, printer, command).await,
        Operator::Seals(command) => seals::run(client, printer, command).await,
        Operator::Top(_) | Operator::Debug(_) | Operator::Rehearse(_) | Operator::Certs(_) | Operator::Journal(_) => {
            unreachable!("is run elsewhere")
        }
    }
}
