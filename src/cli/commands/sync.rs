//! `weir sync`.

use std::sync::Arc;

use serde_json::json;
use tokio_util::sync::CancellationToken;

use crate::cli::args::{
    Chosen, LogFormat, ModeName, OnBudgetName, Shared, Sync as Command, SyncRun,
};
use crate::cli::commands::prepared::{Prepared, plan, plan_for, prepare};
use crate::cli::commands::state;
use crate::cli::context::Surroundings;
use crate::cli::exit::Exit;
use crate::cli::output::progress::Progress;
use crate::cli::output::{estimate, printer, summary};
use crate::cli::patience::Patience;
use crate::cli::trust::Use;
use crate::cli::{open, signals, simulated};
use crate::error::{Error, Kind, Result};
use crate::http::exchange::Transport;
use crate::plan;
use crate::plan::{Options, Plan, Selection, StreamPlan};
use crate::quota::ledger::{CombinedLedger, Ledger};
use crate::quota::terms::OnBudget;
use crate::replication::Mode;
use crate::report::{Reporter, Silent};
use crate::run::services::Services;
use crate::sync;
use crate::sync::beginning::Beginning;
use crate::sync::report::{RunReport, RunStatus};
use crate::sync::{connection_test, owner};
use crate::write::files::LocalLedger;

pub(crate) fn run(command: &Command, shared: Shared, around: &Surroundings) -> Result<Exit> {
    match command {
        Command::Validate { replication, target } => {
            let needed = if *target { Use::Source } else { Use::Look };
            let mut prepared = prepare(replication, around, (needed, shared))?;
            if *target {
                let _told = Patience::new(shared, "the target, and what the API is asked for");
                crate::cli::exit::runtime()?.block_on(check_target(&mut prepared))?;
            }
            let plan = plan(&prepared, &Options::default())?;
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
        Command::Run(args) => run_replication(args, shared, around),
        Command::Plan(args) => foretell(args, shared, around),
        Command::RetryFailed { replication, streams } => {
            let options =
                Options { selection: Selection::of(streams)?, retry: true, ..Options::default() };
            let beginning = Beginning { retry: true, ..Beginning::now() };
            go(prepare(replication, around, (Use::All, shared))?, &options, beginning, shared)
        }
        Command::Status { replication } => {
            state::status(&prepare(replication, around, (Use::Target, shared))?, shared)
        }
        Command::Reset { replication, streams, yes } => {
            let selection = Selection::of(streams)?;
            let prepared = prepare(replication, around, (Use::Target, shared))?;
            state::reset(&prepared, &selection, *yes, shared)
        }
    }
}

/// Checks that the target can be written, and that a run may write its tables.
async fn check_target(prepared: &mut Prepared) -> Result<()> {
    // The base URL, by which a source is known, may have a part that is looked up.
    let transport = open::transport(&prepared.source, &prepared.spec)?;
    connection_test::look_up(&prepared.spec, &mut prepared.fields, transport.as_ref()).await?;
    let plan = plan(prepared, &Options::default())?;
    prepared.target.check().await?;
    owner::check_tables(&plan, prepared.target(), prepared.store()?.as_ref()).await
}

fn run_replication(args: &SyncRun, shared: Shared, around: &Surroundings) -> Result<Exit> {
    let needed = if args.dry_run { Use::Look } else { Use::All };
    let prepared = prepare(&args.chosen.replication, around, (needed, shared))?;
    let options = Options {
        limit: args.limit,
        max_points: args.max_points,
        on_budget: args.on_budget.map(|what| match what {
            OnBudgetName::Wait => OnBudget::Wait,
            OnBudgetName::Pause => OnBudget::Pause,
        }),
        ..chosen(&args.chosen)?
    };
    if args.dry_run {
        show(&plan(&prepared, &options)?, shared);
        return Ok(Exit::Done);
    }
    if let Some(limit) = args.limit {
        let rows = printer::counted(limit, "row");
        printer::note(
            shared,
            &format!(
                "--limit: each stream ends after {rows}, in a table or file of its own, `…__sample`"
            ),
        );
    }
    let beginning = Beginning {
        fresh: args.fresh,
        adopt: args.adopt,
        wait: args.wait.unwrap_or_default(),
        ..Beginning::now()
    };
    go(prepared, &options, beginning, shared)
}

/// Whether nothing failed but what another run is writing.
fn is_busy(report: &RunReport) -> bool {
    let mut failed = report.streams.iter().filter(|stream| stream.error.is_some());
    failed.clone().next().is_some() && failed.all(|stream| stream.kind == Some(Kind::Busy))
}

/// What the command line says of what is read.
fn chosen(args: &Chosen) -> Result<Options> {
    let mode = args.mode.map(mode_of);
    if args.range.is_some() && mode != Some(Mode::Backfill) {
        return Err(Error::input("`--range` goes with `--mode backfill`"));
    }
    Ok(Options {
        selection: Selection::of(&args.streams)?,
        mode,
        range: args.range.clone(),
        routes: args.routes.clone(),
        ..Options::default()
    })
}

/// Says what a run would do now.
fn foretell(args: &Chosen, shared: Shared, around: &Surroundings) -> Result<Exit> {
    let mut prepared = prepare(&args.replication, around, (Use::All, shared))?;
    let options = chosen(args)?;
    let transport = open::transport(&prepared.source, &prepared.spec)?;
    let told = Patience::new(shared, "answers of the API, and of the target");
    let forecast = crate::cli::exit::runtime()?.block_on(async {
        // What a run looks up first decides what it takes for read.
        connection_test::look_up(&prepared.spec, &mut prepared.fields, transport.as_ref()).await?;
        let services = Services {
            transport,
            target: Arc::clone(&prepared.target),
            state: prepared.state.clone(),
            ledger: ledger_to_read(&prepared),
            reporter: Arc::new(Silent),
            cancel: CancellationToken::new(),
        };
        let prepare = |run| plan_for(&prepared, &options, run);
        sync::forecast(&prepare, &services, Beginning::now()).await
    });
    drop(told);
    estimate::show(&forecast?, shared);
    Ok(Exit::Done)
}

fn mode_of(name: ModeName) -> Mode {
    match name {
        ModeName::FullRefresh => Mode::FullRefresh,
        ModeName::Truncate => Mode::Truncate,
        ModeName::Snapshot => Mode::Snapshot,
        ModeName::Incremental => Mode::Incremental,
        ModeName::Backfill => Mode::Backfill,
        ModeName::DefinitionOnly => Mode::DefinitionOnly,
    }
}

fn go(
    mut prepared: Prepared,
    options: &Options,
    beginning: Beginning,
    shared: Shared,
) -> Result<Exit> {
    let transport = open::transport(&prepared.source, &prepared.spec)?;
    let runtime = crate::cli::exit::runtime()?;
    let progress = Arc::new(Progress::new(shared, prepared.head()));
    let ended = runtime.block_on(async {
        connection_test::look_up(&prepared.spec, &mut prepared.fields, transport.as_ref()).await?;
        execute((&prepared, &progress), options, beginning, transport, shared).await
    });
    progress.close();
    ended
}

async fn execute(
    (prepared, progress): (&Prepared, &Arc<Progress>),
    options: &Options,
    beginning: Beginning,
    transport: Arc<dyn Transport>,
    shared: Shared,
) -> Result<Exit> {
    let (target, state) = (Arc::clone(&prepared.target), prepared.state.clone());
    let cancel = CancellationToken::new();
    let reporter: Arc<dyn Reporter> = Arc::clone(progress) as Arc<dyn Reporter>;
    let stopped = tokio::spawn(signals::stop_on_signal(cancel.clone(), Arc::clone(progress)));
    let ledger = ledger(prepared, options, shared)?;
    let services = Services { transport, target, state, ledger, reporter, cancel };
    let report = sync::run(&|run| plan_for(prepared, options, run), services, beginning).await?;
    progress.close();
    conclude(prepared.name(), &report, shared);
    let speaks = !shared.quiet && !shared.json && shared.log_format == LogFormat::Text;
    let from_simulator = prepared.source.simulate.is_some() && speaks;
    if let Some(step) = simulated::next_step(&report.streams).filter(|_| from_simulator) {
        printer::talk(&step);
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

/// Where points are counted, for a run whose connection counts any.
fn ledger(
    prepared: &Prepared,
    options: &Options,
    shared: Shared,
) -> Result<Option<Arc<dyn Ledger>>> {
    if plan(prepared, options)?.quota.is_none() || prepared.source.simulate.is_some() {
        return Ok(None);
    }
    let mut ledgers = prepared.ledgers.clone();
    let unseen = |why: &str| {
        let what = "points that other runs of this machine spend are not seen";
        printer::note(shared, &format!("{what}: {why}"));
    };
    match prepared.home.as_ref().map(LocalLedger::new) {
        None => unseen("neither WEIR_HOME nor an absolute HOME is set"),
        Some(local) => match local.check() {
            Ok(()) => ledgers.push(Arc::new(local)),
            Err(error) => unseen(&error.chain()),
        },
    }
    Ok(Some(Arc::new(CombinedLedger(ledgers))))
}

/// Where points were counted, as far as anybody did.
fn ledger_to_read(prepared: &Prepared) -> Option<Arc<dyn Ledger>> {
    let local = prepared.home.as_ref().map(LocalLedger::new);
    let local = local.map(|local| Arc::new(local) as Arc<dyn Ledger>);
    let all = prepared.ledgers.iter().cloned().chain(local).collect();
    prepared.source.simulate.is_none().then(|| Arc::new(CombinedLedger(all)) as Arc<dyn Ledger>)
}

/// Tells what a run came to; a quiet one tells only what went wrong.
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
            let told = json!({
                "event": "run_finished",
                "status": status,
                "seconds": seconds,
                "streams": streams,
                "planned": planned,
                "points": points,
                "notices": report.notices,
                "refused": errors.len(),
            });
            printer::event(level, &told);
        }
        LogFormat::Text if shared.quiet => {
            let mut notes = summary::warnings(report);
            notes.extend(summary::notes(report));
            if !notes.is_empty() {
                printer::talk(&notes.join("\n"));
            }
        }
        LogFormat::Text if shared.json => {}
        LogFormat::Text => {
            printer::talk(&summary::summary(report, printer::columns(&std::io::stderr())));
        }
    }
}

/// A report whose errors tell, besides the refused slices, why streams failed: each reason once.
fn with_failures(report: &RunReport) -> serde_json::Value {
    let mut told = serde_json::to_value(report).unwrap_or_default();
    let Some(errors) = told.get_mut("errors").and_then(|errors| errors.as_array_mut()) else {
        return told;
    };
    for (error, hint, streams) in summary::reasons(&report.streams) {
        errors.push(json!({ "streams": streams, "message": error, "hint": hint }));
    }
    told
}

/// Shows a plan.
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

/// Queues that a stream consumes.
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
