//! The command line: the only module that prints and reads the environment.

pub(crate) mod args;
pub(crate) mod commands;
pub(crate) mod context;
pub(crate) mod exit;
pub(crate) mod open;
pub(crate) mod output;
pub(crate) mod patience;
pub(crate) mod signals;
pub mod simulated;
pub(crate) mod tokens;
pub(crate) mod trust;
pub(crate) mod variables;

use std::{io::ErrorKind, process::ExitCode};

use clap::{CommandFactory, Parser};
use tracing_subscriber::{EnvFilter, Layer, filter, layer::SubscriberExt, util::SubscriberInitExt};

use crate::cli::commands::{conns, quota, schema, sim, specs, sync, trusted};
use crate::cli::context::Surroundings;
use crate::cli::exit::{Exit, exit_of};
use crate::cli::output::{printer, safe};
use crate::cli::variables::variable;
use crate::connection::{is_access, shown_name};
use crate::error::{Error, Result};

use args::{Cli, Command, LogFormat, Shared};

/// Runs the program: reads arguments and environment, prints, and says how it ended.
pub fn main() -> ExitCode {
    let cli = match Cli::try_parse() {
        Ok(cli) => cli,
        Err(error) => return misunderstood(&error),
    };
    log_to_stderr(cli.shared);
    let mut exit = run(&cli).unwrap_or_else(|error| {
        printer::failure(cli.shared.log_format, &error);
        let exit = exit_of(&error);
        if cli.shared.json && !printer::has_printed() {
            printer::json(&printer::failed(&error, exit as u8));
        }
        exit
    });
    if let Some(error) = printer::lost() {
        printer::failure(cli.shared.log_format, &error);
        exit = Exit::Failed;
    }
    ExitCode::from(exit as u8)
}

/// What is wrong with the arguments; one that may hold a password is not repeated.
fn told(error: &clap::Error, arguments: &[String]) -> String {
    let access = arguments.iter().filter(|one| !one.starts_with('-') && is_access(one));
    access
        .fold(error.render().to_string(), |text, one| text.replace(one.as_str(), &shown_name(one)))
}

/// Prints help, or what is wrong with the arguments. Help and version are answers, not errors.
fn misunderstood(error: &clap::Error) -> ExitCode {
    if !error.use_stderr() {
        // A reader that has gone is no error either.
        let lost = error.print().is_err_and(|error| error.kind() != ErrorKind::BrokenPipe);
        return ExitCode::from(if lost { Exit::Failed } else { Exit::Done } as u8);
    }
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    let text = told(error, &arguments);
    printer::talk(text.trim_end());
    let hint = meant(&arguments);
    if let Some(command) = &hint {
        printer::talk(&format!("hint: {command}"));
    }
    if arguments.iter().any(|argument| argument == "--json") {
        let first = text.lines().next().unwrap_or_default();
        let told = Error::input(first.strip_prefix("error: ").unwrap_or(first));
        let told = match hint {
            Some(hint) => told.with_hint(hint),
            None => told,
        };
        printer::json(&printer::failed(&told, Exit::WrongInput as u8));
    }
    ExitCode::from(Exit::WrongInput as u8)
}

/// The command that somebody meant who left out a word, or put `-r` before the replication.
fn meant(arguments: &[String]) -> Option<String> {
    let is_option = |names: &[&str]| arguments.iter().any(|one| names.contains(&one.as_str()));
    let mut words = arguments.iter().map(String::as_str).filter(|word| !word.starts_with('-'));
    let verb = match words.next()? {
        "sync" if is_option(&["-r", "--replication"]) => words.next()?,
        "sync" => return None,
        first => first,
    };
    match verb {
        "run" if is_option(&["--src-conn", "--src-stream", "--tgt-conn", "--tgt-object"]) => Some(
            "write source, target and streams into a file, then: weir sync run replication.yaml"
                .to_owned(),
        ),
        "run" | "plan" | "status" | "reset" | "retry-failed" | "validate" => {
            let at = arguments.iter().position(|word| word == "-r" || word == "--replication");
            let named = at.and_then(|at| arguments.get(at + 1)).map(String::as_str);
            let file = named.or_else(|| words.next()).unwrap_or("replication.yaml");
            Some(format!("weir sync {verb} {file}"))
        }
        "list" | "set" | "unset" | "test" | "discover" => Some(format!("weir conns {verb} --help")),
        _ => None,
    }
}

fn run(cli: &Cli) -> Result<Exit> {
    match &cli.command {
        Command::Completions { shell } => {
            let mut out = Vec::new();
            clap_complete::generate(*shell, &mut Cli::command(), "weir", &mut out);
            printer::data(&String::from_utf8_lossy(&out));
            Ok(Exit::Done)
        }
        Command::Schema { kind } => {
            printer::json(&schema::of(*kind));
            Ok(Exit::Done)
        }
        Command::Spec(command) => specs::run(command, cli.shared),
        Command::Conns(command) => {
            conns::run(command, cli.shared, &Surroundings::read(cli.shared, &cli.env_files, None)?)
        }
        Command::Quota(command) => {
            quota::run(command, cli.shared, &Surroundings::read(cli.shared, &cli.env_files, None)?)
        }
        Command::Sync(command) => {
            let replication = Some(command.replication());
            let around = Surroundings::read(cli.shared, &cli.env_files, replication)?;
            sync::run(command, cli.shared, &around)
        }
        Command::Trust { file } => {
            let around = Surroundings::read(cli.shared, &cli.env_files, None)?;
            trusted::run(file, cli.shared, &around)
        }
        Command::Sim(command) => sim::run(command, cli.shared),
    }
}

/// Logs what `RUST_LOG` asks for, of weir itself only: other crates' traces show what is sent, and
/// with it secrets.
fn log_to_stderr(shared: Shared) {
    let usual = if shared.verbose { "debug" } else { "warn" };
    let directives = variable("RUST_LOG").unwrap_or_else(|| usual.to_owned());
    let own = filter::filter_fn(|metadata| metadata.target().starts_with("weir"));
    let layer = tracing_subscriber::fmt::layer().with_writer(|| safe::Log);
    let layer = match shared.log_format {
        LogFormat::Text => layer.with_ansi(printer::colours()).boxed(),
        LogFormat::Json => layer.with_ansi(false).json().boxed(),
    };
    let layer = layer.with_filter(own).with_filter(EnvFilter::new(directives));
    // A second subscriber would only come from a second call.
    drop(tracing_subscriber::registry().with(layer).try_init());
}
