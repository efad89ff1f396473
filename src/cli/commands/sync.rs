//! `weir sync`.

use std::sync::Arc;

use serde_json::json;
use tokio_util::sync::CancellationToken;

use crate::cli::args::{Chosen, LogFormat, Shared, Sync as Command, SyncRun};
use crate::cli::commands::loaded::{LoadedReplication, load, plan, plan_for};
use crate::cli::commands::state;
use crate::cli::context::CliContext;
use crate::cli::exit::Exit;
use crate::cli::output::progress::ProgressReporter;
use crate::cli::output::{estimate, printer, summary};
use crate::cli::patience::Patience;
use crate::cli::trust::Use;
use crate::cli::{open, signals, simulated};
use crate::error::{Error, Kind, Result};
use crate::http::exchange::Transport;
use crate::plan;
use crate::plan::{Plan, PlanOptions, Selection, StreamPlan};
use crate::quota::ledger::{CombinedLedger, Ledger};
use crate::replication::Mode;
use crate::report::{Reporter, Silent};
use crate::run::services::Services;
use crate::sync;
use crate::sync::report::{RunReport, RunStatus};
use crate::sync::run_options::RunOptions;
use crate::sync::{connection_test, owner};
use crate::write::files::LocalLedger;

pub(crate) fn run(command: &Command, shared: Shared, context: &CliContext) -> Result<Exit> {
    match command {
        Command::Validate { replication, target } => {
            let needed = if *target { Use::Source } else { Use::Look };
            let mut loaded = load(replication, context, needed, shared)?;
            if *target {
                let _patience = Patience::new(shared, "responses from the target and the API");
                crate::cli::exit::runtime()?.block_on(check_target(&mut loaded))?;
            }
            let plan = plan(&loaded, &PlanOptions::default())?;
            let count = plan.streams.iter().filter(|stream| stream.output.is_some()).count() as u64;
            if shared.json {
                printer::json(&json!({ "valid": true, "streams": count }));
            } else {
                printer::data(&format!(
                    "{}: valid, {}",
                    replication.display(),
                    printer::counted(count, "stream")
                ));
            }
            Ok(Exit::Done)
        }
        Command::Run(args) => run_replication(args, shared, context),
        Command::Plan(args) => show_estimate(args, shared, context),
        Command::RetryFailed { replication, streams } => {
            let options = PlanOptions {
                selection: Selection::of(streams)?,
                retry: true,
                ..PlanOptions::default()
            };
            let run_options = RunOptions { retry: true, ..RunOptions::now() };
            let loaded = load(replication, context, Use::All, shared)?;
            execute(loaded, &Invocation { options, run_options, shared })
        }
        Command::Status { replication } => {
            state::status(&load(replication, context, Use::Target, shared)?, shared)
        }
        Command::Reset { replication, streams, yes } => {
            let selection = Selection::of(streams)?;
            let loaded = load(replication, context, Use::Target, shared)?;
            state::reset(&loaded, &selection, *yes, shared)
        }
    }
}

/// Checks that the target is writable, and that a run may write its tables.
async fn check_target(loaded: &mut LoadedReplication) -> Result<()> {
    // The base URL identifies the source and may contain a looked-up field.
    let transport = open::transport(&loaded.source, &loaded.spec)?;
    connection_test::look_up(&loaded.spec, &mut loaded.fields, transport.as_ref()).await?;
    let plan = plan(loaded, &PlanOptions::default())?;
    loaded.target.check().await?;
    owner::check_tables(&plan, loaded.target(), loaded.store()?.as_ref()).await
}

fn run_replication(args: &SyncRun, shared: Shared, context: &CliContext) -> Result<Exit> {
    let needed = if args.dry_run { Use::Look } else { Use::All };
    let loaded = load(&args.chosen.replication, context, needed, shared)?;
    let options = PlanOptions {
        limit: args.limit,
        max_points: args.max_points,
        on_budget: args.on_budget,
        ..chosen(&args.chosen)?
    };
    if args.dry_run {
        show(&plan(&loaded, &options)?, shared);
        return Ok(Exit::Done);
    }
    if let Some(limit) = args.limit {
        let rows = printer::counted(limit, "row");
        printer::note(
            shared,
            &format!(
                "--limit: reads at most {rows} per stream, into separate tables or files, `…__sample`"
            ),
        );
    }
    let run_options = RunOptions {
        fresh: args.fresh,
        adopt: args.adopt,
        wait: args.wait.unwrap_or_default(),
        ..RunOptions::now()
    };
    execute(loaded, &Invocation { options, run_options, shared })
}

/// Whether all failed streams failed because another run is writing their tables.
fn is_busy(report: &RunReport) -> bool {
    let mut failed = report.streams.iter().filter(|stream| stream.error.is_some());
    failed.clone().next().is_some() && failed.all(|stream| stream.kind == Some(Kind::Busy))
}

/// The plan options from the command line.
fn chosen(args: &Chosen) -> Result<PlanOptions> {
    if args.range.is_some() && args.mode != Some(Mode::Backfill) {
        return Err(Error::input("`--range` requires `--mode backfill`"));
    }
    Ok(PlanOptions {
        selection: Selection::of(&args.streams)?,
        mode: args.mode,
        range: args.range.clone(),
        routes: args.routes.clone(),
        ..PlanOptions::default()
    })
}

/// Prints the plan of the next run with its estimated cost.
fn show_estimate(args: &Chosen, shared: Shared, context: &CliContext) -> Result<Exit> {
    let mut loaded = load(&args.replication, context, Use::All, shared)?;
    let options = chosen(args)?;
    let transport = open::transport(&loaded.source, &loaded.spec)?;
    let patience = Patience::new(shared, "responses from the API and the target");
    let report = crate::cli::exit::runtime()?.block_on(async {
        // Looked-up fields identify the source, and with it the saved state.
        connection_test::look_up(&loaded.spec, &mut loaded.fields, transport.as_ref()).await?;
        let services = Services {
            transport,
            target: Arc::clone(&loaded.target),
            state: loaded.state.clone(),
            ledger: ledger_to_read(&loaded),
            reporter: Arc::new(Silent),
            cancel: CancellationToken::new(),
        };
        let prepare = |run| plan_for(&loaded, &options, run);
        sync::estimate_run(&prepare, &services, RunOptions::now()).await
    });
    drop(patience);
    estimate::show(&report?, shared);
    Ok(Exit::Done)
}

/// What the command line requests of a run.
struct Invocation {
    options: PlanOptions,
    run_options: RunOptions,
    shared: Shared,
}

/// Runs a replication and prints its result.
fn execute(mut loaded: LoadedReplication, invocation: &Invocation) -> Result<Exit> {
    let transport = open::transport(&loaded.source, &loaded.spec)?;
    let runtime = crate::cli::exit::runtime()?;
    let progress = Arc::new(ProgressReporter::new(invocation.shared, loaded.head()));
    let ended = runtime.block_on(async {
        connection_test::look_up(&loaded.spec, &mut loaded.fields, transport.as_ref()).await?;
        run_streams(&loaded, invocation, &progress, transport).await
    });
    progress.close();
    ended
}

/// Runs the streams of a replication until they end or a signal stops them.
async fn run_streams(
    loaded: &LoadedReplication,
    invocation: &Invocation,
    progress: &Arc<ProgressReporter>,
    transport: Arc<dyn Transport>,
) -> Result<Exit> {
    let Invocation { options, run_options, shared } = invocation;
    let (target, state) = (Arc::clone(&loaded.target), loaded.state.clone());
    let cancel = CancellationToken::new();
    let reporter: Arc<dyn Reporter> = Arc::clone(progress) as Arc<dyn Reporter>;
    let stopped = tokio::spawn(signals::stop_on_signal(cancel.clone(), Arc::clone(progress)));
    let ledger = ledger(loaded, options, *shared)?;
    let services = Services { transport, target, state, ledger, reporter, cancel };
    let report = sync::run(&|run| plan_for(loaded, options, run), services, *run_options).await?;
    progress.close();
    conclude(loaded.name(), &report, *shared);
    let speaks = !shared.quiet && !shared.json && shared.log_format == LogFormat::Text;
    let from_simulator = loaded.source.simulate.is_some() && speaks;
    if let Some(step) = simulated::next_step(&report.streams).filter(|_| from_simulator) {
        printer::info(&step);
    }
    Ok(match report.status {
        RunStatus::Done => Exit::Done,
        RunStatus::DoneWithErrors => Exit::DoneWithErrors,
        RunStatus::Failed if is_busy(&report) => Exit::Busy,
        RunStatus::Failed => Exit::Failed,
        RunStatus::Paused => Exit::Paused,
        RunStatus::Interrupted if stopped.is_finished() => {
            stopped.await.unwrap_or(Exit::Interrupted)
        }
        RunStatus::Interrupted => Exit::Interrupted,
    })
}

/// The ledger of a run whose connection has a points quota.
fn ledger(
    loaded: &LoadedReplication,
    options: &PlanOptions,
    shared: Shared,
) -> Result<Option<Arc<dyn Ledger>>> {
    if plan(loaded, options)?.quota.is_none() || loaded.source.simulate.is_some() {
        return Ok(None);
    }
    let mut ledgers = loaded.ledgers.clone();
    let unseen = |why: &str| {
        let what = "points spent by other runs on this machine are not counted";
        printer::note(shared, &format!("{what}: {why}"));
    };
    match loaded.home.as_ref().map(LocalLedger::new) {
        None => unseen("neither WEIR_HOME nor an absolute HOME is set"),
        Some(local) => match local.check() {
            Ok(()) => ledgers.push(Arc::new(local)),
            Err(error) => unseen(&error.chain()),
        },
    }
    Ok(Some(Arc::new(CombinedLedger(ledgers))))
}

/// The ledger to read spent points from.
fn ledger_to_read(loaded: &LoadedReplication) -> Option<Arc<dyn Ledger>> {
    let local = loaded.home.as_ref().map(LocalLedger::new);
    let local = local.map(|local| Arc::new(local) as Arc<dyn Ledger>);
    let all = loaded.ledgers.iter().cloned().chain(local).collect();
    loaded.source.simulate.is_none().then(|| Arc::new(CombinedLedger(all)) as Arc<dyn Ledger>)
}

/// Prints the result of a run; with `--quiet`, only problems.
fn conclude(replication: &str, report: &RunReport, shared: Shared) {
    if shared.json {
        printer::json(&with_failures(report));
    }
    match shared.log_format {
        LogFormat::Json => {
            let RunReport { run_id, status, seconds, streams, planned, points, errors, .. } =
                report;
            let level = match status {
                RunStatus::Done => "INFO",
                RunStatus::Failed => "ERROR",
                _ => "WARN",
            };
            printer::about(replication, Some(run_id));
            let line = json!({
                "event": "run_finished",
                "status": status,
                "seconds": seconds,
                "streams": streams,
                "planned": planned,
                "points": points,
                "notices": report.notices,
                "refused": errors.len(),
            });
            printer::event(level, &line);
        }
        LogFormat::Text if shared.quiet => {
            let mut notes = summary::warnings(report);
            notes.extend(summary::notes(report));
            if !notes.is_empty() {
                printer::info(&notes.join("\n"));
            }
        }
        LogFormat::Text if shared.json => {}
        LogFormat::Text => {
            printer::info(&summary::summary(report, printer::columns(&std::io::stderr())));
        }
    }
}

/// The report as JSON. Its errors contain the refused slices and, once each, the reasons for failed
/// streams.
fn with_failures(report: &RunReport) -> serde_json::Value {
    let mut json = serde_json::to_value(report).expect("a report has only string keys");
    let errors = json.get_mut("errors").and_then(|errors| errors.as_array_mut());
    let errors = errors.expect("a report has a list of errors");
    for (error, hint, streams) in summary::reasons(&report.streams) {
        errors.push(json!({ "streams": streams, "message": error, "hint": hint }));
    }
    json
}

/// Prints a plan without an estimate.
fn show(plan: &Plan, shared: Shared) {
    if shared.json {
        let streams = plan.streams.iter().map(|stream| described(stream, plan));
        let definitions = plan.definitions.iter().map(|table| {
            json!({
                "stream": table.stream,
                "feeder": false,
                "mode": Mode::DefinitionOnly,
                "object": table.object,
                "columns": table.schema.columns,
                "key": table.schema.key,
            })
        });
        printer::json(&streams.chain(definitions).collect::<Vec<_>>());
        return;
    }
    let mut rows =
        vec![["stream", "after", "mode", "columns", "object"].map(str::to_owned).to_vec()];
    for stream in &plan.streams {
        let (mode, columns, object) = match &stream.output {
            Some(output) => (
                mode_name(output.mode),
                output.columns.len().to_string(),
                output.table.object.clone(),
            ),
            None => ("feeds only".to_owned(), String::new(), String::new()),
        };
        rows.push(vec![
            stream.name.clone(),
            waits_for(stream, plan).join(", "),
            mode,
            columns,
            object,
        ]);
    }
    rows.extend(plan.definitions.iter().map(|table| {
        let columns = table.schema.columns.len().to_string();
        let mode = mode_name(Mode::DefinitionOnly);
        vec![table.stream.clone(), String::new(), mode, columns, table.object.clone()]
    }));
    printer::data(&printer::table(&rows, &[3]));
    for stream in &plan.streams {
        for note in &stream.notes {
            printer::note(shared, &format!("{}: {note}", stream.name));
        }
    }
}

fn mode_name(mode: crate::replication::Mode) -> String {
    serde_json::to_value(mode)
        .ok()
        .and_then(|name| name.as_str().map(str::to_owned))
        .unwrap_or_default()
}

/// The queues that a stream consumes.
fn waits_for(stream: &StreamPlan, plan: &Plan) -> Vec<String> {
    let mut queues: Vec<String> = stream
        .own_requests()
        .iter()
        .filter_map(|request| match request.iterate {
            plan::Iterate::Queue { queue, .. } => {
                plan.queues.get(queue).map(|queue| queue.name.clone())
            }
            _ => None,
        })
        .collect();
    queues.dedup();
    queues
}

fn described(stream: &StreamPlan, plan: &Plan) -> serde_json::Value {
    json!({
        "stream": stream.name,
        "queues": waits_for(stream, plan),
        "feeder": stream.output.is_none(),
        "mode": stream.output.as_ref().map(|output| output.mode),
        "object": stream.output.as_ref().map(|output| &output.table.object),
        "columns": stream.output.as_ref().map(|output| &output.table.schema.columns),
        "key": stream.output.as_ref().map(|output| &output.table.schema.key),
        "notes": stream.notes,
    })
}
