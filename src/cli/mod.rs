//! The command line. Only this module prints and reads the environment.

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
pub(crate) mod value_names;
pub(crate) mod variables;

use std::{io::ErrorKind, process::ExitCode};

use clap::{CommandFactory, Parser};
use tracing_subscriber::{EnvFilter, Layer, filter, layer::SubscriberExt, util::SubscriberInitExt};

use crate::cli::commands::{conns, quota, schema, sim, specs, sync, trusted};
use crate::cli::context::CliContext;
use crate::cli::exit::{Exit, exit_of};
use crate::cli::output::{printer, safe};
use crate::cli::variables::variable;
use crate::connection::{is_access, shown_name};
use crate::error::{Error, Result};

use args::{Cli, Command, LogFormat, Shared};

/// Runs the program: reads arguments and environment, prints the results, and returns the exit code.
pub fn main() -> ExitCode {
    let cli = match Cli::try_parse() {
        Ok(cli) => cli,
        Err(error) => return finish_parsing(&error),
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

/// The error message for wrong arguments, without values that may hold a password.
fn usage_error(error: &clap::Error, arguments: &[String]) -> String {
    let access = arguments.iter().filter(|one| !one.starts_with('-') && is_access(one));
    access
        .fold(error.render().to_string(), |text, one| text.replace(one.as_str(), &shown_name(one)))
}

/// Prints the help, the version, or an error about the arguments. Only the last one is a failure.
fn finish_parsing(error: &clap::Error) -> ExitCode {
    if !error.use_stderr() {
        // A closed pipe is not an error either.
        let lost = error.print().is_err_and(|error| error.kind() != ErrorKind::BrokenPipe);
        return ExitCode::from(if lost { Exit::Failed } else { Exit::Done } as u8);
    }
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    let text = usage_error(error, &arguments);
    printer::info(text.trim_end());
    let hint = suggested_command(&arguments);
    if let Some(command) = &hint {
        printer::info(&format!("hint: {command}"));
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

/// The command that the user probably meant: a word is missing, or `-r` stands before the replication.
fn suggested_command(arguments: &[String]) -> Option<String> {
    let is_option = |names: &[&str]| arguments.iter().any(|one| names.contains(&one.as_str()));
    let mut words = arguments.iter().map(String::as_str).filter(|word| !word.starts_with('-'));
    let verb = match words.next()? {
        "sync" if is_option(&["-r", "--replication"]) => words.next()?,
        "sync" => return None,
        first => first,
    };
    match verb {
        "run" if is_option(&["--src-conn", "--src-stream", "--tgt-conn", "--tgt-object"]) => Some(
            "write source, target and streams into a file, then run: weir sync run replication.yaml"
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
            conns::run(command, cli.shared, &CliContext::read(cli.shared, &cli.env_files, None)?)
        }
        Command::Quota(command) => {
            quota::run(command, cli.shared, &CliContext::read(cli.shared, &cli.env_files, None)?)
        }
        Command::Sync(command) => {
            let replication = Some(command.replication());
            let context = CliContext::read(cli.shared, &cli.env_files, replication)?;
            sync::run(command, cli.shared, &context)
        }
        Command::Trust { file } => {
            let context = CliContext::read(cli.shared, &cli.env_files, None)?;
            trusted::run(file, cli.shared, &context)
        }
        Command::Sim(command) => sim::run(command, cli.shared),
    }
}

/// Sets up logging by `RUST_LOG`, for weir's own events only: traces of other crates show requests
/// and with them secrets.
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
    // Fails only if a subscriber is already set, which a second call would cause.
    drop(tracing_subscriber::registry().with(layer).try_init());
}
